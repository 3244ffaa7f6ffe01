"""Names of columns as tools write them: which way is better, what is a share of 1, and units."""

import pytest

from orchestrator.errors import InputError
from orchestrator.evaluators.columns import direction, factor, is_share, modes_of_options

HIGHER = (
    "valid_accuracy", "acc", "Accuracy", "Val_Acc", "valAcc", "valacc", "top1", "acc5", "Top-1 Acc (%)", "accuracy (%)",
    "prec1", "cifar10_val_accuracy", "f1", "macro_F1", "f1-score", "valF1", "auc", "ROC-AUC", "mAP", "mAP@0.5", "mAP50", "psnr",
    "PSNR (dB)", "miou", "mIoU", "recall@1", "BLEU-4", "throughput", "images_per_second", "img/s",
)  # fmt: skip
LOWER = (
    "loss", "val_loss", "error", "misclassification_rate", "top1_error", "f1_loss", "accuracy_drop", "wer", "perplexity",
    "FID", "test_mae",
    "valid_deviation", "params", "#Params", "Params (M)", "parameters", "macs", "MACCs", "GMACs", "mflops", "latency",
    "latency_ms_1080ti_1", "raspi4_latency", "energy", "edgegpu_energy", "memory", "model size (MB)", "train_seconds",
    "step_time", "ms",
)  # fmt: skip
UNKNOWN = (
    "score", "naswot", "depth", "quality", "rank", "map_size", "time_to_accuracy", "memory_bandwidth",
    "neg_mean_squared_error", "100-acc", "1 - top1", "inverse_accuracy", "class", "x",
)  # fmt: skip


@pytest.mark.parametrize(
    ("names", "mode"), [(HIGHER, "max"), (LOWER, "min"), (UNKNOWN, None)], ids=["higher", "lower", "unknown"]
)
def test_a_name_says_which_way_is_better_or_does_not(names: tuple[str, ...], mode: str | None) -> None:
    assert {name: direction(name) for name in names} == dict.fromkeys(names, mode)


def test_shares_of_one_are_known() -> None:
    shares, others = ("acc", "valacc", "mIoU", "top1_error", "wer", "F1"), ("psnr", "val_loss", "rmse", "params", "latency_ms")
    assert all(map(is_share, shares)) and not any(map(is_share, others))


@pytest.mark.parametrize(
    ("column", "cost", "expected"),
    [
        ("latency_ms", "latency", 1.0),
        ("latency_s", "latency", 1e3),
        ("Latency (s)", "latency", 1e3),
        ("time [us]", "latency", 1e-3),
        ("latency_µs", "latency", 1e-3),
        ("latency_ns", "latency", 1e-6),
        ("train_seconds", "latency", 1e3),
        ("latency_ms_1080ti_1", "latency", 1.0),
        ("latency_microseconds", "latency", 1e-3),
        ("galaxy_s_latency", "latency", None),
        ("latency", "latency", None),
        ("energy_mJ", "energy", 1.0),
        ("Energy (J)", "energy", 1e3),
        ("energy_uj", "energy", 1e-3),
    ],
)
def test_units_in_names(column: str, cost: str, expected: float | None) -> None:
    assert factor(column, cost) == expected


def test_options_that_contradict_each_other() -> None:
    assert modes_of_options(["a"], ["b"]) == {"a": "max", "b": "min"}
    with pytest.raises(InputError, match="--maximize a and --minimize a"):
        modes_of_options(["a"], ["a"])
