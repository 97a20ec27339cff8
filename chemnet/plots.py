"""Pictures of results; the only module that draws. Each function takes arrays and the path of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from chemnet.files import atomic

Floats = NDArray[np.float64]


def _save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, whole or not at all."""
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def temperature_comparison(
    path: Path, fields: Sequence[Floats], labels: Sequence[str], *, spacing: tuple[float, float], time: float
) -> None:
    """Draw T [K] of each run (ny, nx) at equal scale, then each difference from the first.

    spacing: cell size [m] in x and y; time [s].
    """
    differences = [T - fields[0] for T in fields[1:]]
    columns = len(fields) + len(differences)
    figure = Figure(figsize=(3.3 * columns + 1.6, 3.9), layout="constrained")
    panels = figure.subplots(1, columns, sharex=True, sharey=True, squeeze=False)[0]
    extent = _extent_mm(fields[0].shape, spacing)
    low, high = min(T.min() for T in fields), max(T.max() for T in fields)
    limit = max(1e-9, *(float(np.abs(d).max()) for d in differences))
    for panel, T, label in zip(panels, fields, labels, strict=False):
        image = panel.imshow(T, origin="lower", extent=extent, cmap="inferno", vmin=low, vmax=high)
        panel.set(title=f"T, {label}", xlabel="x [mm]")
    figure.colorbar(image, ax=panels[: len(fields)], label="T [K]", shrink=0.8, aspect=24)
    for panel, d, label in zip(panels[len(fields) :], differences, labels[1:], strict=True):
        image = panel.imshow(d, origin="lower", extent=extent, cmap="RdBu_r", vmin=-limit, vmax=limit)
        panel.set(title=f"T, {label} - {labels[0]}", xlabel="x [mm]")
    figure.colorbar(image, ax=panels[len(fields) :], label="difference [K]", shrink=0.8, aspect=24)
    panels[0].set_ylabel("y [mm]")
    figure.suptitle(f"t = {time * 1e3:.3g} ms")
    _save(figure, path)


def _extent_mm(shape: tuple[int, ...], spacing: tuple[float, float]) -> tuple[float, float, float, float]:
    """Edges (left, right, bottom, top) [mm] of an image of cells (ny, nx)."""
    return 0.0, 1e3 * shape[1] * spacing[0], 0.0, 1e3 * shape[0] * spacing[1]


def loss_curve(path: Path, table: Path, title: str) -> None:
    """Draw training and validation loss over the steps of `table`, the loss.csv of a training, at log scale."""
    columns = np.genfromtxt(table, delimiter=",", names=True)
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.semilogy(columns["step"], columns["training_loss"], label="training", color="0.6")
    axes.semilogy(columns["step"], columns["validation_loss"], label="validation", color="C3")
    axes.set(xlabel="step", ylabel="loss", title=title)
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    _save(figure, path)
