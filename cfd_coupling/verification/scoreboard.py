"""Lines of the scoreboard, and the check that gives some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

COLUMNS = ("line", "measured", "target", "ok")


@dataclass(frozen=True)
class Line:
    """One line: what was measured, the figure or word, its target in words, and whether it was met.

    `ok` is None for a figure that is only reported, and for a line that could not be measured here.
    """

    name: str
    measured: float | str
    target: str
    ok: bool | None

    def row(self) -> tuple[str, float | str, str, str]:
        """The line in the order of COLUMNS."""
        return self.name, self.measured, self.target, {True: "yes", False: "NO", None: "-"}[self.ok]


@dataclass(frozen=True)
class Check:
    """A check: its name, what it measures, and the function of `quick` that gives its lines."""

    name: str
    measures: str
    lines: Callable[[bool], Iterable[Line]]


def at_least(name: str, figure: float, bound: float) -> Line:
    """A line whose figure must reach `bound`; a figure that is not a number does not."""
    return Line(name, figure, f">= {bound:g}", bool(figure >= bound))


def at_most(name: str, figure: float, bound: float) -> Line:
    """A line whose figure must not exceed `bound`; a figure that is not a number does."""
    return Line(name, figure, f"<= {bound:g}", bool(figure <= bound))


def equal(name: str, figure: str, wanted: str) -> Line:
    """A line whose word must be `wanted`."""
    return Line(name, figure, wanted, figure == wanted)


def reported(name: str, figure: float | str) -> Line:
    """A figure without a target."""
    return Line(name, figure, "reported", None)


def skipped(name: str, reason: str) -> Line:
    """A line that cannot be measured here, with the reason."""
    return Line(name, f"skipped: {reason}", "", None)
