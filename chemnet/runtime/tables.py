"""Tables of results, as text, Markdown and JSON, and histories as CSV."""

from __future__ import annotations

import csv
import itertools
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chemnet.runtime.files import atomic

_LONGEST = 100  # characters of a cell in a line


@dataclass(frozen=True)
class Table:
    """A title, column names, and rows; columns carry their units in brackets.

    A cell is a number, a word, None, a range (lowest, highest), or a list of any of these.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    @classmethod
    def of(cls, title: str, columns: Mapping[str, Any]) -> Table:
        """The table of columns of equal length, by their names."""
        return cls(title, tuple(columns), list(zip(*columns.values(), strict=True)))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Table:
        """The table that `as_json` wrote."""
        rows = content["rows"]
        return cls(content["title"], tuple(rows[0]) if rows else (), [tuple(row.values()) for row in rows])

    def text(self) -> str:
        """The table as aligned text; words that are long go on below."""
        cells = [list(self.columns), *(line for row in self.cells() for line in _wrapped(row))]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        lines = ["  ".join(map(_align, row, widths, self.holds_words())).rstrip() for row in cells]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        return "\n".join([self.title, rule, lines[0], rule, *lines[1:], rule])

    def __str__(self) -> str:
        return self.text()

    def cells(self) -> list[list[str]]:
        """The rows as text."""
        return [[cell(value) for value in row] for row in self.rows]

    def markdown(self) -> str:
        """The table in Markdown, without its title."""
        rules = ["---" if is_word else "--:" for is_word in self.holds_words()]
        rows = [list(self.columns), rules, *([_grouped(value) for value in row] for row in self.rows)]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def holds_words(self) -> list[bool]:
        """For each column whether it holds words, which align to the left."""
        return [any(isinstance(row[i], str) for row in self.rows) for i in range(len(self.columns))]

    def as_json(self) -> dict[str, Any]:
        """The table as plain data: the title and a list of {column: value}; None for what is not finite."""
        rows = [dict(zip(self.columns, map(_finite, row), strict=True)) for row in self.rows]
        return {"title": self.title, "rows": rows}


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a history atomically: a line of column names, then a line per row."""
    with atomic(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def _wrapped(row: Sequence[str]) -> list[list[str]]:
    """A row of text as one or more rows of cells that are not longer than a line."""
    parts = [textwrap.wrap(text, _LONGEST, break_long_words=False, break_on_hyphens=False) or [text] for text in row]
    return [list(line) for line in itertools.zip_longest(*parts, fillvalue="")]


def _align(text: str, width: int, is_word: bool) -> str:
    return text.ljust(width) if is_word else text.rjust(width)


def cell(value: Any) -> str:
    """A cell as text; of a range `lowest - highest`."""
    value = _plain(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple) and len(value) == 2:
        return " - ".join(map(cell, value))
    if isinstance(value, list | tuple):
        return " ".join(map(cell, value))
    return "-" if value is None else str(value)


def _grouped(value: Any) -> str:
    """As `cell`, with commas between thousands."""
    value = _plain(value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else cell(value)


def _plain(value: Any) -> Any:
    """numpy scalars become Python numbers, so that JSON takes them."""
    return value.item() if hasattr(value, "item") else value


def _finite(value: Any) -> Any:
    """As `_plain`, but JSON has no nan and no infinity."""
    value = _plain(value)
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
