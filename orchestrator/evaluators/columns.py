"""Columns of a table as their names tell them: which way is better, and in which unit they count."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Literal

from orchestrator.errors import InputError

Mode = Literal["max", "min"]

HIGHER = frozenset((
    "accuracy", "accuracies", "acc", "prec", "top", "correct", "f1", "fscore", "fmeasure", "auc", "auroc", "auprc", "aucpr",
    "rocauc", "roc", "map", "ap", "mar", "iou", "miou", "jaccard", "dice", "precision", "recall", "sensitivity",
    "specificity", "kappa", "mcc", "psnr", "ssim", "bleu", "rouge", "meteor", "ndcg", "mrr", "r2", "throughput", "fps",
    "bandwidth", "speed", "speedup", "efficiency", "utilization", "utilisation", "reward", "likelihood",
))  # fmt: skip
"""Words of metrics of which more is better."""
ERRORS = frozenset((
    "error", "errors", "err", "misclassification", "loss", "losses", "nll", "wer", "cer", "eer", "perplexity", "ppl",
    "mse", "rmse", "mae", "mape", "rmsle", "fid", "lpips", "bpd", "bpc", "brier", "ece", "regret", "drop",
    "gap", "degradation", "deviation",
    "std", "stdev", "variance", "var",
))  # fmt: skip
"""Words of metrics of which less is better; beside a word of `HIGHER`, as in top1_error, they decide."""
COSTS = frozenset((
    "parameters", "parameter", "params", "param", "weights", "flops", "flop", "macs", "mac", "macc", "maccs", "madds",
    "madd", "multadds", "operations", "latency", "latencies", "delay", "energy", "power", "memory", "mem", "ram", "vram",
    "rss", "size", "storage", "bytes", "kb", "mb", "gb", "kib", "mib", "gib", "time", "duration", "runtime", "seconds",
    "second", "secs", "sec", "hours", "hour", "minutes", "milliseconds", "microseconds", "ms", "us", "ns", "cycles",
    "joules", "joule", "mj", "uj", "watts", "watt", "cost", "costs", "price", "area",
))  # fmt: skip
"""Words of costs."""
_REVERSED = frozenset(("neg", "negative", "minus", "inv", "inverse", "reciprocal"))
"""Words that turn a direction round, or may not."""
_ENDS = (
    *((end, HIGHER) for end in ("accuracy", "acc")),
    *((end, ERRORS) for end in ("error", "loss")),
    *((end, COSTS) for end in ("params", "parameters", "flops", "macs", "madds", "latency", "energy", "memory")),
)
"""Ends of words that are written together, as in valacc and mflops."""
_UNBOUNDED = frozenset(("psnr", "throughput", "fps", "bandwidth", "speed", "speedup", "reward", "likelihood"))
BOUNDED = HIGHER - _UNBOUNDED | frozenset(("error", "errors", "err", "misclassification", "wer", "cer", "eer"))
"""Words of metrics that are shares of 1, in percent or as fractions."""

_MILLI = {"m": 1.0, "u": 1e-3, "µ": 1e-3, "μ": 1e-3, "n": 1e-6, "": 1e3}
_WORDS = {"m": "milli", "u": "micro", "n": "nano", "": ""}


def _units(short: Sequence[str], long: str) -> dict[str, float]:
    """Return what each way to write a unit is multiplied by for thousandths of it."""
    factors = {prefix + unit: f for prefix, f in _MILLI.items() for unit in short}
    return factors | {prefix + long + end: _MILLI[key] for key, prefix in _WORDS.items() for end in ("", "s")}


FACTORS = {"latency": _units(("s", "sec", "secs"), "second"), "energy": _units(("j",), "joule")}
"""Factors from a unit, as names have it, to a device profile's: milliseconds and millijoules."""


def direction(column: str) -> Mode | None:
    """Tell whether a column is to be as high or as low as possible; None where its name does not say, or says both."""
    found = words(column)
    if _REVERSED & set(found) or re.match(r"\s*1(\.0|00)?\s*-", column):
        return None
    if re.search(r"(?:\bper|/) *(?:s|sec|secs|seconds?|minutes?|hours?)\b", column.replace("_", " "), re.IGNORECASE):
        return "max"  # images per second, whatever is counted
    known = [kind for kind in (HIGHER, ERRORS, COSTS) if any(_is(word, kind) for word in found)]
    if ERRORS in known:
        return "min"
    if len(known) != 1:
        return None
    return "max" if known == [HIGHER] else "min"


def disagrees(column: str, maximised: bool) -> bool:
    """Tell whether a column is not taken as its name says, so that it has to be said what it is taken for."""
    return direction(column) != ("max" if maximised else "min")


def modes_of_options(maximize: Sequence[str], minimize: Sequence[str]) -> dict[str, Mode]:
    """Return the mode of each column that --maximize or --minimize names. Raises InputError for one that both name."""
    if both := sorted(set(maximize) & set(minimize)):
        raise InputError(f"--maximize {both[0]} and --minimize {both[0]} contradict each other; leave one out")
    return {**dict.fromkeys(maximize, "max"), **dict.fromkeys(minimize, "min")}


def is_share(column: str) -> bool:
    """Tell whether a column is a share, which some tools write in percent and others as a fraction of 1."""
    found = words(column)
    return not any(word in ERRORS - BOUNDED for word in found) and any(
        word in BOUNDED or word.endswith(("accuracy", "acc", "error")) for word in found
    )


def factor(column: str, cost: str) -> float | None:
    """Return what a column of a `latency` or `energy` is multiplied by for milliseconds or millijoules; None without a unit."""
    units = FACTORS[cost]
    in_brackets = re.findall(r"[\[(]\s*([A-Za-zµμ]+)\s*[\])]", column)
    written = [word for word in re.split(r"[^A-Za-zµμ]+", column) if word]
    # A lone letter in the middle of a name may be anything; in brackets or at the end it is meant.
    candidates = [*in_brackets, *written[-1:], *(word for word in written if len(word) > 1)]
    return next((units[word.lower()] for word in candidates if word.lower() in units), None)


def words(column: str) -> list[str]:
    """Split a name into words, in lower case: at signs and digits, and at capitals, as in valAcc."""
    found = []
    for chunk in re.split(r"[^0-9A-Za-z]+", column):
        parts = re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+", chunk)
        lower = chunk.lower()
        found += [*map(str.lower, parts), lower, lower.rstrip("0123456789")]
        found += [a.lower() + b for a, b in itertools.pairwise(parts) if b.isdigit()]  # f1 of valF1
    return list(dict.fromkeys(filter(None, found)))


def _is(word: str, kind: frozenset[str]) -> bool:
    if any(word in known for known in (HIGHER, ERRORS, COSTS)):
        return word in kind
    return any(of is kind and word.endswith(end) for end, of in _ENDS)
