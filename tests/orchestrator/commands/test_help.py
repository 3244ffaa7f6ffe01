"""Help texts: whole sentences in the list of commands, options in groups, examples whose options and names exist."""

import re
import shlex

import click
import pytest

from orchestrator import registry
from orchestrator.cli import main
from orchestrator.commands import candidates
from tests.helpers import call

COMMANDS = sorted(main.commands)


def examples(name: str) -> list[str]:
    """Return the command lines in a command's help, each in one line."""
    text = (main.commands[name].help or "").replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip().startswith("paretoray ")]


def test_no_sentence_of_the_list_of_commands_is_cut_off() -> None:
    listed = call("--help").output.partition("Commands:")[2]
    assert len(listed.strip().splitlines()) == len(COMMANDS) and "..." not in listed


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_and_describes_every_option(name: str) -> None:
    assert examples(name)
    for parameter in main.commands[name].params:
        assert not isinstance(parameter, click.Option) or parameter.help, parameter.name


@pytest.mark.parametrize("line", [line for name in COMMANDS for line in examples(name)])
def test_examples_can_be_parsed_and_their_settings_exist(line: str) -> None:
    _, name, *words = shlex.split(line)
    main.commands[name].make_context(name, list(words))  # fails for an option that there is not
    chosen = {"searcher": "tnd-nas", "space": "darts", "data": "folder", "training": "supernet"}
    chosen |= {section: value for section, value in re.findall(r"(\w+)\.name=([\w-]+)", line) if section in chosen}
    for section, key in re.findall(r" (\w+)\.(\w+)=", line):
        of_own = ":" in line  # whose keys are the user's
        known = registry.known("objective") if section == "objectives" else candidates.keys(section, chosen)
        assert of_own or key in known, f"{section}.{key}"
    for value in re.findall(r"searcher\.name=([\w-]+)", line):
        assert value in registry.known("searcher")


def test_options_of_profile_are_in_groups() -> None:
    told = call("profile", "--help").output
    heads = re.findall(r"^(\S.*):$", told, re.MULTILINE)
    assert heads == ["Options", "What is measured, and where", "How precisely", "From a table, in place of measuring"]
    assert told.index("How precisely") < told.index("  --rounds") < told.index("From a table,") < told.index("  --fit PATH")
    options = [option for parameter in main.commands["profile"].params for option in parameter.opts if option.startswith("--")]
    assert all(re.search(rf"^  (-h, )?{option}\b", told, re.MULTILINE) for option in options)


@pytest.mark.parametrize("name", COMMANDS)
def test_groups_name_options_that_there_are(name: str) -> None:
    command = main.commands[name]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {option for group in getattr(command, "groups", {}).values() for option in group} <= options
