"""Pictures of flow runs: fields, their differences, movies, histories, scatter over T. Lengths in mm, times in ms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from chemnet.runtime.drawing import (
    Axes,
    AxesImage,
    FFMpegWriter,
    Figure,
    FigureCanvasAgg,
    MaxNLocator,
    Normalize,
    TwoSlopeNorm,
)
from chemnet.runtime.errors import UsageError
from chemnet.runtime.files import atomic
from chemnet.runtime.plots import save

Floats = NDArray[np.float64]

FRAMES_PER_SECOND = 12
_MOVIES = (".gif", ".mp4")
_SIGNED = ("vorticity",)
_MOST_POINTS = 20_000  # of a scatter plot
_BRIGHT = 99.9  # [%]; few cells of an ignition release ten times the heat of a flame: the scale leaves them out
_SHOWN = {"heat_release": (1e-9, "GW/m$^3$")}  # factor and unit in pictures


def temperature_comparison(
    path: Path, fields: Sequence[Floats], labels: Sequence[str], *, spacing: tuple[float, float], time: float
) -> None:
    """Draw T [K] of each run (ny, nx) at equal scale, below it its difference from the first at its own scale.

    spacing: cell size [m] in x and y; time [s].
    """
    figure = Figure(figsize=(2.3 * len(fields) + 0.5, 5.6), layout="constrained")
    rows = figure.subplots(2, len(fields), sharex=True, sharey=True, squeeze=False)
    scale = Normalize(min(T.min() for T in fields), max(T.max() for T in fields))
    for panel, T, label in zip(rows[0], fields, labels, strict=True):
        image = _draw(panel, T, spacing, "inferno", scale)
        panel.set(title=f"T, {label}")
    rows[0, 0].set_ylabel("y [mm]")
    rows[1, 0].set_axis_off()
    figure.colorbar(image, ax=rows[1, 0], label="T [K]", location="top", shrink=0.8, aspect=24)
    for panel, T, label in zip(rows[1, 1:], fields[1:], labels[1:], strict=True):
        difference = T - fields[0]
        image = _draw(panel, difference, spacing, "RdBu_r", _symmetric([difference]))
        panel.set(title=f"{label} - {labels[0]}", xlabel="x [mm]")
        figure.colorbar(image, ax=panel, label="difference [K]", location="bottom", shrink=0.8, aspect=24)
    figure.suptitle(f"t = {time * 1e3:.3g} ms")
    save(figure, path)


def field_panels(
    path: Path,
    fields: Mapping[str, Sequence[Floats]],
    units: Mapping[str, str],
    times: Sequence[float],
    spacing: tuple[float, float],
    title: str,
) -> None:
    """Draw fields (ny, nx) at several times [s]: a row for each field at one scale, a column for each time."""
    ny, nx = next(iter(fields.values()))[0].shape
    height = 2.6 * max(0.25, min(1.6, ny * spacing[1] / (nx * spacing[0])))
    size = (2.6 * len(times) + 1.4, height * len(fields) + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(fields), len(times), sharex=True, sharey=True, squeeze=False)
    for row, (name, planes) in zip(panels, fields.items(), strict=True):
        shown = [_shown(name, plane) for plane in planes]
        colours, scale = _colours(name, shown)
        for panel, plane in zip(row, shown, strict=True):
            image = _draw(panel, plane, spacing, colours, scale)
        row[0].set_ylabel("y [mm]")
        extend = "max" if any((scale(plane) > 1.0).any() for plane in shown) else "neither"
        figure.colorbar(image, ax=row, label=_label(name, units), aspect=18, extend=extend)
    for panel, time in zip(panels[0], times, strict=True):
        panel.set_title(f"t = {time * 1e3:.3g} ms", fontsize="medium")
    for panel in panels[-1]:
        panel.set_xlabel("x [mm]")
    figure.suptitle(title)
    save(figure, path)


def check_movie(path: Path) -> None:
    """Raise UsageError for a movie of another kind than GIF and MP4, and for MP4 without its encoder."""
    if path.suffix not in _MOVIES:
        raise UsageError(f"a movie ends in {' or '.join(_MOVIES)}, not {path.name}")
    if path.suffix == ".mp4" and not FFMpegWriter.isAvailable():
        raise UsageError(f"no ffmpeg, which {path.name} needs\nInstall it (apt install ffmpeg), or name a .gif file.")


def movie(
    path: Path,
    name: str,
    unit: str,
    frames: Iterable[tuple[float, Floats]],
    limits: tuple[float, float],
    spacing: tuple[float, float],
) -> None:
    """Draw a field over time as GIF or MP4 (by the name's end): frames of time [s] and values (ny, nx).

    limits: of the colour scale. Raises UsageError where MP4 cannot be encoded.
    """
    check_movie(path)
    look = _scale(name, *(_factor(name) * limit for limit in limits))
    shown = ((time, _shown(name, plane)) for time, plane in frames)
    pictures = _pictures(_label(name, {name: unit}), look, shown, spacing)
    with atomic(path) as temporary:
        if path.suffix == ".gif":
            images = (Image.fromarray(picture) for picture in pictures)
            duration = 1000 // FRAMES_PER_SECOND
            next(images).save(temporary, "GIF", save_all=True, append_images=images, duration=duration, loop=0)
        else:
            _encode(temporary, pictures)


def _pictures(
    label: str, look: tuple[str, Normalize], frames: Iterable[tuple[float, Floats]], spacing: tuple[float, float]
) -> Iterator[NDArray[np.uint8]]:
    figure = Figure(figsize=(6.0, 5.2), layout="constrained", dpi=100)
    canvas, panel = FigureCanvasAgg(figure), figure.subplots()
    image: AxesImage | None = None
    for time, plane in frames:
        if image is None:
            image = _draw(panel, plane, spacing, *look)
            panel.set(xlabel="x [mm]", ylabel="y [mm]")
            figure.colorbar(image, ax=panel, label=label)
        image.set_data(plane)
        panel.set_title(f"t = {time * 1e3:.3f} ms")
        canvas.draw()
        yield np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _encode(path: Path, pictures: Iterator[NDArray[np.uint8]]) -> None:
    first = next(pictures)
    height, width = first.shape[:2]
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    FigureCanvasAgg(figure)
    writer = FFMpegWriter(fps=FRAMES_PER_SECOND, extra_args=["-f", "mp4", "-pix_fmt", "yuv420p"])
    with writer.saving(figure, str(path), dpi=100):
        for picture in chain([first], pictures):
            figure.clear()
            figure.figimage(picture)
            writer.grab_frame()


def history(path: Path, columns: Mapping[str, Floats], title: str) -> None:
    """Draw the columns of history.csv over time: T, p0, heat release, burnt area, flow, cells, seconds."""
    figure = Figure(figsize=(12.0, 6.4), layout="constrained")
    axes = figure.subplots(2, 4, sharex=True)
    time = 1e3 * columns["time"]
    _curves(axes[0, 0], time, {"hottest": columns["T_max"], "coldest": columns["T_min"]}, "T [K]")
    _curves(axes[0, 1], time, {"": 1e-3 * columns["p0"]}, "thermodynamic pressure [kPa]")
    _curves(axes[0, 2], time, {"": 1e-3 * columns["heat_release"]}, "heat release [kW/m]")
    _curves(axes[0, 3], time, {"": 1e6 * columns["burnt_area"]}, "burnt area [mm$^2$]")
    _curves(axes[1, 0], time, {"CFL number": columns["cfl"]}, "CFL number")
    _curves(axes[1, 1], time, {"": columns["iterations"]}, "iterations of the projection")
    cells = {name.removeprefix("cells_"): q for name, q in columns.items() if name.startswith("cells_") and q.any()}
    _curves(axes[1, 2], time, cells, "cells of a step, by their chemistry")
    axes[1, 2].set_yscale("symlog", linthresh=10.0)
    parts = {name.removeprefix("seconds_"): q for name, q in columns.items() if name.startswith("seconds_")}
    axes[1, 3].stackplot(time, list(parts.values()), labels=list(parts))
    axes[1, 3].set_ylabel("wall time since the start [s]")
    axes[1, 3].legend(fontsize="x-small", loc="upper left")
    for panel in axes[1]:
        panel.set_xlabel("t [ms]")
    figure.suptitle(title)
    save(figure, path)


def _curves(axes: Axes, time: Floats, curves: Mapping[str, Floats], label: str) -> None:
    for name, values in curves.items():
        axes.plot(time, values, label=name or None)
    axes.set_ylabel(label)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.grid(True, alpha=0.3)
    if len(curves) > 1:
        axes.legend(fontsize="x-small")


def scatter(
    path: Path,
    T: Floats,
    quantities: Mapping[str, Floats],
    units: Mapping[str, str],
    kinds: Mapping[str, NDArray[np.bool_]],
    title: str,
) -> None:
    """Draw quantities (n,) over T (n,) [K], a panel each, coloured by which chemistry advanced the cell.

    kinds: cells (n,) of each; no more than some 20,000 cells are drawn, the same ones for the same n.
    """
    columns = min(3, len(quantities))
    rows = -(-len(quantities) // columns)
    figure = Figure(figsize=(4.4 * columns, 3.5 * rows + 0.3), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False)
    drawn = np.zeros(T.size, dtype=bool)
    drawn[np.random.default_rng(0).permutation(T.size)[:_MOST_POINTS]] = True
    for panel, (name, values) in zip(panels.flat, quantities.items(), strict=False):
        for kind, cells in kinds.items():
            here = cells & drawn
            panel.plot(T[here], _shown(name, values[here]), ".", markersize=2.0, alpha=0.6, label=kind, rasterized=True)
        panel.set_ylabel(_label(name, units))
        panel.xaxis.set_major_locator(MaxNLocator(5))
        panel.grid(True, alpha=0.3)
    for panel in panels.flat[len(quantities) :]:
        panel.set_visible(False)
    for panel in panels[-1]:
        panel.set_xlabel("T [K]")
    panels[0, 0].legend(fontsize="small", markerscale=4.0, title="cell advanced by")
    figure.suptitle(title)
    save(figure, path)


def _draw(axes: Axes, plane: NDArray[Any], spacing: tuple[float, float], colours: str, scale: Normalize) -> AxesImage:
    (ny, nx), (dx, dy) = plane.shape, spacing
    extent = (0.0, 1e3 * nx * dx, 0.0, 1e3 * ny * dy)
    return axes.imshow(plane, origin="lower", extent=extent, cmap=colours, norm=scale, interpolation="nearest")


def limits(name: str, plane: NDArray[Any]) -> tuple[float, float]:
    """Limits of a field's colour scale, in the unit of `plane`."""
    high = float(np.percentile(plane, _BRIGHT)) if name in _SHOWN else float(plane.max())
    return float(plane.min()), high


def _colours(name: str, planes: Sequence[NDArray[Any]]) -> tuple[str, Normalize]:
    """Colour map and scale of a field as it is shown, one for all of its planes."""
    lows, highs = zip(*(limits(name, q) for q in planes), strict=True)
    return _scale(name, min(lows), max(highs))


def _scale(name: str, low: float, high: float) -> tuple[str, Normalize]:
    if name in _SIGNED:
        return "RdBu_r", _symmetric([np.array([low, high])])
    return "inferno" if name == "T" else "viridis", Normalize(low, high if high > low else low + 1.0)


def _symmetric(planes: Sequence[NDArray[Any]]) -> Normalize:
    largest = max(1e-9, *(float(np.abs(q).max()) for q in planes))
    return TwoSlopeNorm(0.0, -largest, largest)


def _factor(name: str) -> float:
    return _SHOWN[name][0] if name in _SHOWN else 1.0


def _shown(name: str, values: NDArray[Any]) -> NDArray[Any]:
    return _factor(name) * values


def _label(name: str, units: Mapping[str, str]) -> str:
    unit = _SHOWN[name][1] if name in _SHOWN else units.get(name, "")
    words = name.replace("_", " ")
    return f"Y({words})" if unit == "1" else f"{words} [{unit}]" if unit else words
