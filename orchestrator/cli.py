"""The command line. Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted with the state saved."""

from __future__ import annotations

import logging
import re
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.errors import Fault, InputError, Interrupted, RunError, first_line, out_of_memory, shortened, unexpected

# Everything heavy is imported inside the commands, so that --help answers at once.


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="paretoray")
@click.option("-v", "--verbose", count=True, help="Say on standard error what happens; twice for details.")
def main(verbose: int) -> None:
    """Multi-objective neural architecture search on a Ray cluster."""
    from orchestrator.runs.process import outlive_readers

    outlive_readers()
    if verbose:
        from orchestrator.search.logs import show

        show(verbose)
    # torch warns on machines that have a CUDA compiler and no GPU; nothing here compiles.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


def _guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Turns the errors that we expect into one message and an exit code, and says of others what was being done."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        from orchestrator.runs.process import ending_like_ctrl_c

        try:
            with ending_like_ctrl_c():
                command(*arguments, **options)
        except InputError as error:
            click.echo(f"error: {shortened(str(error))}", err=True)
            sys.exit(2)
        except Fault as fault:
            click.echo(fault, err=True)
            sys.exit(1)
        except (RunError, OSError) as error:
            click.echo(f"error: {shortened(str(error))}", err=True)
            sys.exit(1)
        except (click.ClickException, click.exceptions.Exit, click.Abort, Interrupted):
            raise
        except Exception as error:
            if out_of_memory(error):
                said = "choose fewer channels or cells, smaller images, or a smaller batch"
                click.echo(f"error: not enough memory ({first_line(error)}); {said}", err=True)
                sys.exit(1)
            click.echo(unexpected(error, click.get_current_context().command_path), err=True)
            sys.exit(1)

    return run


