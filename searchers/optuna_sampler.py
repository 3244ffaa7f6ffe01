"""Samplers of Optuna (Akiba, Sano, Yanase, Ohta and Koyama, KDD 2019) behind ask and tell. Needs `paretoray[optuna]`."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from searchers.base import Architecture, Evaluation
from searchers.parts.uniform import TRIES, UniformPaths

VIOLATION = "violation"


class OptunaSampler(UniformPaths):
    """Run one of Optuna's samplers, with a categorical parameter for each choice.

    Constraints reach the samplers that take them. A suggestion that is the same network as a known one is told to Optuna from
    memory; after 20 such suggestions in a row a random network takes their place.

    Args:
        sizes: Number of options of each choice.
        rounds: Rounds of the search, from the budget.
        costs: Number of objectives after the error.
        canonical: From an architecture to a key that is equal for the same networks, from the space. None: all differ.
        sampler: Class in `optuna.samplers`, used with its own defaults: TPESampler, NSGAIISampler, GPSampler, ...
        samples: Architectures per round.
        warmup: Share of the rounds that only trains shared weights.
        seed: Seed of the sampler.

    Raises:
        ValueError: for settings outside these bounds, and where Optuna is not installed.

    Example:
        >>> searcher = OptunaSampler((3, 4), rounds=5, sampler="RandomSampler", samples=2, warmup=0.0)
        >>> searcher.train_on(0)
        []
        >>> len(searcher.ask(10))
        2
    """

    needs = ("rounds", "costs", "canonical", "seed")

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        rounds: int,
        costs: int = 1,
        canonical: Callable[[Architecture], Hashable] | None = None,
        sampler: str = "TPESampler",
        samples: int = 1,
        warmup: float = 0.6,
        seed: int = 0,
    ) -> None:
        super().__init__(sizes, rounds=rounds, canonical=canonical, samples=samples, warmup=warmup, seed=seed)
        try:
            import optuna
        except ImportError as error:
            raise ValueError("optuna-sampler needs Optuna, which is not installed: pip install 'paretoray[optuna]'") from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # each study would announce itself
        sampler_class: Any = getattr(optuna.samplers, sampler, None)
        if not inspect.isclass(sampler_class) or "seed" not in inspect.signature(sampler_class).parameters:
            raise ValueError(f"sampler = {sampler!r}; take a class in optuna.samplers that has a seed, as TPESampler does")
        self._optuna = optuna
        self._class: Callable[..., Any] = sampler_class
        self._domain = {str(i): optuna.distributions.CategoricalDistribution(range(n)) for i, n in enumerate(sizes)}
        self.sampler, self.costs, self.seed = sampler, costs, seed
        self._begin()

    def _begin(self) -> None:
        takes = inspect.signature(self._class).parameters
        arguments = {"constraints_func": _constraints} if "constraints_func" in takes else {}
        with warnings.catch_warnings():  # of samplers that are experimental, and of constraints_func, which Optuna 4 needs
            warnings.simplefilter("ignore")
            sampler = self._class(seed=self.seed, **arguments)
        self._study = self._optuna.create_study(directions=["minimize"] * (1 + self.costs), sampler=sampler)
        self._answers: dict[Hashable, Evaluation] = {}
        self._pending: list[Any] = []
        self._log: list[tuple[int, int]] = []  # of each generation: how often the study was asked, and how many came of it

    def begin_with(self, architectures: Sequence[Architecture]) -> bool:
        super().begin_with(architectures)
        self._log = [(0, len(self._first))]
        return True

    def _propose(self, n: int) -> list[Architecture]:
        suggestions: dict[Hashable, Architecture] = {}
        in_vain, asked = 0, 0
        while len(suggestions) < n and in_vain < TRIES:
            architecture, asked = self._ask(), asked + 1
            key = self._canonical(architecture)
            in_vain = 0 if key not in self._known and key not in suggestions else in_vain + 1
            suggestions |= {} if in_vain else {key: architecture}
        self._known.update(suggestions)
        proposed = [*suggestions.values(), *self._new(n - len(suggestions), self._random)]
        self._log.append((asked, len(proposed)))
        return proposed

    def _ask(self) -> Architecture:
        """Return the study's next suggestion; if it is known already, its costs are told at once."""
        trial = self._study.ask(self._domain)
        architecture = tuple(int(trial.params[name]) for name in self._domain)
        known = self._answers.get(self._canonical(architecture))
        if known is None:
            self._pending.append((trial, self._canonical(architecture)))
        else:
            self._answer(trial, known)
        return architecture

    def _answer(self, trial: Any, evaluation: Evaluation) -> None:
        trial.set_user_attr(VIOLATION, evaluation.violation)
        self._study.tell(trial, list(evaluation.costs))

    def _learn(self, evaluations: list[Evaluation]) -> None:
        self._answers |= {self._canonical(e.architecture): e for e in evaluations}
        suggested = set()
        for trial, key in self._pending:
            self._answer(trial, self._answers[key])
            suggested.add(key)
        for e in evaluations:
            if self._canonical(e.architecture) not in suggested:  # it was random
                params = {name: e.architecture[int(name)] for name in self._domain}
                self._study.add_trial(
                    self._optuna.trial.create_trial(
                        params=params,
                        distributions=self._domain,
                        values=list(e.costs),
                        user_attrs={VIOLATION: e.violation},
                    )
                )
        self._pending = []

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"seed": self.seed, "log": [list(entry) for entry in self._log]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore Optuna's state, which is no plain data, by replaying suggestions and answers generation by generation."""
        super().load_state_dict(state)
        self.seed = state["seed"]
        self._begin()
        self._log = [(asked, size) for asked, size in state["log"]]
        at = 0
        for asked, size in self._log:
            for _ in range(asked):
                self._ask()
            if at + size <= len(self.told):
                self._learn(self.told[at : at + size])
            at += size


def _constraints(trial: Any) -> tuple[float]:
    return (trial.user_attrs[VIOLATION],)
