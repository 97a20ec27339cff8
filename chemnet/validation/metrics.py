"""Figures of the validation: a value, and where the project has one, the target that it must not exceed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chemnet.gas.state import Array
from chemnet.runtime.tables import Table

SUMMARY_OF = "the validation of"


@dataclass(frozen=True)
class Figure:
    """One figure of one check; None as value if there is none, which meets no target."""

    check: str
    name: str
    value: float | int | None
    target: float | int | None = None

    @property
    def met(self) -> str | None:
        """`yes` or `no`; None without a target."""
        if self.target is None:
            return None
        return "yes" if self.value is not None and self.value <= self.target else "no"


def summary(figures: Sequence[Figure], name: str) -> Table:
    """All figures of a model, the targets beside them."""
    rows = [(figure.check, figure.name, figure.value, figure.target, figure.met) for figure in figures]
    return Table(f"{SUMMARY_OF} {name}", ("check", "figure", "value", "target", "met"), rows)


def mean(values: Array) -> float | None:
    """Mean of the finite values; None if there are none."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else None


def largest(values: Array) -> float | None:
    """Largest of the finite values; None if there are none."""
    values = values[np.isfinite(values)]
    return float(values.max()) if values.size else None
