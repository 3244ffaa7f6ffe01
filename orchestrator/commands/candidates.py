"""Words that a shell's completion offers for arguments and options. Nothing heavy is imported here, nor any code of users."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem

Candidates = Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]
"""Values that an argument or option can have, given the command line so far and the beginning of the word."""
OPEN = "open"
"""Type of a candidate that is only the beginning of a word."""
_WHOLE = {"seed": "=", "task": ".=", "proxy": ".=", "objectives": ".="}
"""Ends of the sections and keys that are, or can be, given by one value."""
PATHS = ("path", "root", "teacher", "file")
"""Keys whose values are paths."""


def whole(words: Iterable[str] | dict[str, str], incomplete: str) -> list[CompletionItem[str]]:
    """Offer those of `words` that begin as the incomplete one does, with a description where there is one."""
    described = words if isinstance(words, dict) else dict.fromkeys(words, "")
    return [CompletionItem(word, help=text or None) for word, text in described.items() if word.startswith(incomplete)]


def begun(words: Iterable[str], incomplete: str) -> list[CompletionItem[str]]:
    """Offer beginnings of words, after which no space is put; what ends with `{}` is whole."""
    return [
        CompletionItem(word, type="plain" if word.endswith("{}") else OPEN) for word in words if word.startswith(incomplete)
    ]


def names(*kinds: str) -> Candidates:
    """Offer names of components of some kinds: spaces, searchers, objectives, recipes, devices, datasets or tables."""
    return lambda context, parameter, incomplete: whole(
        {name: text for kind in kinds for name, text in named(kind).items()}, incomplete
    )


def listed(words: Iterable[str], incomplete: str) -> list[CompletionItem[str]]:
    """Offer words for the last place of a list that is separated by commas."""
    before, comma, last = incomplete.rpartition(",")
    given = set(before.split(","))
    return whole([f"{before}{comma}{word}" for word in words if word not in given and word.startswith(last)], incomplete)


def searchers(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Offer searchers of a list that is separated by commas."""
    return listed(named("searcher"), incomplete)


def words(*given: str) -> Candidates:
    """Offer some words."""
    return lambda context, parameter, incomplete: whole(given, incomplete)