@main.command()
@click.argument("settings", nargs=-1, metavar="[RUN.toml] [section.key=value ...]")
@click.option("--out", type=click.Path(path_type=Path), help="Run directory; the default is runs/ and the time of day.")
@click.option(
    "--sweep",
    "varied",
    multiple=True,
    metavar="section.key=V,V,...",
    help="Search once for each value, side by side, and merge the fronts; several of them make a grid.",
)
@click.option("--seeds", type=int, default=1, show_default=True, help="Number of seeds; each is a separate search.")
@click.option("--dry-run", is_flag=True, help="Check everything, print what would run and for about how long; start nothing.")
@_guarded
def search(settings: tuple[str, ...], out: Path | None, varied: tuple[str, ...], seeds: int, dry_run: bool) -> None:
    """Search for a front, retrain some of it, and write a report.

    Without RUN.toml it is the built-in experiment: TND-NAS over NAS-Bench-201 cells on scikit-learn's digits.

    \b
    paretoray search
    paretoray search data.name=folder data.path=photos data.size=32 --out runs/photos
    paretoray search objectives.macs={} searcher.exponents=-0.07,-0.1,-0.07
    paretoray search searcher.name=proxyless-r --sweep searcher.power=0.02,0.05,0.1 --seeds 2
    paretoray search objectives.latency.at_most=2.5 workers.ray=false workers.count=1 --dry-run
    """
    from orchestrator.config.overrides import arguments
    from orchestrator.config.plan import SearchPlan
    from orchestrator.runs import run, sweep
    from orchestrator.runs.directory import check_out, fresh
    from orchestrator.runs.estimate import estimate
    from orchestrator.runs.proxy import settled

    path, overrides = arguments(settings)
    experiments = sweep.plan(path, overrides, varied, seeds)
    first = experiments[0][1]
    if out is not None:
        check_out(out)
    plan, why = settled(SearchPlan.of(first))
    if dry_run:
        if len(experiments) > 1:
            click.echo(f"{len(experiments)} searches; the first of them:")
        _print_plan(estimate(plan) | ({"proxy": f"auto: {why}"} if why else {}))
        return
    if why:
        click.echo(f"proxy = auto: {why}")
    # A sweep's searches agree in their data, space, proxy and objectives.
    searches = [
        (differs, SearchPlan(replace(experiment, proxy=plan.proxy), plan.problem)) for differs, experiment in experiments
    ]
    for _, chosen in searches:
        run.check(chosen)
    name = re.sub(r"[^\w.-]", "-", f"{first.searcher.name}-{first.data.name}")
    directory = out or fresh(Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    _go(plan, directory, new=True, searches=searches if len(searches) > 1 else ())


trusting = click.option(
    "--trust", "trusted", is_flag=True, help="Import the code that a run directory names, though somebody else made it."
)


@main.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.argument("settings", nargs=-1, metavar="[section.key=value ...]")
@trusting
@_guarded
def resume(directory: Path, settings: tuple[str, ...], trusted: bool) -> None:
    """Continue the run in DIRECTORY from its last checkpoint, or a finished one with a larger budget.

    What can change is the budget, retrain.*, front.members and workers.*; the rest is what was searched, and stays.
    Objectives can be added; they are measured for the members of the front.

    \b
    paretoray resume runs/photos
    paretoray resume runs/photos budget.epochs=150 retrain.members=8
    paretoray resume runs/photos objectives.latency@me={}
    """
    from orchestrator.config import overrides
    from orchestrator.config.plan import SearchPlan
    from orchestrator.runs import extension, run
    from orchestrator.runs.directory import open_run

    if settings:
        plan = extension.apply(directory, overrides.changes(settings), trust=trusted)
    else:
        plan = SearchPlan.of(open_run(directory, trust=trusted))
    if run.is_done(plan, directory):
        click.echo(f"{directory} is finished: {directory / 'report.html'}\n{extension.how_to_go_on(plan, directory)}")
        return
    run.check(plan)
    _go(plan, directory)


@main.command()
@click.argument("directories", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR ...")
@click.option(
    "--with", "references", multiple=True, type=click.Path(path_type=Path), metavar="DIR",
    help="Another run, or a network of `paretoray train`, to be shown beside the front; may be given more than once.",
)  # fmt: skip
@trusting
@_guarded
def report(directories: tuple[Path, ...], references: tuple[Path, ...], trusted: bool) -> None:
    """Write report.html of each run directory anew."""
    from orchestrator.config.plan import SearchPlan
    from orchestrator.runs.directory import open_run
    from orchestrator.runs.report import write_report

    for directory in directories:
        plan = SearchPlan.of(open_run(directory, trust=trusted))
        click.echo(str(write_report(plan, directory, references, trust=trusted)))


@main.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="RUN|DIR")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Port; 0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on, of loopback.")
@_guarded
def watch(directory: Path, port: int, host: str) -> None:
    """Serve the page of a run while it goes on, or of all runs in a folder, for a browser on this machine.

    The page is that of the report, made anew whenever there are results, with progress, time left, workers and the end of the
    log. Nothing is written; Ctrl-C ends it, and not the run. For a run on another machine, forward the port with ssh -L.

    \b
    paretoray watch runs/photos
    paretoray watch runs --port 8000
    """
    from orchestrator.runs.watch import Watch

    watching = Watch(directory, host, port)
    click.echo(f"{directory} is shown at {watching.address} (Ctrl-C ends this)")
    try:
        watching.serve()
    except KeyboardInterrupt:
        click.echo("no longer shown")


@main.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--table", "tables", multiple=True, type=click.Path(path_type=Path),
    help="Trained networks: Parquet, CSV or JSON with a column arch, or a shipped table's name; several are joined by arch.",
)  # fmt: skip
@click.option("--column", help="The table's column that is the truth.")
@click.option("--maximize", multiple=True, metavar="COLUMN", help="More of it is better, where its name does not say so.")
@click.option("--minimize", multiple=True, metavar="COLUMN", help="Less of it is better, likewise.")
@click.option("--networks", type=int, default=100, show_default=True, help="Random networks to rank.")
@click.option("--retrain", "members", type=int, help="Without --table: so many of them are trained from scratch.  [default: 8]")
@click.option("--images", type=int, help="Images of the validation set to measure inherited accuracies on; all by default.")
@trusting
@_guarded
def trust(directory: Path, **given: Any) -> None:
    """Measure whether the shared weights of a finished search rank networks as they truly are.

    The truth is a table, or training from scratch with the search's own [retrain] settings. The same command goes on with what
    was interrupted. Writes trust.csv, trust.json, and report.html anew.

    \b
    paretoray trust runs/photos --retrain 12
    paretoray trust runs/tiny --table digits-tiny --column test_accuracy
    """
    from orchestrator.trust import command as trust

    console = Console()
    try:
        found, flags = trust.main(console, directory, **given)
    except (Interrupted, KeyboardInterrupt):
        click.echo("interrupted; what was measured and trained is kept, and the same command goes on", err=True)
        sys.exit(130)
    table = Table("what", "value", "what it means")
    for row in found:
        table.add_row(*map(escape, row))
    console.print(table)
    for line in [*(f"warning: {flag}" for flag in flags), f"report: {directory / 'report.html'}"]:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


