"""The trained network that others are distilled from."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from orchestrator.config.problem import Problem
from orchestrator.config.spaces import build_space, space_component
from orchestrator.data.preprocessing import Preprocessing
from orchestrator.errors import InputError
from orchestrator.registry import known
from orchestrator.search.weights import Origin, read
from orchestrator.spaces.base import SearchSpace
from orchestrator.spaces.parts.inputs import sized

SETTING = "retrain.teacher"


def load_teacher(path: Path, problem: Problem) -> nn.Module:
    """Load a network with its weights, in evaluation mode, to learn from.

    Args:
        path: File of weights that says what it belongs to, as a run or `paretoray train` writes it.
        problem: The images on which it is to judge, and the space that networks are of.

    Raises:
        InputError: For a file that is missing, damaged, of other images or classes, or of a space that cannot be built here.
    """
    state, origin = read(path)
    if origin is None:
        raise InputError(f"{SETTING} = {str(path)!r}: the file does not say which network it belongs to; train it again")
    here = Preprocessing.of(problem.data)
    if (origin.classes, origin.preprocessing.shape, origin.task) != (problem.data.classes, here.shape, problem.task.name):
        theirs = f"images of {sized(origin.preprocessing.shape)} and {len(origin.classes)} classes"
        raise InputError(
            f"{SETTING} = {str(path)!r} was trained on {theirs}; these are {'x'.join(map(str, here.shape))} and "
            f"{len(problem.data.classes)} classes, which have to be the same"
        )
    space = _space(path, origin, problem)
    network = space.network(space.parse(origin.arch))
    network.load_state_dict(state)
    return network.eval()


def _space(path: Path, origin: Origin, problem: Problem) -> SearchSpace:
    """Return the space of a teacher, which may be larger than that of its pupils; code of others is not imported for it."""
    own = problem.sources.space
    if (origin.space, origin.settings) == (own.name, Origin.of(problem, origin.arch).settings):
        return problem.space
    if origin.space == own.name:
        return build_space(space_component(own.name, dict(origin.settings)), origin.preprocessing.shape, len(origin.classes))
    if origin.space not in known("space"):
        raise InputError(
            f"{SETTING} = {str(path)!r} is a network of {origin.space}, which is neither a built-in space nor this one"
        )
    return build_space(space_component(origin.space, dict(origin.settings)), origin.preprocessing.shape, len(origin.classes))
