"""The vocabulary between a search method and whatever evaluates its proposals, and what a method is built from."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import lt
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np

from searchers.parts.additive import Additive

Architecture = tuple[int, ...]
"""An option index per choice."""

Cotangents = tuple[tuple[float, ...], ...]
"""d loss / d weight, shaped like `Mixture.weights`; 0 where no cotangent was wanted."""

PathEncoding = tuple[np.ndarray, Sequence[int]]
"""Features of all architectures of a space in lexicographic order, (architectures, features), and the group of each feature."""


@dataclass(frozen=True)
class Mixture:
    """A weight per option per choice; one-hot rows are an architecture.

    Args:
        weights: Per choice, the weight of each option. An option of weight zero is not run.
        wanted: Per choice and option, whether its cotangent is asked for. An option of weight zero may be marked, too; it is
            then run alone, without a graph. None for the options of other weights than zero.

    Raises:
        ValueError: for weights that are not finite, and for shapes that differ.

    Example:
        >>> Mixture.one_hot((1, 0), (2, 3)).weights
        ((0.0, 1.0), (1.0, 0.0, 0.0))
    """

    weights: tuple[tuple[float, ...], ...]
    wanted: tuple[tuple[bool, ...], ...] | None = None

    def __post_init__(self) -> None:
        for choice, row in enumerate(self.weights):
            if not row or not all(math.isfinite(w) for w in row):
                raise ValueError(f"choice {choice} of a mixture has the weights {row}; they must be finite, and at least one")
        if self.wanted is not None and [len(r) for r in self.wanted] != [len(r) for r in self.weights]:
            raise ValueError("`wanted` must have the shape of `weights`")

    @classmethod
    def one_hot(cls, architecture: Architecture, sizes: Sequence[int]) -> Mixture:
        """Return the mixture that is one architecture.

        Raises:
            ValueError: for an option that a choice does not have.
        """
        check_architecture(architecture, sizes)
        return cls(tuple(tuple(float(i == k) for i in range(n)) for k, n in zip(architecture, sizes, strict=True)))

    def active(self) -> tuple[tuple[int, ...], ...]:
        """List the options of weight other than zero, per choice."""
        return tuple(tuple(i for i, w in enumerate(row) if w != 0) for row in self.weights)


@dataclass(frozen=True)
class Evaluation:
    """An architecture and its costs.

    Args:
        architecture: Option of each choice.
        costs: Lower is better, in the order of the experiment's objectives.
        violation: Sum of `cost / limit - 1` over the limits that are exceeded; 0 where all are kept.
        failed: Whether the network could not be trained or measured. It then counts as one that breaks a limit; its error is
            the worst there is, and each other cost its own where that is known, otherwise as bad as any.

    Raises:
        ValueError: for a number that is not finite. pymoo drops such rows silently, so they are stopped here.
    """

    architecture: Architecture
    costs: tuple[float, ...]
    violation: float = 0.0
    failed: bool = False

    def __post_init__(self) -> None:
        if self.failed and self.violation <= 0:
            raise ValueError(f"architecture {self.architecture} failed; its violation must be above 0, not {self.violation}")
        if not self.costs or not all(math.isfinite(c) for c in (*self.costs, self.violation)):
            raise ValueError(
                f"architecture {self.architecture} has the costs {self.costs} and the violation {self.violation}; all must be "
                "finite numbers"
            )

    def to_data(self) -> list[Any]:
        """Return the evaluation as plain data, for a checkpoint."""
        return [list(self.architecture), list(self.costs), self.violation, self.failed]

    @classmethod
    def from_data(cls, data: Sequence[Any]) -> Evaluation:
        """Invert `to_data`; checkpoints of earlier versions know of no failures."""
        architecture, costs, violation, *failed = data
        return cls(tuple(architecture), tuple(costs), violation, *failed)


Statistics = Literal["batch", "running", "recalibrated"]
"""Statistics of normalisation; `training.statistics` says what each of them is."""


@dataclass(frozen=True)
class Stage:
    """The life of one set of shared weights.

    A searcher that moves to a stage of another `index` asks for a new supernet over `options`; one that has fewer options in a
    stage of the same index goes on with the weights that are left.

    Args:
        index: Number of the stage, from 0.
        options: Surviving options per choice.
        rounds: Length of the stage.
        warmup: Number of its first rounds that train weights only.
        stages: Number of stages of the search. The supernet of the last one has the full depth, so that of a single stage does.
        skips: Whether the skip dropout of P-DARTS is used, which methods on mixtures in stages need and others do not.
        anneal: Share of its half cosine that the learning rate follows during the stage; at 1 it ends at 0.
        inherits: Whether the weights of the stage before are kept. A supernet that has grown deeper begins anew all the same.
        statistics: Statistics of normalisation with which single networks are measured, where the user did not choose any:
            those of the batch, running averages, or averages that are fitted to the network first.

    Raises:
        ValueError: for an index or a warm-up out of range.
    """

    index: int
    options: tuple[tuple[int, ...], ...]
    rounds: int
    warmup: int = 0
    stages: int = 1
    skips: bool = False
    anneal: float = 1.0
    inherits: bool = False
    statistics: Statistics = "batch"

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.stages or not 0 <= self.warmup <= self.rounds:
            raise ValueError(f"stage {self.index} of {self.stages} with {self.warmup} of {self.rounds} rounds of warm-up")


class SpaceFacts(Protocol):
    """Knowledge of a search space that some methods use, beyond the number of options of each choice.

    Each attribute is read only for a method that needs it, so an expensive one may be a property.
    """

    @property
    def node_inputs(self) -> Sequence[Sequence[int]]:
        """Cells that keep two edges into each node: the choices that feed each node, node by node and cell by cell, in
        the order of the cell's states. Empty in other spaces."""

    @property
    def none_option(self) -> Sequence[int | None] | None:
        """Per choice the option that stands for no edge, or None; None where no choice has one."""

    @property
    def parameter_free(self) -> Sequence[Sequence[bool]] | None:
        """Per choice and option, whether it is an operation without learned parameters; None where that is not known."""

    @property
    def phases(self) -> Sequence[Sequence[int]]:
        """The choices of each phase of a network, in order: a cell, a stage, a block. Empty: each choice is one."""

    @property
    def derive(self) -> Callable[[Sequence[Sequence[float]]], Architecture] | None:
        """Rule from probabilities, (choices, options), to the architecture that stands for them; None: the mode."""

    @property
    def canonical(self) -> Callable[[Architecture], Hashable] | None:
        """Key of an architecture, equal for the same networks; None: every architecture is another network."""

    @property
    def path_encoding(self) -> PathEncoding | None:
        """Features of the graphs of all architectures; None where the space is too large to list."""