@main.command()
@click.argument("settings", nargs=-1, metavar="[RUN | RUN.toml] [section.key=value ...]")
@click.option(
    "--proxy", "named", multiple=True, metavar="key=V,key=V,...",
    help="A proxy to try, as size=8,cells=3,epochs=10; may be given more than once.  [default: pixels, cells, channels halved]",
)  # fmt: skip
@click.option("--levels", "of_levels", type=int, default=5, show_default=True, help="Cost levels.")
@click.option("--each", type=int, default=4, show_default=True, help="Good networks of each level.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder; by default RUN/proxies, or runs/proxies and the time of day."
)
@trusting
@_guarded
def proxies(
    settings: tuple[str, ...], named: tuple[str, ...], of_levels: int, each: int, out: Path | None, trusted: bool
) -> None:
    """Measure whether smaller networks on less data order good networks of one cost as the target does.

    Some networks, chosen within cost levels and among good ones, are trained at the target and at every proxy with the
    experiment's [retrain] settings: on the train part, judged on the validation part. Which ones are good is said by the
    measurements of a run directory, or else by the cheapest proxy. The same command with the same --out goes on with what was
    interrupted. Writes proxies.csv, proxies.json and proxies.png.

    \b
    paretoray proxies runs/photos --proxy size=16,cells=1 --proxy size=8,cells=3
    paretoray proxies run.toml retrain.epochs=12 --proxy size=8,epochs=6 --levels 6 --each 5 --out runs/proxies
    """
    from analysis.proxies import shown
    from orchestrator.config.overrides import arguments
    from orchestrator.runs.directory import fresh
    from orchestrator.trust import proxies as study

    path, overrides = arguments(settings)
    run, plan = study.experiment(path, overrides, trust=trusted)
    directory = out or (run / "proxies" if run else fresh(Path("runs") / f"proxies-{time.strftime('%Y%m%d-%H%M%S')}"))
    console = Console()
    try:
        judged, said = study.main(console, plan, directory, named, of_levels=of_levels, each=each, run=run)
    except (Interrupted, KeyboardInterrupt):
        click.echo(f"interrupted; what was trained is kept, and the same command with --out {directory} goes on", err=True)
        sys.exit(130)
    table = Table("proxy", "seconds a network", "tau, all", "concordance within cost levels")
    for row in judged:
        table.add_row(escape(row.name), f"{row.seconds:.3g}", shown(row.tau), shown(row.within))
    console.print(table)
    for line in (said, f"picture: {directory / study.PICTURE}"):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


PLAYED = "random-search,nsga2,pymoo-algorithm:algorithm=SMSEMOA,aging-evolution,local-search,tnd-nas,surrogate-search"


