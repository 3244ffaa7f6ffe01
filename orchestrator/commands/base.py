"""What all commands have in common: their errors, their exit codes, and options that several of them take."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from orchestrator.errors import Fault, InputError, Interrupted, RunError, first_line, out_of_memory, shortened, unexpected

PLAIN: dict[str, Any] = {"soft_wrap": True, "highlight": False, "markup": False}
"""Arguments of rich's `print` for a line that is shown as it is."""


class Command(click.Command):
    """Command that reports expected errors in one message with an exit code, and of others says what was being done."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command."""
        from orchestrator.runs.process import ending_like_ctrl_c

        try:
            with ending_like_ctrl_c():
                return super().invoke(context)
        except InputError as error:
            _fail(f"error: {shortened(str(error))}", 2)
        except Fault as fault:
            _fail(str(fault), 1)
        except (RunError, OSError) as error:
            _fail(f"error: {shortened(str(error))}", 1)
        except (click.ClickException, click.exceptions.Exit, click.Abort, Interrupted):
            raise
        except Exception as error:
            if out_of_memory(error):
                said = "choose fewer channels or cells, smaller images, or a smaller batch"
                _fail(f"error: not enough memory ({first_line(error)}); {said}", 1)
            _fail(unexpected(error, context.command_path), 1)


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
    "--trust", "trusted", is_flag=True, help="Import the code that a run directory names, though somebody else made it."
)