class CostModel(Protocol):
    """A cost that may be known before anything is measured."""

    def additive(self) -> Additive | None:
        """Return the cost as a sum over the options: a fixed part, and what each option of each choice adds; None where it
        is no such sum."""


class UnknownSpace:
    """A space of which only the number of options of each choice is known."""

    node_inputs: Sequence[Sequence[int]] = ()
    none_option: Sequence[int | None] | None = None
    parameter_free: Sequence[Sequence[bool]] | None = None
    phases: Sequence[Sequence[int]] = ()
    derive: Callable[[Sequence[Sequence[float]]], Architecture] | None = None
    canonical: Callable[[Architecture], Hashable] | None = None
    path_encoding: PathEncoding | None = None


@dataclass(frozen=True)
class SearchContext:
    """The search that a method is built for: what the space, the objectives and the budget say, apart from its own settings.

    A method names in `Searcher.needs` which attributes its constructor takes. What is expensive to know (`additive` and the
    attributes of `space`) is worked out only where it is read.

    Args:
        sizes: Number of options of each choice.
        rounds: Rounds of the whole search.
        steps: Weight steps of the whole search; 0 stands for one per round.
        seed: Seed of all that is random in the method.
        limits: Upper limit of each cost after the error, in its own unit; None for no limit. Its length is the number of costs.
        targets: Cost that a scalarised reward aims at, for each cost after the error, in its own unit. None: the method's own
            default.
        mixtures: Whether weights can be trained on mixtures of several options, rather than on single networks only.
        shared_weights: Whether architectures are measured with shared weights that the search trains; False where each network
            has weights of its own, as in a table or trained from scratch.
        space: Facts of the space that some methods use.
        cost_models: The costs after the error, for the methods that use those that are sums over the options. Empty: no cost
            is known to be one.

    Raises:
        ValueError: for a choice without options, fewer than 1 round, or targets or cost models that are not one for each limit.

    Example:
        >>> context = SearchContext(sizes=(3, 4), rounds=10)
        >>> context.steps, context.costs, context.additive
        (10, 1, (None,))
    """

    sizes: tuple[int, ...]
    rounds: int
    steps: int = 0
    seed: int = 0
    limits: tuple[float | None, ...] = (None,)
    targets: tuple[float, ...] | None = None
    shared_weights: bool = True
    mixtures: bool = True
    space: SpaceFacts = field(default_factory=UnknownSpace)
    cost_models: Sequence[CostModel] = ()

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError(f"sizes = {self.sizes}; every choice needs an option, and there must be a choice")
        if self.rounds < 1 or self.steps < 0:
            raise ValueError(f"rounds = {self.rounds}, steps = {self.steps}; at least 1 round, and steps are not negative")
        if not self.steps:
            object.__setattr__(self, "steps", self.rounds)
        for name, entries in (("targets", self.targets), ("cost_models", self.cost_models)):
            if entries and len(entries) != len(self.limits):
                raise ValueError(
                    f"{name} has {len(entries)} entries; give one for each of the {len(self.limits)} costs, or none"
                )

    @property
    def costs(self) -> int:
        """Number of objectives after the error."""
        return len(self.limits)

    @property
    def additive(self) -> Sequence[Additive | None]:
        """Costs after the error as sums over the options; None for one that is no such sum."""
        return tuple(model.additive() for model in self.cost_models) or (None,) * self.costs

    @property
    def node_inputs(self) -> Sequence[Sequence[int]]:
        """See `SpaceFacts.node_inputs`."""
        return self.space.node_inputs

    @property
    def none_option(self) -> Sequence[int | None] | None:
        """See `SpaceFacts.none_option`."""
        return self.space.none_option

    @property
    def parameter_free(self) -> Sequence[Sequence[bool]] | None:
        """See `SpaceFacts.parameter_free`."""
        return self.space.parameter_free

    @property
    def phases(self) -> Sequence[Sequence[int]]:
        """See `SpaceFacts.phases`."""
        return self.space.phases

    @property
    def derive(self) -> Callable[[Sequence[Sequence[float]]], Architecture] | None:
        """See `SpaceFacts.derive`."""
        return self.space.derive

    @property
    def canonical(self) -> Callable[[Architecture], Hashable] | None:
        """See `SpaceFacts.canonical`."""
        return self.space.canonical

    @property
    def path_encoding(self) -> PathEncoding | None:
        """See `SpaceFacts.path_encoding`."""
        return self.space.path_encoding


