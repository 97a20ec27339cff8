"""Figures of the validation: a value, and where the project has one, the target that it must meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chemnet.gas.state import Array
from chemnet.runtime.tables import Table

SUMMARY_OF = "the validation of"


@dataclass(frozen=True)
class Figure:
    """One figure of one check; None as value if there is none, which meets no target.

    The value must not exceed the target; where the target is a `lower` bound, not fall below it.
    """

    check: str
    name: str
    value: float | int | None
    target: float | int | None = None
    lower: bool = False

    @property
    def bound(self) -> float | int | str | None:
        """The target as it is shown."""
        return f">= {self.target:g}" if self.lower and self.target is not None else self.target

    @property
    def met(self) -> str | None:
        """`yes` or `no`; None without a target."""
        if self.target is None:
            return None
        if self.value is None:
            return "no"
        return "yes" if (self.value >= self.target if self.lower else self.value <= self.target) else "no"


def summary(figures: Sequence[Figure], name: str) -> Table:
    """All figures of a model, the targets beside them."""
    rows = [(figure.check, figure.name, figure.value, figure.bound, figure.met) for figure in figures]
    return Table(f"{SUMMARY_OF} {name}", ("check", "figure", "value", "target", "met"), rows)


def mean(values: Array) -> float | None:
    """Mean of the finite values; None if there are none."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else None


def largest(values: Array) -> float | None:
    """Largest of the finite values; None if there are none."""
    values = values[np.isfinite(values)]
    return float(values.max()) if values.size else None
