"""Common parts of all commands: answers for people and programs, errors with exit codes, and options."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
from rich.console import Console, RenderableType

from analysis.files import Damaged
from orchestrator.errors import Fault, InputError, Interrupted, RunError, first_line, out_of_memory, shortened, unexpected

PLAIN: dict[str, Any] = {"soft_wrap": True, "highlight": False, "markup": False}
"""Arguments of rich's `print` for a line that is shown as it is."""


@dataclass(frozen=True)
class Answer:
    """Result of a command, which `Command` prints.

    Args:
        facts: Values by name, for `--json`: anything that `plain` understands.
        text: The same for people: lines, and tables of rich.
        code: Exit code.
    """

    facts: Mapping[str, Any]
    text: Sequence[RenderableType]
    code: int = 0


class Command(click.Command):
    """Command that prints its `Answer` as text, or with `--json` as one document, and ends with a message and an exit code.

    With `--json` standard output is that document alone; whatever else is printed goes to standard error, progress among it.

    Args:
        answers: Whether the command has an answer, and so the option `--json`.
        groups: Options, as they are written, that belong together in the help, by the heading there; all others come first.
    """

    def __init__(
        self, *arguments: Any, answers: bool = True, groups: Mapping[str, Sequence[str]] | None = None, **attributes: Any
    ) -> None:
        super().__init__(*arguments, **attributes)
        self.groups = groups or {}
        if answers:
            option = click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON document, and nothing else.")
            self.params.append(option)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of the help, in their groups."""
        shown = [parameter for parameter in self.get_params(ctx) if isinstance(parameter, click.Option)]
        heads = {option: head for head, options in self.groups.items() for option in options}
        for head in dict.fromkeys(["Options", *self.groups]):
            records = [p.get_help_record(ctx) for p in shown if heads.get(p.opts[0], "Options") == head]
            if records:
                with formatter.section(head):
                    formatter.write_dl([record for record in records if record is not None])

    def invoke(self, context: click.Context) -> Any:
        """Run the command, and print its answer."""
        from orchestrator.runs.process import ending_like_ctrl_c

        as_json = context.params.pop("as_json", False)
        with _explaining_errors(context.command_path), ending_like_ctrl_c():
            for parameter in self.params:
                if isinstance(parameter.type, Place) and parameter.name is not None:
                    context.params[parameter.name] = parameter.type.found(context.params[parameter.name])
            if as_json:
                with _printing_to_stderr():
                    answer = super().invoke(context)
                click.echo(json.dumps(plain(answer.facts), allow_nan=False))
            elif (answer := super().invoke(context)) is not None:
                console = Console()
                for part in answer.text:
                    console.print(part, **PLAIN) if isinstance(part, str) else console.print(part)
        if answer is not None and answer.code:
            sys.exit(answer.code)


class Word(click.Choice[str]):
    """Parameter that is one of some words; an error names the most similar one."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Say what is wrong."""
        from orchestrator.registry import similar

        return super().get_invalid_choice_message(value, ctx).rstrip(".") + similar(str(value), self.choices)


def plain(value: Any) -> Any:
    """Return values as JSON has them: numbers that are not finite are null, tables lists of rows, paths and the like text."""
    if value is None or isinstance(value, (str, bool)) or type(value).__name__ in ("NAType", "NaTType"):
        return value if isinstance(value, (str, bool)) else None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (int, float)):
        return int(value) if isinstance(value, int) else float(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "to_dict"):  # a DataFrame
        return plain(value.to_dict("records"))
    if hasattr(value, "tolist"):  # arrays and numbers of numpy
        return plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    return str(value)


class Place(click.Path):
    """Parameter that is a path or the URL of a run in a store; commands get the path of a local copy.

    Args:
        kind: "run" for one that exists, "new" for one that does not, "either" for one that may, "page" for one that is only
            looked at, without its weights.
    """

    def __init__(self, kind: Literal["run", "new", "either", "page"] = "run") -> None:
        super().__init__(path_type=Path)
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Keep a URL as it is, as a path would lose a slash of it."""
        return value if _URL.match(str(value)) else super().convert(value, param, ctx)

    def found(self, value: Any) -> Any:
        """Return the path of each place, which is fetched or made room for first. Raises InputError and RunError."""
        if isinstance(value, tuple):
            return tuple(map(self.found, value))
        if not isinstance(value, str):
            return value
        from orchestrator.runs import staging

        if self.kind == "new":
            return staging.placed(value)
        if self.kind == "either":
            return staging.placed_or_opened(value, told)
        return staging.opened(value, weights=self.kind == "run", say=told)


_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def told(text: str) -> None:
    """Print a warning on standard error."""
    click.echo(f"warning: {text}", err=True)


@contextmanager
def _printing_to_stderr() -> Iterator[None]:
    """Send to standard error whatever is printed to standard output meanwhile, by libraries and child processes, too."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def _explaining_errors(command: str) -> Iterator[None]:
    """Turn expected errors into one message and an exit code; of others, say what was being done."""
    try:
        yield
    except InputError as error:
        _fail(f"error: {shortened(str(error))}", 2)
    except Fault as fault:
        _fail(str(fault), 1)
    except (RunError, OSError) as error:
        _fail(f"error: {shortened(str(error))}", 1)
    except Damaged as error:
        _fail(f"error: {shortened(str(error))}; put back a copy, or have it written again with: paretoray resume RUN", 1)
    except (click.ClickException, click.exceptions.Exit, click.Abort, Interrupted):
        raise
    except Exception as error:
        if out_of_memory(error):
            said = "choose fewer channels or cells, smaller images, or a smaller batch"
            _fail(f"error: not enough memory ({first_line(error)}); {said}", 1)
        _fail(unexpected(error, command), 1)


def _fail(message: str, code: int) -> None:
    click.echo(message, err=True)
    sys.exit(code)


@contextmanager
def interruptible(message: str) -> Iterator[None]:
    """End the command with exit code 130 and a message on standard error when it is interrupted."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        click.echo(message, err=True)
        sys.exit(130)


trusting = click.option(
    "--trust",
    "trusted",
    is_flag=True,
    help="Take a run directory as it stands, though somebody else made it, or it was edited: import the code that it names.",
)
