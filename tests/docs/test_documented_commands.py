"""The commands of README and pages: the parsers take every one, as it stands and as it is shortened to be run."""

import re
import shlex

import pytest
from documented_commands import PAGES, SHORTER, commands, parse

from chemnet.runtime.errors import UsageError

COMMANDS = [command for page in PAGES for command in commands(page)]
OURS = [c for c in COMMANDS if not c.is_python and c.why != "a drawing" and re.search(r"^chemnet|cfd_coupling", c.text)]


def test_the_pages_have_many_commands():
    assert len(OURS) > 60 and any(command.is_python for command in COMMANDS)


@pytest.mark.parametrize("command", OURS, ids=lambda command: f"{command.page}: {command.text}")
def test_the_parsers_take_every_command(command):
    for text in {command.text, command.run or command.text}:
        for part in re.split(r" (?:&&|\|\|) ", text):
            if part.startswith(("chemnet", "python", "mpiexec")):
                parse(shlex.split(part))


def test_a_misspelt_option_is_found():
    with pytest.raises(UsageError, match="unrecognized"):
        parse(shlex.split("chemnet train --confg quick"))


def test_every_rule_shortens_some_command():
    unused = [pattern for pattern, _, _ in SHORTER if not any(re.search(pattern, c.text) for c in COMMANDS)]
    assert not unused
