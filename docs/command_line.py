"""Help of all commands as Markdown, from their parsers."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager

from cfd_coupling.__main__ import parser as flow_parser
from chemnet.cli.main import build_parser


def commands_as_markdown() -> str:
    """A section for each command of `chemnet` and of `python -m cfd_coupling` with the help that it prints."""
    with width(100):
        sections = (section(parser) for top in (build_parser(), flow_parser()) for parser in family(top))
        return "\n".join(sections)


@contextmanager
def width(columns: int) -> Iterator[None]:
    """Help in lines of so many columns."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(columns)
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        os.environ |= {} if before is None else {"COLUMNS": before}


def family(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of its commands, level by level."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from family(command)


def section(parser: argparse.ArgumentParser) -> str:
    """Heading and help of one command."""
    level = "##" if " " not in parser.prog.removeprefix("python -m ") else "###"
    return f"{level} `{parser.prog}`\n\n```text\n{parser.format_help()}```\n"