@main.command()
@click.argument("settings", nargs=-1, metavar="[RUN.toml] [section.key=value ...]")
@click.option(
    "--table", "paths", multiple=True, type=click.Path(path_type=Path),
    help="Trained networks: Parquet, CSV or JSON with a column arch, or a shipped table's name; several are joined by arch.",
)  # fmt: skip
@click.option("--space", help="The space that arch is written in.")
@click.option("--objectives", metavar="A,B,...", help="Columns of the table, an accuracy or error first.")
@click.option(
    "--maximize", multiple=True, metavar="A", help="A column of which more is better, where its name does not say so."
)
@click.option("--minimize", multiple=True, metavar="A", help="A column of which less is better, likewise.")
@click.option("--searchers", default=PLAYED, metavar="X,Y,...", help="Names, with settings as nsga2:population=40.")
@click.option("--budget", type=float, help="Different architectures for each to evaluate.  [default: 400]")
@click.option("--time", "column", help="Column with the time of an evaluation; --budget is then in its unit.")
@click.option("--sha256", multiple=True, help="Expected SHA-256 of the table's file; one for each --table.")
@click.option("--seconds", type=float, help="Compare whole searches: seconds for each.")
@click.option("--images", type=float, help="Compare whole searches: images for each to train its weights on.")
@click.option("--seeds", type=int, help="[default: 20, 3 of whole searches]")
@click.option("--workers", type=int, help="With a table: runs at a time, each on a CPU; by default as many as there are CPUs.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder; the default is runs/bench and the time of day.")
@_guarded
def bench(settings: tuple[str, ...], **given: Any) -> None:
    """Compare searchers at equal cost: on a table of trained networks, or whole searches that train their own weights.

    On a table the cost is evaluations, and the default is the table that is shipped: every network of digits-tiny, trained on
    scikit-learn's digits. Whole searches need an experiment, as `paretoray search` does, and --seconds or --images; with
    --table their fronts are judged by it, otherwise by retraining.

    The same command goes on with a benchmark that was interrupted, or adds searchers and seeds to it, given its --out.

    \b
    paretoray bench
    paretoray bench --table nas-bench-201.parquet --space nas-bench-201 --objectives cifar10_val_accuracy,params \\
        --searchers random-search,nsga2,nsga2:population=40,tnd-nas --budget 200 --seeds 10
    paretoray bench space.name=digits-tiny objectives=error,parameters --seconds 60 \\
        --searchers tnd-nas,random-search,nsga-net:training.name=from-scratch:training.epochs=10
    """
    from orchestrator.bench import command as bench
    from orchestrator.runs.directory import fresh

    console = Console()
    directory = given.pop("out") or fresh(Path("runs") / f"bench-{time.strftime('%Y%m%d-%H%M%S')}")
    try:
        shown = bench.main(console, settings, directory, **given)
    except (Interrupted, KeyboardInterrupt):
        click.echo(f"interrupted; what is finished is kept, and the same command with --out {directory} goes on", err=True)
        sys.exit(130)
    table = Table()
    for head in shown[0]:
        table.add_column(head, overflow="fold")  # settings of a searcher are part of its name
    for row in shown[1:]:
        table.add_row(*row)
    console.print(table)
    click.echo(f"report: {directory / 'report.html'}")


@main.command()
@click.argument("source", metavar="PATH|module:function|NAME")
@click.argument("settings", nargs=-1, metavar="[data.KEY=value ...]")
@click.option("--out", type=click.Path(path_type=Path), help="Draw examples of every class: a PNG, or a folder for one.")
@_guarded
def data(source: str, settings: tuple[str, ...], out: Path | None) -> None:
    """Print how data is understood, and what looks wrong: a folder of images, your own function, or a data set by name.

    \b
    paretoray data photos data.size=32 --out photos.png
    paretoray data scans:load data.part=left
    """
    from orchestrator.data import inspection, loaders

    images = loaders.load(inspection.source_of(source, settings))
    for key, value in inspection.facts(images).items():
        click.echo(f"{key:<11} {value}")
    for doubt in inspection.doubts_about(images):
        click.echo(f"{'warning':<11} {doubt}")
    if out is not None:
        click.echo(f"{'examples':<11} {inspection.draw(images, out)}")


@main.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="RUN")
@click.argument("settings", nargs=-1, metavar="[key=value ...]")
@click.option("--members", type=int, help="Number of networks of the front that are trained.")
@click.option("--epochs", type=int, help="Passes over the images, for each of them.")
@click.option("--recipe", help="Recipe of training, as `paretoray list recipes` shows them.")
@trusting
@_guarded
def retrain(
    directory: Path, settings: tuple[str, ...], members: int | None, epochs: int | None, recipe: str | None, trusted: bool
) -> None:
    """Train members of the front of a finished RUN from scratch, more of them, longer, or by another recipe.

    Further settings are keys of [retrain]. Networks that were trained with other settings are trained anew, so that all of them
    are comparable; whatever is not given stays as it was.

    \b
    paretoray retrain runs/photos --members 8
    paretoray retrain runs/photos --recipe darts --epochs 100 cutout=8 seeds=3
    """
    from orchestrator.config import overrides
    from orchestrator.config.plan import SearchPlan
    from orchestrator.runs import extension, run
    from orchestrator.runs.directory import open_run

    options = {"members": members, "epochs": epochs, "recipe": recipe}
    given = [f"retrain.{key}={value}" for key, value in options.items() if value is not None]
    given += [text if text.startswith("retrain.") else f"retrain.{text}" for text in settings]
    if not given:
        raise InputError("nothing to change; write --members 8, --epochs 100 or --recipe darts, say")
    plan = SearchPlan.of(open_run(directory, trust=trusted))
    if not run.is_searched(plan, directory):
        more = " ".join(given)
        raise InputError(f"the search of {directory} is not finished; go on with: paretoray resume {directory} {more}")
    plan = extension.apply(directory, overrides.changes(given), trust=trusted)
    run.check(plan)
    _go(plan, directory)


