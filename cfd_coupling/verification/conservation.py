"""Conservation: mass, elements and energy of a burning closed box, and the divergence after the projection."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cfd_coupling.chemistry import Chemistry, build_chemistry
from cfd_coupling.config import ChemistryConfig
from cfd_coupling.fields import interior
from cfd_coupling.grid import Grid
from cfd_coupling.verification.scoreboard import Line, at_most
from cfd_coupling.verification.states import HotConversion, advance, drm19, kernel, totals

GRID = Grid(48, 40, 1.5e-3, 1.25e-3)
DT = 1e-6  # [s]
_CONFIGS = (ChemistryConfig(kind="exact"), ChemistryConfig(kind="cvode"), ChemistryConfig(kind="neural"))


def box(quick: bool) -> Iterator[Line]:
    """Drifts over 100 steps (30 when quick), relative to the start, for each kind of chemistry that is at hand."""
    steps = 30 if quick else 100
    chemistries: dict[str, Chemistry] = {"one-step": HotConversion(drm19())}
    for config in _CONFIGS[:1] if quick else _CONFIGS:
        chemistries[config.kind] = build_chemistry(config, drm19().mechanism, DT)
    for kind, chemistry in chemistries.items():
        yield from _burnt(f"{kind} chemistry, {steps} steps", steps, chemistry)


def _burnt(name: str, steps: int, chemistry: Chemistry) -> Iterator[Line]:
    fields = kernel(GRID)
    before = totals(fields)
    reports = advance(fields, GRID, steps, DT, chemistry)
    present = before != 0.0
    drift = np.abs(totals(fields) - before)[present] / np.abs(before[present])
    yield at_most(f"{name}: mass drift", float(drift[0]), 1e-13)
    yield at_most(f"{name}: element-mass drift", float(drift[1:-1].max()), 1e-12)
    yield at_most(f"{name}: energy drift", float(drift[-1]), 1e-12)
    yield at_most(f"{name}: largest |sum of Y - 1|", float(np.abs(interior(fields.Y).sum(axis=0) - 1.0).max()), 1e-12)
    yield at_most(f"{name}: constraint, largest dt |div u - Q/dt|", max(r.residual for r in reports), 1e-11)
