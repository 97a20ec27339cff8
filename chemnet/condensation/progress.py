"""Progress of a condensation, told line by line, with an estimate of the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

Report = Callable[[Any], object]  # takes lines of text and, at the end, a Table
Each = TypeVar("Each")

_WORTH_TELLING = 5.0  # [s] that are left


def silent(line: Any) -> None:
    """Report of nothing."""


def steps(items: Sequence[Each], report: Report, name: Callable[[Each], str]) -> Iterator[Each]:
    """The items one after the other, with a line before each of them: its place, its name and the time that is left."""
    start = time.monotonic()
    for done, item in enumerate(items):
        left = (time.monotonic() - start) / done * (len(items) - done) if done else 0.0
        remark = f", about {left:.0f} s left" if left >= _WORTH_TELLING else ""
        report(f"{done + 1} of {len(items)}: {name(item)}{remark}")
        yield item