@main.command()
@click.argument("space", metavar="SPACE|SEARCHER|OBJECTIVE|RECIPE")
@click.argument("arguments", nargs=-1, metavar="[ARCHITECTURE or published name] [key=value ...]")
@click.option(
    "--kind", type=click.Choice(["space", "searcher", "objective", "recipe"]), help="Kind of the name; found by itself."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--out", type=click.Path(path_type=Path), help="Draw the architecture: a PNG and a DOT file for each part.")
@_guarded
def describe(space: str, arguments: tuple[str, ...], kind: str | None, as_json: bool, out: Path | None) -> None:
    """Print what a searcher or an objective does, and its settings; a space's choices and size; an architecture's notation,
    parameters, MACs and structure; or what a recipe of training consists of.

    A name that a space, a searcher and a recipe share is the space's; --kind describes the others.

    \b
    paretoray describe nsga2
    paretoray describe darts --kind searcher
    paretoray describe darts --kind recipe
    paretoray describe darts
    paretoray describe darts DARTS_V2 channels=36 cells=20 --json
    paretoray describe proxyless PROXYLESS_GPU --out pictures
    paretoray describe my_network:build image=1,8,8 classes=10
    """
    import json

    from orchestrator import describe as descriptions
    from orchestrator.config import overrides
    from orchestrator.config.spaces import find_space
    from orchestrator.registry import known, user_parameters
    from orchestrator.training.recipe import names as recipe_names

    kinds = [k for k in ("space", "searcher", "objective") if space in known(k)]
    kinds += ["recipe"] if space in recipe_names() else []
    kind = kind or (kinds[0] if kinds else "objective" if "@" in space else "space")
    if kind != "space":
        if arguments or out is not None:
            raise InputError(f"{space} is a {kind}, which has no architectures; write its name alone, or --kind space")
        facts = descriptions.describe_component(kind, space)
        click.echo(json.dumps(facts, default=str) if as_json else "\n".join(descriptions.component_lines(facts)))
        return
    # A notation may hold an equals sign itself, as a genotype does; a setting begins with its name and one.
    keys = user_parameters(find_space(space), ())
    settings = [a for a in arguments if a.partition("=")[0] in keys and "=" in a]
    wrong = [a for a in arguments if a not in settings and re.match(r"[A-Za-z_]\w*=", a) and "|" not in a]
    if wrong and ":" not in space:  # only notations of users' own spaces begin like that
        settings += wrong
    named = [a for a in arguments if a not in settings]
    if len(named) > 1:
        raise InputError(f"expected one architecture and settings as key=value; got {' '.join(map(shlex.quote, named))}")
    described = descriptions.describe(space, named[0] if named else None, overrides.settings(settings))
    if out is not None and described.architecture is None:
        raise InputError("--out draws an architecture: name one, or write its notation")
    pictures = descriptions.write(described, out) if out is not None else []
    if as_json:
        click.echo(json.dumps(described.facts))
        return
    click.echo("\n".join([*descriptions.lines(described), *(f"drawn: {path}" for path in pictures)]))
    if others := [k for k in kinds if k != "space"]:
        click.echo(f"\n{space} is a {others[0]}, too: paretoray describe {space} --kind {others[0]}")


@main.command()
@click.argument("space")
@click.argument("architecture", metavar="ARCHITECTURE|NAME")
@click.argument("settings", nargs=-1, metavar="[section.key=value ...]")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the weights and the result.")
@_guarded
def train(space: str, architecture: str, settings: tuple[str, ...], out: Path) -> None:
    """Train one network from scratch and test it, as the members of a front are: a point to compare fronts with.

    Data, space and retrain sections are those of a search; without any, it trains on scikit-learn's digits. The same command
    goes on with a training that was interrupted.

    \b
    paretoray train darts DARTS_V2 space.channels=8 space.cells=5 --out runs/darts-v2
    paretoray train darts DARTS_V2 data.name=folder data.path=photos data.size=32 \\
        retrain.recipe=darts retrain.seeds=3 --out runs/v2
    paretoray train nas-bench-201 '|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|' \\
        data.name=folder data.path=photos data.size=32 retrain.epochs=50 --out runs/one
    """
    from analysis.records import CONFIDENCE, TEST_DEVIATION
    from orchestrator.runs.display import Display
    from orchestrator.runs.process import heeding_ctrl_c
    from orchestrator.runs.training import Training, interval
    from orchestrator.search.control import stop_file

    console = Console()
    plain: dict[str, Any] = {"highlight": False, "soft_wrap": True}
    training = Training.of(space, architecture, settings)

    def announce() -> None:
        data, counts = training.plan.problem.data, training.counts
        console.print(
            f"{counts['parameters']:,} parameters, {counts['macs']:,} MACs; {len(data.train) + len(data.valid)} images; "
            f"{training.plan.retraining.words}",
            **plain,
        )

    try:
        with heeding_ctrl_c(stop_file(out), console.print):
            result = training.run(out, Display(console), announce)
    except (Interrupted, KeyboardInterrupt):
        click.echo("interrupted; the same command goes on", err=True)
        sys.exit(130)
    error, images = result["test_error_percent"], result["test_images"]
    several = f" \N{PLUS-MINUS SIGN} {result[TEST_DEVIATION]:.2f}" if TEST_DEVIATION in result else ""
    known = "{:.1f} to {:.1f} %, the {:.0%} interval of".format(*interval(result), CONFIDENCE)
    console.print(f"test error {error:.2f}{several} % ({known} {images} images); weights in {out / 'network.pt'}", **plain)


@main.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="RUN")
@click.option("--member", type=int, help="Number of the network, as on the report and in front.csv.")
@click.option("--knee", is_flag=True, help="The knee of the front, which the report recommends.")
@click.option(
    "--under", multiple=True, metavar="OBJECTIVE=LIMIT",
    help="The lowest test error within a limit, as latency=5; may be given more than once.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the files; it must be empty or new.")
