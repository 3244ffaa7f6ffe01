"""`paretoray train`."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from orchestrator.commands.base import PLAIN, Answer, Command, Place, interruptible, told
from orchestrator.commands.candidates import Settings, names


@click.command(cls=Command)
@click.argument("space", shell_complete=names("space"))
@click.argument("architecture", metavar="ARCHITECTURE|NAME")
@click.argument(
    "settings",
    nargs=-1,
    metavar="[section.key=value ...]",
    shell_complete=Settings("data", "space", "retrain", "seed", "workers"),
)
@click.option(
    "--out", type=Place("either"), required=True, help="Folder, or its URL in a store, for the weights and the result."
)
def train(space: str, architecture: str, settings: tuple[str, ...], out: Path) -> Answer:
    """Train one network from scratch and test it.

    It is trained as the members of a front are, and so a point to compare fronts with (`paretoray report --with`). Data, space
    and retrain sections are those of a search; without any, it trains on scikit-learn's digits. The same command goes on with a
    training that was interrupted.

    \b
    paretoray train darts DARTS_V2 space.channels=8 space.cells=5 --out runs/darts-v2
    paretoray train darts DARTS_V2 data.name=folder data.path=photos data.size=32 \\
        retrain.recipe=darts retrain.seeds=3 --out runs/v2
    paretoray train nas-bench-201 '|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|' \\
        data.name=folder data.path=photos data.size=32 retrain.epochs=50 --out runs/one
    """
    from analysis.front_table import number
    from analysis.records import CONFIDENCE, tested
    from orchestrator.runs.display import Display
    from orchestrator.runs.mirror import mirrored
    from orchestrator.runs.process import heeding_ctrl_c
    from orchestrator.runs.training import Training, interval
    from orchestrator.search.control import stop_file

    console = Console()
    training = Training.of(space, architecture, settings)

    def announce() -> None:
        data, counts = training.plan.problem.data, training.counts
        console.print(
            f"{counts['parameters']:,} parameters, {counts['macs']:,} MACs; {len(data.train) + len(data.valid)} images; "
            f"{training.plan.retraining.words}",
            **PLAIN,
        )

    with (
        interruptible("interrupted; the same command goes on"),
        heeding_ctrl_c(stop_file(out), console.print),
        mirrored(out, told),
    ):
        result = training.run(out, Display(console), announce)
    metric, images = training.plan.problem.task.metric, result["test_images"]
    test, unit = tested(metric.column), f" {metric.unit}".rstrip()
    several = f" \N{PLUS-MINUS SIGN} {number(test.value, result[test.deviation])}" if test.deviation in result else ""
    low, high = interval(result)
    ends = f"{low:.1f} to {high:.1f}" if unit else f"{number(test.low, low)} to {number(test.high, high)}"
    known = f"{ends}{unit}, the {CONFIDENCE:.0%} interval of"
    shown = number(test.value, result[test.value])
    said = f"test {metric.cost} {shown}{several}{unit} ({known} {images} images); weights in {out / 'network.pt'}"
    bounds = {test.low: low, test.high: high, "confidence": CONFIDENCE}
    return Answer({"directory": out, "weights": out / "network.pt", **result, **bounds}, [said])