CONTEXT_ATTRIBUTES = (
    "rounds",
    "steps",
    "seed",
    "costs",
    "limits",
    "shared_weights",
    "mixtures",
    "additive",
    "node_inputs",
    "none_option",
    "parameter_free",
    "phases",
    "derive",
    "canonical",
    "path_encoding",
)
"""Attributes of `SearchContext` that a constructor may take, under the same name. `sizes` comes first in every constructor, and
`targets` reach the setting that `Searcher.target_setting` names."""


class Searcher(ABC):
    """A search method: proposes architectures and learns from their costs.

    It does not evaluate, log, save or draw, and it does not own the loop. A round is: `train_on`, then `ask`, then `tell`.
    All randomness derives from the seed that it was built with.

    A constructor takes `sizes` first, then the attributes of the `SearchContext` that the class names in `needs`; its other
    parameters are settings of the user. `build` calls it so. Class definitions are checked: a name in `needs` that is no
    parameter or no attribute of the context, and a parameter that has the name of such an attribute but is not in `needs`, are
    a TypeError.

    Attributes:
        sizes: Number of options of each choice; `build` sets it.
        needs: Attributes of the `SearchContext` that the constructor takes by name, besides `sizes`.
        target_setting: The setting that takes the objectives' targets, if the method aims at any.
        warmup_setting: The setting that says for how long shared weights train before the first proposal; it is 0 in a search
            without shared weights.
        mixes: Whether the method trains on, or asks about, mixtures of several options.
        full_validation: Whether proposals are measured on the whole validation set, as they were just trained, with the
            statistics that `Stage.statistics` names; otherwise on one batch.
        models_noise: Whether the method has a model of its own of how noisy costs are, and so wants them as they were measured;
            others may be told what a search makes of all its measurements.
        samples: Architectures that are proposed in a round.

    Raises:
        TypeError: when a subclass is defined whose constructor and declarations do not match.

    Example:
        >>> from searchers.random_search import RandomSearch
        >>> searcher = RandomSearch.build(SearchContext(sizes=(3, 4), rounds=10, shared_weights=False), samples=2)
        >>> searcher.train_on(0), len(searcher.ask(5))
        ([], 2)
    """

    needs: ClassVar[tuple[str, ...]] = ("rounds", "seed")
    target_setting: ClassVar[str | None] = None
    warmup_setting: ClassVar[str | None] = None
    sizes: tuple[int, ...]
    mixes = False
    full_validation = False
    models_noise: ClassVar[bool] = False
    samples: int = 1

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "__init__" in {name for base in cls.__mro__[:-1] for name in vars(base)}:
            _check_declarations(cls)

    @classmethod
    def settings(cls) -> dict[str, inspect.Parameter]:
        """Return the constructor's parameters that are for the user to set, by name."""
        return {name: p for name, p in _parameters(cls).items() if name not in ("sizes", *cls.needs)}

    @classmethod
    def resolve(cls, settings: Mapping[str, Any], *, shared_weights: bool = True) -> dict[str, Any]:
        """Return the user's settings with those added that follow from the kind of training.

        Raises:
            ValueError: for a setting that means nothing with this kind of training.
        """
        if shared_weights or cls.warmup_setting is None:
            return dict(settings)
        if settings.get(cls.warmup_setting):
            raise ValueError(f"{cls.warmup_setting}: networks trained from scratch share nothing that could be warmed up")
        return dict(settings) | {cls.warmup_setting: 0.0}

    @classmethod
    def build(cls, context: SearchContext, **settings: Any) -> Self:
        """Return the method for a search, with the user's `settings`.

        Raises:
            ValueError: for settings that the method refuses, and for targets of a method that aims at none or has been given
                its own.
        """
        settings = cls.resolve(settings, shared_weights=context.shared_weights)
        if context.targets is not None:
            if cls.target_setting is None:
                raise ValueError(f"targets = {context.targets}: {cls.__name__} aims at none; give limits instead")
            if settings.get(cls.target_setting) is not None:
                raise ValueError(f"{cls.target_setting} and the objectives' targets say the same; leave one out")
            settings[cls.target_setting] = list(context.targets)
        needed = {name: getattr(context, name) for name in cls.needs}
        searcher = cls(context.sizes, **needed, **settings)  # type: ignore[call-arg]
        searcher.sizes = context.sizes
        return searcher

    @property
    @abstractmethod
    def stage(self) -> Stage:
        """The stage that the next round belongs to."""

    @abstractmethod
    def train_on(self, steps: int) -> list[Mixture]:
        """Begin a round: return the mixtures that the next `steps` steps of the shared weights train on."""

    @abstractmethod
    def ask(self, n: int) -> list[Architecture]:
        """Return at most `n` architectures to evaluate, repeats included; none during a warm-up."""

    @abstractmethod
    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Take the costs of architectures that were asked for, in any order and in any portions."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return all that decides the future, as numbers, strings, lists, dicts and tensors."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken, in a searcher that was built with the same arguments."""

    def begin_with(self, architectures: Sequence[Architecture]) -> bool:
        """Ask for these before any of its own choice, and learn from them; called before the first round.

        Returns:
            Whether the method can do so; by default it cannot, as a policy learns from its own samples alone.
        """
        return False

    def extend(self, rounds: int) -> None:
        """Go on for so many more rounds than the method was built for.

        By default it cannot, as a method that plans its stages, its temperature or its learning rate over the whole search has
        come to the end of that plan. A subclass that can go on overrides this.

        Raises:
            ValueError: for a method that cannot go on.
        """
        raise ValueError(f"{type(self).__name__} plans the whole search in advance, and cannot go on after it")

    def expected(self, rounds: int) -> float:
        """Estimate how many architectures the method asks for in a search of so many rounds."""
        return (1 - self.stage.warmup / self.stage.rounds) * rounds * self.samples

    def plan(self) -> tuple[float, ...]:
        """Return the share of each choice's options that is left in each stage, first to last."""
        return (1.0,) * self.stage.stages

    def probabilities(self) -> list[list[float]] | None:
        """Return the probability of each option of each choice, or None for a method without a policy."""
        return None

    def derive(self) -> list[Architecture]:
        """Return the method's own result at the end of a search, beside the archive of everything measured."""
        return []


