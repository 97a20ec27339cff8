"""Conservation: mass, elements and energy of a burning closed box, and the divergence after the projection."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cfd_coupling.fields import interior
from cfd_coupling.grid import Grid
from cfd_coupling.verification.scoreboard import Line, at_most
from cfd_coupling.verification.states import HotConversion, advance, drm19, kernel, totals

GRID = Grid(48, 40, 1.5e-3, 1.25e-3)


def box(quick: bool) -> Iterator[Line]:
    """Drifts over 100 steps (30 when quick), relative to the start."""
    steps = 30 if quick else 100
    fields = kernel(GRID)
    before = totals(fields)
    reports = advance(fields, GRID, steps, 1e-6, HotConversion(drm19()))
    present = before != 0.0
    drift = np.abs(totals(fields) - before)[present] / np.abs(before[present])
    yield at_most(f"mass drift, {steps} steps", float(drift[0]), 1e-13)
    yield at_most(f"element-mass drift, {steps} steps", float(drift[1:-1].max()), 1e-12)
    yield at_most(f"energy drift, {steps} steps", float(drift[-1]), 1e-12)
    yield at_most("largest |sum of Y - 1|", float(np.abs(interior(fields.Y).sum(axis=0) - 1.0).max()), 1e-12)
    yield at_most("constraint, largest dt |div u - Q/dt|", max(report.residual for report in reports), 1e-11)
