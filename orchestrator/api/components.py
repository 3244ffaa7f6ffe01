"""Components with settings, to be completed by a problem: `paretoray.searchers.TndNas(samples=8)` and the like."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from orchestrator.config.experiment import EVALUATORS, searcher_component, training_component
from orchestrator.config.problem import objective_class, supplied_of, task_component
from orchestrator.config.spaces import space_component
from orchestrator.data import loaders
from orchestrator.registry import Component, known, nearest


class Shelf:
    """Attributes that are named after components, each a function from settings to a `Component`.

    Args:
        kind: What stands on the shelf, in words.
        names: The names of all, as an experiment writes them.
        make: From a name and settings to a component.
        classes: Whether attributes are spelt like classes (`TndNas`), rather than like functions (`fashion_mnist`).
    """

    def __init__(
        self,
        kind: str,
        names: Callable[[], Iterable[str]],
        make: Callable[[str, dict[str, Any]], Component],
        *,
        classes: bool = True,
    ) -> None:
        self._kind, self._names, self._make, self._classes = kind, names, make, classes

    def _spelt(self) -> dict[str, str]:
        return {_camel(name) if self._classes else name.replace("-", "_"): name for name in self._names()}

    def __getattr__(self, attribute: str) -> Callable[..., Component]:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        spelt = self._spelt()
        if attribute not in spelt:
            raise AttributeError(f"there is no {self._kind} {attribute}{nearest(attribute, sorted(spelt))}")
        name = spelt[attribute]

        def component(**settings: Any) -> Component:
            return self._make(name, settings)

        component.__name__ = component.__qualname__ = attribute
        component.__doc__ = f"Return the {self._kind} `{name}` with these settings. Raises InputError for a wrong one."
        return component

    def __dir__(self) -> list[str]:
        return sorted(self._spelt())

    def __call__(self, name: str, **settings: Any) -> Component:
        """Return a component by its name in an experiment, or by `module:name`. Raises InputError."""
        return self._make(name, settings)


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in re.split(r"[-_]", name))


def _objective(name: str, settings: dict[str, Any]) -> Component:
    factory = objective_class(name)
    return Component.of(name, factory, settings, f"objectives.{name}", supplied_of(factory))


searchers = Shelf("searcher", lambda: known("searcher"), searcher_component)
spaces = Shelf("space", lambda: known("space"), space_component)
objectives = Shelf("objective", lambda: known("objective"), _objective)
evaluators = Shelf("evaluator", lambda: [*EVALUATORS, *known("evaluator")], training_component)
tasks = Shelf("task", lambda: known("task"), task_component)
data = Shelf("dataset", lambda: loaders.LOADERS, loaders.component, classes=False)
