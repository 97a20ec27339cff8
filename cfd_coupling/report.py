"""The page of a run, report.html: case, figures, pictures and costs in one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cfd_coupling.compare import read_history
from cfd_coupling.folder import MANIFEST
from chemnet.runtime import html_page
from chemnet.runtime.files import read_json, write_text

REPORT = "report.html"

_CAPTIONS = {
    "fields": "Fields at several times, each at one scale.",
    "history": "History: extremes of T, p0, heat release, burnt area; CFL number, iterations, cells, wall time.",
    "scatter": "Hot cells of the last snapshot over T, coloured by what advanced them.",
}


def write_report(folder: Path, pictures: Mapping[str, Path]) -> Path:
    """Write report.html into a run folder, with `pictures` (PNG, by name) inside, and return its path.

    Raises FileError for a folder without a run.
    """
    manifest, columns = read_json(folder / MANIFEST), read_history(folder / "history.csv")
    last = {name: float(values[-1]) for name, values in columns.items()}
    state = "finished" if manifest.get("finished") else "unfinished"
    lead = (
        f"{state} at step {last['step']:.0f}, t = {1e3 * last['time']:.4g} ms; chemistry {manifest['chemistry']}, "
        f"{manifest['ranks']} rank{'s' * (manifest['ranks'] > 1)}; begun {manifest['created']}, "
        f"chemnet {manifest['chemnet']}"
    )
    body = [
        html_page.heading("Figures"),
        html_page.table("State", _state(last)),
        html_page.table("Conserved since the start, relative drift", _drifts(last)),
        html_page.heading("Costs"),
        html_page.table("Wall time on the slowest rank", _costs(last)),
        html_page.table("Cells in the last step", _cells(last)),
        *(
            html_page.figure(path, _CAPTIONS.get(name, name))
            for name, path in pictures.items()
            if path.suffix == ".png"
        ),
        html_page.heading("Case"),
        html_page.verbatim((folder / "case.yaml").read_text(encoding="utf-8")),
    ]
    write_text(folder / REPORT, html_page.page(f"{manifest['name']}, {manifest['chemistry']}", lead, body))
    return folder / REPORT


def _state(last: Mapping[str, float]) -> list[tuple[str, str]]:
    rows = [
        ("T, hottest [K]", f"{last['T_max']:.1f}"),
        ("T, coldest [K]", f"{last['T_min']:.1f}"),
        ("thermodynamic pressure [kPa]", f"{1e-3 * last['p0']:.3f}"),
        ("heat release [kW/m]", f"{1e-3 * last['heat_release']:.4g}"),
        ("burnt area [mm2]", f"{1e6 * last['burnt_area']:.4g}"),
        ("CFL number", f"{last['cfl']:.2f}"),
        ("iterations of the projection", f"{last['iterations']:.0f}"),
        ("largest dt |div u - Q/dt|", f"{last['residual']:.1e}"),
    ]
    if "consumption_speed" in last:
        rows.append(("fuel consumption speed [m/s]", f"{last['consumption_speed']:.4f}"))
    return rows


def _drifts(last: Mapping[str, float]) -> list[tuple[str, str]]:
    names = [name for name in last if name.startswith("drift_")]
    return [(name.removeprefix("drift_").replace("_", " of "), f"{last[name]:.1e}") for name in names]


def _costs(last: Mapping[str, float]) -> list[tuple[str, str]]:
    parts = {name.removeprefix("seconds_"): last[name] for name in last if name.startswith("seconds_")}
    total = sum(parts.values()) or 1.0
    rows = [(f"{name} [s]", f"{seconds:.1f} ({100 * seconds / total:.0f} %)") for name, seconds in parts.items()]
    return [*rows, ("all [s]", f"{total:.1f}")]


def _cells(last: Mapping[str, float]) -> list[tuple[str, str]]:
    kinds = {name.removeprefix("cells_"): last[name] for name in last if name.startswith("cells_")}
    return [(name, f"{count:,.0f}") for name, count in kinds.items() if count]
