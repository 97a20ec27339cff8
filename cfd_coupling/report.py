"""The page of a run, report.html: case, figures, pictures and costs in one file that needs nothing else."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from cfd_coupling.compare import read_history
from cfd_coupling.folder import MANIFEST
from chemnet.runtime.files import read_json, write_text

REPORT = "report.html"

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; margin-bottom: 0; }} h2 {{ font-size: 1.2rem; margin-top: 2rem; }}
p.lead {{ color: #555; margin-top: .2rem; }}
table {{ border-collapse: collapse; margin: .5rem 2rem .5rem 0; display: inline-table; vertical-align: top; }}
caption {{ text-align: left; font-weight: 600; padding-bottom: .3rem; }}
td, th {{ padding: .15rem .8rem .15rem 0; border-bottom: 1px solid #ddd; text-align: left; font-weight: normal; }}
td:last-child {{ text-align: right; font-variant-numeric: tabular-nums; }}
figure {{ margin: 1rem 0; }} img {{ max-width: 100%; }} figcaption {{ color: #555; font-size: .9rem; }}
pre {{ background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: .85rem; }}
@media print {{ body {{ max-width: none; margin: 0; }} h2, figure {{ break-inside: avoid; }} }}
</style></head><body>
<h1>{title}</h1>
<p class="lead">{lead}</p>
{body}
</body></html>
"""
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
        "<h2>Figures</h2>",
        _table("State", _state(last)),
        _table("Conserved since the start, relative drift", _drifts(last)),
        "<h2>Costs</h2>",
        _table("Wall time on the slowest rank", _costs(last)),
        _table("Cells in the last step", _cells(last)),
        *(_figure(path, _CAPTIONS.get(name, name)) for name, path in pictures.items() if path.suffix == ".png"),
        "<h2>Case</h2>",
        f"<pre>{html.escape((folder / 'case.yaml').read_text(encoding='utf-8'))}</pre>",
    ]
    title = html.escape(f"{manifest['name']}, {manifest['chemistry']}")
    write_text(folder / REPORT, _PAGE.format(title=title, lead=html.escape(lead), body="\n".join(body)))
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


def _table(title: str, rows: Sequence[tuple[str, str]]) -> str:
    lines = "\n".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in rows)
    return f"<table><caption>{html.escape(title)}</caption>\n{lines}\n</table>"


def _figure(path: Path, caption: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