def formats(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Offer formats of an export, in a list that is separated by commas."""
    from orchestrator.commands import signatures

    return listed(signatures.assigned("orchestrator.export.formats", "FORMATS"), incomplete)


def tables(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Offer tables that are shipped, and files."""
    return [*whole(named("table"), incomplete), *_files(incomplete)]


def datasets(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Offer data sets by name, and folders."""
    return [*whole(named("dataset"), incomplete), *(item for item in _files(incomplete) if item.type == OPEN)]


def named(kind: str) -> dict[str, str]:
    """Map the names of a kind to descriptions, which are empty where only an import would tell them."""
    from orchestrator import registry
    from orchestrator.commands import signatures
    from orchestrator.training import recipe

    if kind == "device":
        return dict.fromkeys(sorted(p.stem for p in (signatures.folder_of("hw_profiles") / "devices").glob("*.toml")), "")
    if kind == "table":
        return dict.fromkeys(sorted(p.stem for p in (signatures.folder_of("orchestrator") / "tables").glob("*.csv")), "")
    if kind == "recipe":
        return {name: recipe.recipe(name).about for name in recipe.names()}
    if kind == "dataset":
        return dict.fromkeys(signatures.assigned("orchestrator.data.loaders", "LOADERS"), "")
    if kind == "evaluator":
        ours = signatures.assigned("orchestrator.config.experiment", "EVALUATORS")
        return dict.fromkeys(ours, "") | registry.summaries(kind)
    found = registry.summaries(kind)
    if kind == "objective":
        found |= {f"{cost}@{device}": "" for cost in ("latency", "energy") for device in named("device")}
    return found


def runs(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Offer run directories, at most one folder further down, and otherwise the folders on the way to some."""
    found: dict[str, CompletionItem[str]] = {}
    for path in _below(incomplete):
        if path.is_dir() and _is_run(path):
            found[str(path)] = CompletionItem(str(path))
        elif path.is_dir():
            inside = [str(p) for p in sorted(path.iterdir()) if p.is_dir() and _is_run(p)]
            found |= {p: CompletionItem(p) for p in inside} or {f"{path}/": CompletionItem(f"{path}/", type=OPEN)}
    return list(found.values())


def _is_run(path: Path) -> bool:
    return (path / "experiment.toml").is_file()


def files(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Offer TOML files, and folders."""
    return list(_files(incomplete, ".toml"))


def _files(incomplete: str, ending: str = "") -> Iterator[CompletionItem[str]]:
    for path in _below(incomplete):
        if path.is_dir():
            yield CompletionItem(f"{path}/", type=OPEN)
        elif path.name.endswith(ending):
            yield CompletionItem(str(path))


def _below(incomplete: str) -> list[Path]:
    """List what is in the folder that an incomplete path names, and begins as that does; hidden files only where asked for."""
    folder, slash, begin = incomplete.rpartition("/")
    base = Path(folder + slash).expanduser() if slash else Path()
    try:
        entries = sorted(base.iterdir())
    except OSError:
        return []
    return [p for p in entries if p.name.startswith(begin) and (begin or not p.name.startswith("."))]


class Settings:
    """Candidates for `section.key=value` words, with those that the sections' components have.

    Args:
        sections: Sections that can be given; None for all.
        bare: Section whose keys are written without it; None for none.
        files: Offer TOML files, too.
    """

    def __init__(self, *sections: str, bare: str | None = None, files: bool = False) -> None:
        self.sections, self.bare, self.files = sections, bare, files

    def __call__(self, context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """Offer sections, then keys of the section, then values of the key."""
        chosen = _chosen(context)
        key, equals, value = incomplete.partition("=")
        if equals:
            section, _, last = (key if "." in key or self.bare is None else f"{self.bare}.{key}").rpartition(".")
            return [_after(f"{key}=", item) for item in _values(section, last, value, chosen)]
        found: list[CompletionItem[str]] = []
        if self.bare is not None and "." not in incomplete:
            found += begun((f"{name}=" for name in keys(self.bare, chosen)), incomplete)
        section, dot, _ = incomplete.rpartition(".")
        if dot:
            allowed = not self.sections or section.partition(".")[0] in self.sections
            return begun(_under(section, chosen), incomplete) if allowed else []
        sections = [name for name in _sections() if not self.sections or name in self.sections]
        found += begun((f"{name}{end}" for name in sections for end in _WHOLE.get(name, ".")), incomplete)
        return found + (list(_files(incomplete, ".toml")) if self.files and "=" not in incomplete else [])


def _after(prefix: str, item: CompletionItem[str]) -> CompletionItem[str]:
    return CompletionItem(f"{prefix}{item.value}", type=item.type, help=item.help)


def _sections() -> list[str]:
    from orchestrator.commands import signatures

    return [*signatures.assigned("orchestrator.config.experiment", "SECTIONS"), "seed"]


def _under(section: str, chosen: dict[str, str]) -> Iterator[str]:
    """Yield what may follow `section.`: its keys, or for [objectives] the names, which have keys in turn."""
    if section == "objectives":
        yield from (f"objectives.{name}{end}" for name in named("objective") for end in ("={}", "."))
    else:
        yield from (f"{section}.{key}=" for key in keys(section, chosen))


def _values(section: str, key: str, value: str, chosen: dict[str, str]) -> list[CompletionItem[str]]:
    """Offer values of a key: names, words of its type, or paths."""
    kinds = {"searcher": "searcher", "space": "space", "data": "dataset", "training": "evaluator", "task": "task"}
    if key == "name" and section in kinds:
        return whole(named(kinds[section]), value)
    if (section, key) == ("retrain", "recipe"):
        return whole(named("recipe"), value)
    if section == "" and key == "task":
        return whole(named("task"), value)
    if section == "" and key == "proxy":
        return whole(["auto"], value)
    if section == "" and key == "objectives":
        return listed(named("objective"), value)
    if key in PATHS:
        return list(_files(value))
    return whole(keys(section, chosen).get(key, []), value)


def _chosen(context: click.Context) -> dict[str, str]:
    """Names of components by section: as the words so far have them, or else an experiment's file, or the built-in one."""
    from orchestrator.commands import signatures

    words = [word for given in context.params.values() if isinstance(given, tuple) for word in given if isinstance(word, str)]
    given = signatures.assigned("orchestrator.config.experiment", "DEFAULT")
    for word in words:
        if "=" not in word and word.endswith(".toml"):
            try:
                given = tomllib.loads(Path(word).read_text())
            except (OSError, ValueError):
                continue
    found = {"training": "supernet", "task": "classification"}
    found |= {key: str(s["name"]) for key, s in given.items() if isinstance(s, dict) and "name" in s}
    found |= {word.partition(".")[0]: word.partition("=")[2] for word in words if ".name=" in word.partition("=")[0] + "="}
    if isinstance(space := context.params.get("space"), str):  # of commands that name it by itself
        found["space"] = space
    return found


def keys(section: str, chosen: dict[str, str]) -> dict[str, list[str]]:
    """Map the keys of a section to the words that they may be; `chosen` names the sections' components."""
    from orchestrator.commands import signatures

    settings = signatures.classes("orchestrator.config.settings", "section")
    if section in settings:
        return signatures.keywords("orchestrator.config.settings", settings[section])
    kind, _, objective = section.partition(".")
    if kind == "objectives":
        return {key: ["true", "false"] if key == "dear" else [] for key in _goals()} | _objective(objective)
    name, found = chosen.get(section, ""), {"name": list[str]()}
    if section == "searcher":
        module, cls = _component("searcher", name)
        own = {"start_from": list[str]()} | (signatures.keywords(module, cls) if cls else {})
        supplied = ("sizes", *signatures.assigned(module, cls, "needs")) if cls else ()
        return found | {key: words for key, words in own.items() if key not in supplied}
    if section == "space":
        from_data = signatures.assigned("orchestrator.config.spaces", "FROM_DATA")
        own = signatures.keywords(*_component("space", name))
        return found | {key: words for key, words in own.items() if key not in from_data}
    if section == "task":
        return found | signatures.keywords(*_component("task", name))
    if section == "training":
        evaluators = signatures.assigned("orchestrator.config.experiment", "EVALUATORS")
        supplied = signatures.assigned("orchestrator.evaluators.base", "Evaluator", "SUPPLIED")
        own = signatures.keywords("orchestrator.config.experiment", evaluators.get(name, ""))
        return found | {key: words for key, words in own.items() if key not in supplied}
    if section == "data":
        loaders = signatures.assigned("orchestrator.data.loaders", "LOADERS")
        own = signatures.keywords("orchestrator.data.loaders", loaders.get(name, ""))
        return found | own | signatures.keywords("orchestrator.data.dataset", "Split")
    return {}


def _goals() -> tuple[str, ...]:
    from orchestrator.commands import signatures

    return tuple(signatures.assigned("orchestrator.config.problem", "GOALS"))


def _objective(name: str) -> dict[str, list[str]]:
    """Keys of an objective's class."""
    from orchestrator.commands import signatures

    base, at, _ = name.partition("@")
    module, cls = _component("objective", base)
    if at and base != "command":
        module, cls = "orchestrator.objectives.predicted", "ProfiledCost"
    supplied = ("space", "objective", "cost", "device", "task")
    return {key: words for key, words in signatures.keywords(module, cls).items() if key not in supplied}


def _component(kind: str, name: str) -> tuple[str, str]:
    """Find the module and the class of one of our components by its name; empty where there is none."""
    from orchestrator import registry

    cls = registry.shipped(kind).get(name)
    return (f"{registry.FOLDERS[kind]}.{name.replace('-', '_')}", cls.name) if cls else ("", "")
