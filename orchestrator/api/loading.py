"""A network of a front, to be used here or elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.api.result import Result
from orchestrator.config.problem import Problem
from orchestrator.export.command import Export, export_member, parse_formats
from orchestrator.runs.networks import TrainedNetwork, load_member
from orchestrator.runs.staging import opened


def load(run: str | Path | Result, member: int, problem: Problem | None = None, *, trust: bool = False) -> TrainedNetwork:
    """Load a member of a front with the weights of its training from scratch, its classes and its preprocessing.

    The images of the run need not be there any more.

    Args:
        run: A run directory, its URL in a store, or a result.
        member: Number of the member, as on the report, in `front.csv` and on the console.
        problem: The problem, where its space was given as an object that no file can name.
        trust: Whether to import the code that the run names, though somebody else made it.

    Returns:
        A module in evaluation mode, on the CPU, with `network` (the plain module), `classes`, `preprocess`, `costs` and `arch`.

    Raises:
        InputError: For a member that there is not or that was not retrained, for a file of weights that is damaged or belongs
            to another network, and for a run of somebody else's that names code to import.

    Example:
        >>> import paretoray as pr                                           # doctest: +SKIP
        >>> network = pr.load("runs/photos", 3)                              # doctest: +SKIP
        >>> scores = network(network.preprocess(Image.open("1.jpg"))[None])  # doctest: +SKIP
        >>> network.classes[int(scores.argmax())]                            # doctest: +SKIP
        'cat'
    """
    if isinstance(run, Result):
        return load_member(run.directory, member, problem or run.problem)
    return load_member(opened(run), member, problem, trust=trust)


def export(
    run: str | Path | Result,
    member: int,
    out: str | Path,
    formats: Sequence[str] | None = None,
    problem: Problem | None = None,
    *,
    trust: bool = False,
) -> Export:
    """Write a member of a front into a folder, as files that need no paretoray.

    Args:
        run: A run directory, its URL in a store, or a result.
        member: Number of the member.
        out: The folder, which must be empty or not exist.
        formats: Some of "network", "onnx", "pt2", "torchscript" and "int8"; by default the first three.
        problem: The problem, where its space was given as an object that no file can name.
        trust: As for `load`.

    Returns:
        What was written, and why a format was not.

    Raises:
        InputError: For a member without weights, a folder that is taken, and a package that is missing.

    Example:
        >>> import paretoray as pr                                     # doctest: +SKIP
        >>> pr.export("runs/photos", 3, "cats").written["onnx"].facts  # doctest: +SKIP
    """
    directory = run.directory if isinstance(run, Result) else opened(run)
    known = problem or (run.problem if isinstance(run, Result) else None)
    return export_member(directory, member, Path(out), parse_formats(formats), problem=known, trust=trust)