class GradientSearcher(Searcher):
    """A `Searcher` that asks for derivatives at mixtures of its choosing.

    Its proposals are for the archive; it does not learn from their costs.

    Attributes:
        unrolled: Whether the loss is to be differentiated through a weight step (DARTS's second order).
    """

    mixes = True
    unrolled = False

    @abstractmethod
    def relax(self) -> Mixture | None:
        """Return the mixture at which the validation loss is to be differentiated; None while weights alone are trained."""

    @abstractmethod
    def descend(self, loss: float, cotangents: Cotangents) -> None:
        """Take the loss and d loss / d weight at the mixture of the last `relax`, and move the architecture parameters."""

    def expected_gradients(self, steps: int) -> float:
        """Estimate how many gradients the method asks for in a search of so many weight steps."""
        return (1 - self.stage.warmup / self.stage.rounds) * steps


def _parameters(cls: type[Searcher]) -> dict[str, inspect.Parameter]:
    """Return the named parameters of the constructor, without self."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: p for name, p in inspect.signature(cls).parameters.items() if p.kind not in variadic}


def _check_declarations(cls: type[Searcher]) -> None:
    """Raise TypeError unless `needs` and the named settings of a class match its constructor."""
    name, parameters = cls.__name__, list(_parameters(cls))
    if not parameters or parameters[0] != "sizes":
        raise TypeError(f"the constructor of {name} takes ({', '.join(parameters)}); its first parameter must be sizes")
    if unknown := [need for need in cls.needs if need not in CONTEXT_ATTRIBUTES]:
        raise TypeError(
            f"{name}.needs has {unknown[0]!r}, which no search context has; there are {', '.join(CONTEXT_ATTRIBUTES)}"
        )
    context_parameters = tuple(parameter for parameter in parameters if parameter in CONTEXT_ATTRIBUTES)
    if missing := [need for need in cls.needs if need not in context_parameters]:
        raise TypeError(
            f"{name}.needs has {missing[0]!r}, which its constructor does not take by that name; add the parameter, or write "
            f"needs = {context_parameters}"
        )
    if undeclared := [parameter for parameter in context_parameters if parameter not in cls.needs]:
        raise TypeError(
            f"the constructor of {name} takes {undeclared[0]!r} of the search context, which {name}.needs does not have; write "
            f"needs = {context_parameters}, or give the setting another name"
        )
    for declared in ("target_setting", "warmup_setting"):
        setting = getattr(cls, declared)
        if setting is not None and setting not in cls.settings():
            raise TypeError(
                f"{name}.{declared} = {setting!r}, which is no setting of its constructor; write {declared} = None, or one of "
                f"{', '.join(cls.settings())}"
            )


def learning_rate(published: float, over: int, steps: float) -> float:
    """Return the published learning rate, or proportionally more for fewer steps, up to 0.1.

    Adam moves a parameter by at most about its learning rate a step, so a short search would end where it began.

    Args:
        published: Learning rate of the publication.
        over: Steps that it was used for.
        steps: Steps of this search.
    """
    return min(0.1, max(published, published * over / max(1, steps)))


def check_architecture(architecture: Architecture, sizes: Sequence[int]) -> None:
    """Refuse an architecture that does not pick one existing option for each choice.

    Raises:
        ValueError: for such an architecture, naming the choice.
    """
    # Every cost of every network asks, so that what is right has to be fast.
    if len(architecture) == len(sizes) and all(map(lt, architecture, sizes)) and min(architecture, default=0) >= 0:
        return
    if len(architecture) != len(sizes):
        raise ValueError(f"architecture {architecture} makes {len(architecture)} choices; the space has {len(sizes)}")
    for choice, (option, size) in enumerate(zip(architecture, sizes, strict=True)):
        if not 0 <= option < size:
            raise ValueError(f"choice {choice} of architecture {architecture} is {option}; it must be in 0..{size - 1}")
