"""Planar methane-air flames by exact chemistry: consumption speed against Cantera's free flame on a fine grid."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from cfd_coupling.config import load_case
from cfd_coupling.flame_speed import cantera_speeds, extrapolated, flame_speed
from cfd_coupling.verification.scoreboard import Line, at_most

_TOLERANCE = 0.5  # [%]
_QUICK_TOLERANCE = 1.0  # [%] of a flame that has not relaxed
_QUICK_GRIDS = 3  # of Cantera, coarse to fine
_END = "end_time=1.6e-3"  # rich and lean flames relax slower than the stoichiometric one: 0.4 % at 0.8 ms
_CELLS = {"29": 512, "58": 256}  # cells of 15 mm by their size [um]


def speeds(quick: bool) -> Iterator[Line]:
    """Deviations [%] at phi 0.7, 1 and 1.3 and two cell sizes; when quick, one of a flame of 0.02 ms."""
    if quick:
        found = flame_speed(["chemistry.kind=exact", *_box(256), "initial.points=200", "end_time=2e-5"])["speed"]
        yield _deviation("flame, phi 1, 58 um, after 0.02 ms", found, _reference(1.0, _QUICK_GRIDS), _QUICK_TOLERANCE)
        return
    for phi in (0.7, 1.0, 1.3):
        wanted = _reference(phi)
        for size, nx in _CELLS.items():
            found = flame_speed(["chemistry.kind=exact", f"mixture.phi={phi}", *_box(nx), _END])["speed"]
            name = f"flame, phi {phi:g}, {size} um, {found:.4f} for {wanted:.4f} m/s"
            yield _deviation(name, found, wanted, _TOLERANCE)


def _reference(phi: float, grids: int | None = None) -> float:
    case = load_case("free_flame", assignments=[f"mixture.phi={phi}"])
    return extrapolated(list(islice(cantera_speeds(case), grids)))


def _box(nx: int) -> tuple[str, str]:
    """nx square cells along the case's 15 mm, three across."""
    return f"grid.nx={nx}", f"grid.length_y={3 * 1.5e-2 / nx!r}"


def _deviation(name: str, found: float, wanted: float, tolerance: float) -> Line:
    return at_most(f"{name}, |deviation| [%]", abs(100.0 * (found / wanted - 1.0)), tolerance)