@click.option(
    "--formats", metavar="A,B,...", help="Some of network, onnx, pt2, torchscript, int8.  [default: network,onnx,pt2]"
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@trusting
@_guarded
def export(
    directory: Path,
    member: int | None,
    knee: bool,
    under: tuple[str, ...],
    out: Path,
    formats: str | None,
    as_json: bool,
    trusted: bool,
) -> None:
    """Write a retrained network of RUN as files that need no paretoray, each tried against the network.

    network.py is readable PyTorch source of this network alone, whose weights are in network.safetensors; network.onnx runs in
    ONNX Runtime, network.pt2 with torch.export.load. Preprocessing and classes are in all of them, and in preprocess.py;
    card.md says what the network is, how good, and how to use it.

    \b
    paretoray export runs/photos --member 3 --out cats
    paretoray export runs/photos --under latency=5 --formats onnx,int8 --out cats
    """
    import json

    from orchestrator.export import command
    from orchestrator.export.choice import choose

    chosen = command.parse_formats(formats)
    command.check_free(out)
    number = choose(directory, member, knee, under)
    invocation = shlex.join(["paretoray", *sys.argv[1:]]) if Path(sys.argv[0]).stem == "paretoray" else ""

    def say(name: str) -> None:
        if sys.stderr.isatty():  # torch's exporters take minutes with large networks
            click.echo(f"writing {name}", err=True)

    try:
        done = command.export_member(directory, number, out, chosen, trust=trusted, command=invocation, say=say)
    except KeyboardInterrupt:
        click.echo("interrupted; nothing was kept", err=True)
        sys.exit(130)
    click.echo(json.dumps(done.to_dict()) if as_json else "\n".join(done.lines()))
    if done.refused:
        sys.exit(1)


@main.command()
@click.argument("settings", nargs=-1, metavar="[key=value ...]")
@click.option("--space", required=True, help="The space to measure; key=value are its settings, image and classes among them.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The device's file, NAME.toml.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, or onnxruntime (on the CPU).")
@click.option("--batch", type=int, default=1, show_default=True, help="Images per pass.")
@click.option("--threads", type=int, default=1, show_default=True)
@click.option("--dtype", default="float32", show_default=True, help="float32, float16 or bfloat16.")
@click.option("--resolution", type=int, help="Height and width of the images.")
@click.option("--networks", type=int, help="Random networks that costs are fitted to; 100, and 300 with --fit.")
@click.option("--validation", type=int, default=50, show_default=True, help="Others, on which the prediction is tried.")
@click.option("--rounds", type=int, default=5, show_default=True, help="Measurements of each operation and network.")
@click.option("--seconds", type=float, default=0.02, show_default=True, help="The least time of a measurement.")
@click.option("--energy", is_flag=True, help="Read the device's energy counter, too.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the choice of networks.")
@click.option("--fit", "table", type=click.Path(path_type=Path), help="Measure nothing; fit to a table of measured networks.")
@click.option(
    "--from-table", "operations", type=click.Path(path_type=Path),
    help="Measure nothing; add up a table of single operations, as ProxylessNAS and Once-for-all have them (YAML, JSON, text).",
)  # fmt: skip
@click.option("--column", help="With --fit: the column; in ms (mJ for energy), or with its unit in the name, as latency_us.")
@click.option("--cost", default="latency", show_default=True, help="With --fit: what it is, latency or energy.")
@click.option("--hardware", help="The device in words; found out by itself where it is measured.")
@click.option("--source", help="With --fit and --from-table: where the table is from.")
@click.option("--address", help="Of a Ray cluster, one of whose nodes is to be measured; auto finds the one this is part of.")
@click.option("--accelerator", help="With --address: the node's accelerator type, as H100.")
@click.option("--label", help="With --address: the node's label, KEY=VALUE.")
@click.pass_context
@_guarded
def profile(context: click.Context, **given: Any) -> None:
    """Measure what networks of a space cost on a device, for latency@NAME and energy@NAME.

    The same command goes on with a measurement that was interrupted.

    \b
    paretoray profile --space nas-bench-201 channels=16 cells=5 --out me.toml
    paretoray profile --space proxyless --resolution 224 --device onnxruntime --threads 2 --out me.toml
    paretoray profile --space nas-bench-201 --fit measured.csv --column latency_ms --hardware "my phone" --out phone.toml
    paretoray profile --space proxyless --resolution 224 --from-table mobile_trim.yaml --out pixel.toml
    paretoray search objectives.latency@me={} space.channels=16 space.cells=5 data.name=cifar10 data.path=...
    """
    from orchestrator.profiling import command as profiling

    source = click.core.ParameterSource.COMMANDLINE
    said = {option for option in given if context.get_parameter_source(option) is source}
    unused = profiling.unused(said)
    if unused:
        named = sorted("fit" if option == "table" else option for option in unused)
        one = "with --from-table" if given["operations"] else f"with{'' if given['table'] else 'out'} --fit"
        raise InputError(f"{', '.join(f'--{option}' for option in named)} means nothing {one}; leave it out")
    console = Console()
    try:
        profiling.main(console, **given)
    except KeyboardInterrupt:
        click.echo("interrupted; what was measured is kept, and the same command goes on", err=True)
        sys.exit(130)


@main.command()
@click.argument("names", nargs=-1, metavar="[DEVICE ...]")
@click.option("--space", help="Compare only profiles of this space.")
@click.option("--cost", default="latency", show_default=True, help="latency or energy.")
@click.option("--out", type=click.Path(path_type=Path), help="Draw how they disagree: a PNG for each kind of networks.")
@_guarded
def devices(names: tuple[str, ...], space: str | None, cost: str, out: Path | None) -> None:
    """Compare devices: how well each predicts, and how far they agree on which networks are fast.

    DEVICE is a name that `paretoray list devices` prints, or a file; all that are shipped by default.
    """
    from orchestrator.profiling import compare

    compare.show(Console(), names, space, cost, out)


@main.command("list")
@click.argument(
    "what", type=click.Choice(["searchers", "spaces", "objectives", "evaluators", "devices", "datasets", "recipes"])
)
def list_names(what: str) -> None:
    """Print the names that an experiment may use: on a terminal each with a sentence, otherwise alone, one per line.

    `paretoray describe` has the settings of searchers, objectives and spaces, and the parts of recipes.
    """
    described = _listed(what)
    if not sys.stdout.isatty():
        click.echo("\n".join(described))
        return
    table = Table.grid(padding=(0, 2))
    for name, text in described.items():
        table.add_row(escape(name), escape(text))
    Console().print(table)


def _listed(what: str) -> dict[str, str]:
    from orchestrator import registry

    if what == "devices":
        from hw_profiles import profile

        return {name: profile.read(path)[0].hardware for name, path in profile.devices().items()}
    if what == "datasets":
        from orchestrator.data import loaders

        return {name: registry.first_sentence(load.__doc__ or "") for name, load in loaders.LOADERS.items()}
    if what == "recipes":
        from orchestrator.training.recipe import names, recipe

        return {name: recipe(name).about for name in names()}
    if what == "evaluators":
        from orchestrator.config.experiment import EVALUATORS

        ours = {name: registry.first_sentence(cls.__doc__ or "") for name, cls in EVALUATORS.items()}
        return ours | registry.summaries("evaluator")
    return registry.summaries(what.removesuffix("s"))


def _go(plan: Any, directory: Path, new: bool = False, searches: Any = ()) -> None:
    from orchestrator.runs import run
    from orchestrator.runs.display import Display
    from orchestrator.runs.process import heeding_ctrl_c
    from orchestrator.search.control import stop_file

    console = Console()
    plain: dict[str, Any] = {"soft_wrap": True, "highlight": False, "markup": False}
    try:
        with heeding_ctrl_c(stop_file(directory), console.print):
            run.go(plan, directory, Display(console), new=new, searches=searches)
    except (Interrupted, KeyboardInterrupt):
        console.print(f"interrupted; continue with: paretoray resume {shlex.quote(str(directory))}", **plain)
        sys.exit(130)
    _print_front(console, plan, directory)


def _print_front(console: Console, plan: Any, directory: Path) -> None:
    import json

    from analysis import front_table, members, records
    from orchestrator.runs.retraining import read_retrained

    plain: dict[str, Any] = {"soft_wrap": True, "highlight": False, "markup": False}
    summary = json.loads((directory / records.SUMMARY).read_text())
    searched = records.read_front(directory / records.FRONT, list(summary["objectives"]))
    front = members.of_run(searched, read_retrained(plan, directory), summary)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for head in front_table.heads(front, summary, short=True):
        # Numbers are never cut; what is too wide for the console is folded elsewhere.
        words = head == "standing"
        title = head.replace("_percent", " (%)").replace("test_", "test ")
        table.add_column(escape(title), justify="left" if words else "right", no_wrap=not words, overflow="fold")
    if front.empty:
        limits = front_table.limits(summary)
        console.print(f"no network that was measured keeps the limits ({limits}); loosen one, or search longer", **plain)
    rows = front_table.rows(front, summary)
    for row in rows:
        table.add_row(*(" ".join(filter(None, cell)) for cell in row.cells), style="dim" if row.faint else None)
    for line in front_table.lead(front, summary):
        console.print(line, **plain)
    console.print(table)
    for row in rows:
        console.print(f"{row.cells[0][0]:>3}  {row.arch}", **plain)
    _print_failures(console, directory, summary)
    for warning in members.noisy(front, summary):
        console.print(f"warning: {warning}", **plain)
    console.print(f"report: {directory / 'report.html'}", **plain)


def _print_failures(console: Console, directory: Path, summary: dict[str, Any]) -> None:
    from analysis import records

    plain: dict[str, Any] = {"soft_wrap": True, "highlight": False, "markup": False}
    failures = records.read_failures(directory / records.FAILURES)
    if len(failures):
        console.print(f"{len(failures)} networks failed, and count for nothing ({records.FAILURES}):", **plain)
    for reason, count, _ in records.reasons(failures)[:5]:
        console.print(f"{count:>5}  {reason}", **plain)
    for arch, reason in summary.get(records.RETRAINING_FAILED, {}).items():
        console.print(f"warning: {arch} could not be trained from scratch: {reason}", **plain)


def _print_plan(plan: dict[str, Any]) -> None:
    from orchestrator.runs.display import duration

    seconds = plan.pop("seconds")
    for key, value in plan.items():
        click.echo(f"{key:<11} {value}")
    click.echo(f"{'time':<11} about {duration(seconds)} on this machine, start-up excluded; nothing was started")


if __name__ == "__main__":
    main()
