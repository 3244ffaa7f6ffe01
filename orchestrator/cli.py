"""The command line. Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted with the state saved."""

from __future__ import annotations

import logging

import click

from orchestrator.commands import completion
from orchestrator.commands.bench import bench
from orchestrator.commands.data import data
from orchestrator.commands.describe import describe, list_names
from orchestrator.commands.devices import devices, profile
from orchestrator.commands.export import export
from orchestrator.commands.pages import report, watch
from orchestrator.commands.resume import resume, retrain
from orchestrator.commands.schema import schema
from orchestrator.commands.search import search
from orchestrator.commands.train import train
from orchestrator.commands.trust import proxies, trust


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


completion.register()
# Everything heavy is imported inside the commands, so that --help answers at once.
for command in (
    search, resume, retrain, report, watch, train, export, describe, list_names, schema, data, profile, devices, trust, proxies,
    bench,
):  # fmt: skip
    main.add_command(command)


if __name__ == "__main__":
    main()
