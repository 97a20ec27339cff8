"""Pictures of results. Each function takes arrays and the path of the picture; `flow_plots` draws runs of the flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chemnet.runtime.drawing import Axes, EngFormatter, Figure, LogLocator, NullFormatter, colormaps
from chemnet.runtime.files import atomic

Floats = NDArray[np.float64]
_LEAST_ERROR = 0.01  # [%]; smaller errors are drawn here
_AT_REST = 100.0  # [W/m3]; a smaller heat release is round-off of the step's change of T


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, whole or not at all."""
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150, bbox_inches="tight")  # labels beside equal axes are cut else


def losses(path: Path, tables: Mapping[str, Path]) -> None:
    """Draw training and validation loss over the steps, at log scale: one part per `loss.csv`, in order of training."""
    figure = Figure(figsize=(6.0 + 1.2 * (len(tables) - 1), 4.0), layout="constrained")
    axes = figure.subplots()
    start = 0.0
    for name, table in tables.items():
        axes.axvline(start, color="0.8", linewidth=0.8)
        axes.annotate(
            name, (start, 1.0), (3, -3), xycoords=("data", "axes fraction"), textcoords="offset points", va="top"
        )
        start = _draw_losses(axes, table, start)
    axes.legend(axes.get_lines()[1:3], ("training", "validation"))
    axes.set_ylabel("loss")
    save(figure, path)


def loss_panels(path: Path, tables: Mapping[str, Path]) -> None:
    """Draw training and validation loss over the steps of several trainings, a panel per `loss.csv`, at equal scale."""
    figure = Figure(figsize=(3.2 * len(tables) + 0.8, 3.4), layout="constrained")
    panels = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
    for axes, (title, table) in zip(panels, tables.items(), strict=True):
        _draw_losses(axes, table)
        axes.set_title(title)
    panels[0].set_ylabel("loss")
    panels[-1].legend(("training", "validation"))
    save(figure, path)


def _draw_losses(axes: Axes, table: Path, start: float = 0.0) -> float:
    """Draw one `loss.csv` from step `start` on; returns its last step."""
    columns = np.atleast_1d(np.genfromtxt(table, delimiter=",", names=True))
    for name, colour in (("training_loss", "0.6"), ("validation_loss", "C3")):
        axes.semilogy(start + columns["step"], columns[name], color=colour)
    axes.set_xlabel("step")
    axes.grid(True, which="both", alpha=0.3)
    return float(start + columns["step"][-1])


def similarity_maps(path: Path, maps: Mapping[str, Floats], columns: int | None = None) -> None:
    """Draw matrices of cosine similarity (m, m) of neurons, -1 to 1, one panel each, in rows of `columns` (default: one
    row); neurons are ordered by groups."""
    columns = columns or len(maps)
    rows = -(-len(maps) // columns)
    figure = Figure(figsize=(3.4 * columns + 1.1, 3.9 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes, (title, matrix) in zip(panels.flat, maps.items(), strict=True):
        image = axes.imshow(matrix, cmap="RdBu_r", vmin=-1.0, vmax=1.0, interpolation="none")
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize="small")
    for axes in panels[-1]:
        axes.set_xlabel("neuron, in the order of groups")
    for axes in panels[:, 0]:
        axes.set_ylabel("neuron, in the order of groups")
    figure.colorbar(image, ax=panels, label="cosine similarity", shrink=0.85 / rows)
    save(figure, path)


def reduction_steps(path: Path, log: Path) -> None:
    """Draw metric, training loss and share of parameters over the steps of an automatic reduction; a dot marks each
    accepted cut (figure 6 of the paper)."""
    columns = _columns(log)
    steps, events = columns["step"].astype(float), columns["event"]
    left = columns["parameters"].astype(float)
    left = 100.0 * left / left[0]
    trained, cut = events == "step", np.isin(events, ("accepted", "final cut"))
    figure = Figure(figsize=(11.0, 4.0), layout="constrained")
    for axes, name, label in zip(
        figure.subplots(1, 2), ("metric", "loss"), ("accuracy on the validation images", "training loss"), strict=True
    ):
        values = columns[name].astype(float)
        axes.plot(steps[trained], values[trained], color="C0", label="axis on the left")
        at_cuts = np.interp(steps[cut], steps[trained], values[trained])
        axes.plot(steps[cut], at_cuts, "o", color="C3", markersize=3.5, label="there, where a cut was accepted")
        axes.set(xlabel="step", ylabel=label)
        axes.yaxis.label.set_color("C0")
        share = axes.twinx()
        share.plot(steps, left, color="0.45", drawstyle="steps-post", label="parameters left")
        share.set(ylabel="parameters left [%]", ylim=(0.0, 105.0))
        axes.grid(True, alpha=0.3)
    figure.legend(handles=[*axes.get_lines(), *share.get_lines()], loc="outside upper center", ncols=3, frameon=False)
    save(figure, path)


def first_main_reduction(path: Path, log: Path) -> None:
    """Draw for each layer of the first main reduction the share of its parameters that is left, and the metric at once
    and after one step of training (figure 7 of the paper)."""
    columns = _columns(log)
    events = list(zip(columns["event"], columns["layer"], strict=True))
    layers: list[str] = []
    bars: list[tuple[float, ...]] = []
    for row, (event, layer) in enumerate(events):
        if event != "accepted" or layer in layers:
            continue
        start = max(place for place in range(row) if events[place] == ("cut", layer))
        after = next(place for place in range(start, row) if columns["event"][place] == "step")
        layers.append(layer)
        values = columns["layer_left"][start], columns["metric"][start], columns["metric"][after]
        bars.append(tuple(100.0 * float(value) for value in values))
    figure = Figure(figsize=(max(8.0, 0.62 * len(layers) + 1.5), 4.0), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(layers))
    names = {"parameters of the layer left": "C3", "accuracy at once": "C2", "accuracy after one step": "C0"}
    for number, ((name, colour), heights) in enumerate(zip(names.items(), np.reshape(bars, (-1, 3)).T, strict=True)):
        axes.bar(places + 0.27 * (number - 1), heights, 0.25, label=name, color=colour)
    axes.set(xticks=places, ylabel="parameters or validation accuracy [%]", xlabel="layer that was cut")
    axes.set_ylim(0.0, 102.0)
    axes.set_xticklabels([layer.removeprefix("layer ") for layer in layers])
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    axes.grid(True, axis="y", alpha=0.3)
    save(figure, path)


def _columns(table: Path) -> dict[str, NDArray[np.str_]]:
    """The columns of a CSV file, as text."""
    rows = np.genfromtxt(table, delimiter=",", dtype=str, encoding="utf-8")
    return {str(name): rows[1:, place] for place, name in enumerate(rows[0])}


def coverage(path: Path, columns: Mapping[str, Floats], kinds: Mapping[str, NDArray[np.bool_]], title: str) -> None:
    """Draw histograms of the rows of a training set: T over phi, heat release over T, and each of T, phi and P alone.

    columns: `T` [K], `P` [Pa], `phi`, `heat_release` [W/m3] of each row (n,); kinds: the rows of each kind (n,).
    """
    figure = Figure(figsize=(13.0, 7.4), layout="constrained")
    above, below = figure.subplots(2, 3)
    T, phi, heat = columns["T"], columns["phi"], columns["heat_release"]
    T_limits, phi_limits = _limits(T, 0.0), _limits(phi, 0.005)
    dots = {"bins": 120, "norm": "log", "cmap": "viridis", "cmin": 1}
    image = above[0].hist2d(phi, T, range=(phi_limits, T_limits), **dots)[3]
    above[0].set(xlabel="equivalence ratio", ylabel="T [K]", title="temperature over mixture")
    for axes, rows, label in ((above[1], heat >= _AT_REST, "set free"), (above[2], heat <= -_AT_REST, "taken up")):
        axes.hist2d(T[rows], np.log10(np.abs(heat[rows])), range=(T_limits, (np.log10(_AT_REST), 13.0)), **dots)
        axes.set(xlabel="T [K]", ylabel=r"$\log_{10}$ of the rate [W/m$^3$]")
        axes.set_title(f"heat {label}, {100.0 * rows.mean():.0f} % of the rows")
    figure.colorbar(image, ax=above, label="rows")
    stack = [T[rows] for rows in kinds.values()]
    below[0].hist(stack, np.linspace(*T_limits, 80), stacked=True, label=[name.replace("_", " ") for name in kinds])
    below[0].set(xlabel="T [K]", ylabel="rows", title="kinds of states")
    below[0].legend(fontsize="x-small")
    below[1].hist(phi, np.linspace(*phi_limits, 80), color="0.45")
    below[1].set(xlabel="equivalence ratio", ylabel="rows")
    below[2].hist(columns["P"] / 1e5, 80, color="0.45")
    below[2].set(xlabel="P [bar]", ylabel="rows")
    figure.suptitle(title)
    save(figure, path)


def _limits(column: Floats, rare: float) -> tuple[float, float]:
    """Ends of an axis: of all values but a `rare` share at either end."""
    low, high = np.quantile(column, (rare, 1.0 - rare))
    return float(low), float(max(high, low + 1e-9))


def ignition_delays(path: Path, models: Mapping[str, Mapping[str, Floats]]) -> None:
    """Draw ignition delays over T0, and below them the errors of the models; a column of panels per pressure.

    Each model has its cases as columns (n,): `T0` [K], `phi`, `P` [atm], `reference` and `model` [us], `error`
    [%]; nan where nothing ignites. Lines are the reference, one colour per phi, one marker per model; an error below
    0.01 % stands at 0.01 %.
    """
    first = next(iter(models.values()))
    pressures, phis = np.unique(first["P"]), np.unique(first["phi"])
    colours = dict(zip(phis, colormaps["viridis"](np.linspace(0.0, 0.9, len(phis))), strict=True))
    figure = Figure(figsize=(3.2 * len(pressures) + 1.4, 6.2), layout="constrained")
    grid = figure.subplots(2, len(pressures), sharex=True, sharey="row", squeeze=False)
    for (above, below), P in zip(grid.T, pressures, strict=True):
        for phi in phis[::-1]:
            at = (first["P"] == P) & (first["phi"] == phi)
            above.plot(first["T0"][at], first["reference"][at], color=colours[phi], label=f"phi {phi:g}, exact")
        for marker, (name, cases) in zip(cycle("osD^v"), models.items(), strict=False):
            style = {"marker": marker, "linestyle": "none", "markersize": 4.5, "markerfacecolor": "none"}
            for phi in phis:
                at = (cases["P"] == P) & (cases["phi"] == phi)
                above.plot(cases["T0"][at], cases["model"][at], color=colours[phi], **style)
                below.plot(cases["T0"][at], np.maximum(cases["error"][at], _LEAST_ERROR), color=colours[phi], **style)
            above.plot([], [], color="0.3", label=f"{name}, each phi", **style)
        above.set(title=f"{P:.3g} atm")
        below.set(xlabel="initial temperature T0 [K]")
        for axes in (above, below):
            axes.grid(True, alpha=0.3)
    for row, names in zip(grid, (("reference", "model"), ("error",)), strict=True):
        known = [np.isfinite(cases[name]).any() for cases in models.values() for name in names]
        if any(known):  # an axis of nothing cannot be logarithmic
            row[0].set_yscale("log")
    grid[0, 0].set_ylabel("ignition delay [us]")
    grid[1, 0].set_ylabel(f"error of the delay [%]\n(at least {_LEAST_ERROR:g} is drawn)")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    save(figure, path)


def gas(path: Path, delays: Mapping[str, tuple[Floats, Floats]], over_phi: Mapping[str, tuple[Floats, Floats]]) -> None:
    """Draw ignition delays [s] over T0 [K], a curve per mixture, and quantities over phi, a panel each, by their names
    with units."""
    figure = Figure(figsize=(5.2 + 3.6 * len(over_phi), 3.8), layout="constrained")
    widths = [1.5, *(1.0 for _ in over_phi)]
    first, *others = figure.subplots(1, 1 + len(over_phi), width_ratios=widths, squeeze=False)[0]
    for (name, (T0, delay)), colour in zip(delays.items(), cycle(colormaps["viridis"](np.linspace(0.0, 0.9, 9)))):
        first.plot(1000.0 / T0, delay, ".-", label=name, color=colour, markersize=4)
    first.set(yscale="log", xlabel="1000 K / T0", ylabel="ignition delay [s]")
    first.legend(fontsize="x-small", frameon=False)
    for axes, (name, (phi, values)) in zip(others, over_phi.items(), strict=True):
        axes.plot(phi, values, "o", color="C3")
        axes.set(xlabel="phi", ylabel=name)
    for axes in (first, *others):
        axes.grid(True, which="both", alpha=0.3)
    save(figure, path)


def pareto(path: Path, methods: Mapping[str, Mapping[str, Floats]]) -> None:
    """Draw the ignition-delay error over the weights and over the cost of networks, one colour and marker per method.

    Each method has a point per training as columns (n,): `weights`, `microseconds` per cell, `error` [%], and
    `failed`, the number of cases that did not ignite. Dots are trainings, markers the geometric means of those of one
    size, bars their range; a marker is hollow where a case failed. Networks with equal numbers of weights stand side by
    side around their place, so that they can be distinguished.
    """
    figure = Figure(figsize=(12.5, max(5.2, 0.2 * len(methods) + 2.2)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    low, high = _shown(methods, "weights")
    spread = (high / low) ** _SIDE_BY_SIDE
    for number, (name, columns) in enumerate(methods.items()):
        style = {name: values[number % len(values)] for name, values in _METHOD_STYLES.items()}
        panels[0].plot([], [], linestyle="none", label=name, **style)
        for size in np.unique(columns["weights"]):
            at = columns["weights"] == size
            error = np.maximum(columns["error"][at], _LEAST_ERROR)
            hollow = bool((columns["failed"][at] > 0).any())
            beside = [other for other, theirs in methods.items() if size in theirs["weights"]]
            place = (beside.index(name) + 0.5) / len(beside) - 0.5
            _draw_trainings(panels[0], columns["weights"][at] * spread**place, error, style, hollow)
            _draw_trainings(panels[1], columns["microseconds"][at], error, style, hollow)
    panels[0].plot([], [], "o", color="0.3", markerfacecolor="none", label="hollow: some ignition fails")
    panels[0].plot([], [], ".", color="0.3", markersize=4, label="dot: one training;\nmarker: mean of one size")
    labels = {
        "weights": "weights, without biases; equal ones side by side",
        "microseconds": "cost of a cell and step [us], one core",
    }
    for axes, (name, label) in zip(panels, labels.items(), strict=True):
        axes.set(xscale="log", yscale="log", xlabel=label, xlim=_shown(methods, name), ylim=_shown(methods, "error"))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(EngFormatter(sep="") if name == "weights" else "{x:g}")
            axis.set_minor_formatter(NullFormatter())
        axes.grid(True, which="major", alpha=0.3)
    panels[0].yaxis.set_major_formatter("{x:g}")
    panels[0].set_ylabel("error of the ignition delay, mean over the cases [%]")
    figure.suptitle("Reduced networks, and networks trained from scratch: the lower and the further left, the better")
    figure.legend(loc="outside right center", frameon=False, fontsize="small", title="method")
    save(figure, path)


_SIDE_BY_SIDE = 0.14  # share of the axis


def _shown(methods: Mapping[str, Mapping[str, Floats]], name: str) -> tuple[float, float]:
    """Ends of a logarithmic axis that shows all values of this name."""
    values = np.concatenate([columns[name] for columns in methods.values()])
    if name == "error":
        values = np.maximum(values, _LEAST_ERROR)
    return float(values.min() / 1.6), float(values.max() * 1.6)


def _draw_trainings(axes: Axes, x: Floats, error: Floats, style: Mapping[str, Any], hollow: bool) -> None:
    """Trainings of one method and size: a dot each, their range, their mean."""
    centre = np.exp(np.log(x).mean())
    axes.vlines(centre, error.min(), error.max(), color=style["color"], linewidth=1.0, alpha=0.6)
    axes.plot(x, error, ".", color=style["color"], markersize=4, alpha=0.7)
    face = "white" if hollow else style["color"]
    mean = np.exp(np.log(error).mean())
    axes.plot(centre, mean, markersize=7.5, markerfacecolor=face, linestyle="none", zorder=3, **style)


# Palette for colour-blind readers (Okabe and Ito, 2008); nine markers and seven colours give 63 different pairs.
_METHOD_STYLES: dict[str, Sequence[str]] = {
    "color": ("#000000", "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"),
    "marker": ("*", "o", "s", "D", "^", "v", "P", "X", "p"),
}


STAGES = {"at_once": "at once", "normalised_anew": "with statistics anew", "accuracy": "retrained"}


def accuracies(
    path: Path, methods: Mapping[str, Mapping[str, Sequence[tuple[float, float, float]]]], before: float
) -> None:
    """Draw the accuracy of reduced classifiers over their parameters and multiply-adds, a row of panels per stage.

    Each method has, for every stage of `STAGES`, points of parameters left [%], multiply-adds left [%] and accuracy
    [%]; a line is the accuracy `before`.
    """
    stages = [stage for stage in STAGES if any(points[stage] for points in methods.values())]
    figure = Figure(figsize=(9.5, 2.9 * len(stages) + 0.6), layout="constrained")
    panels = figure.subplots(len(stages), 2, squeeze=False, sharey="row")
    for row, stage in zip(panels, stages, strict=True):
        for number, (name, points) in enumerate(methods.items()):
            columns = np.array(points[stage]).reshape(-1, 3).T
            style = {key: values[number % len(values)] for key, values in _METHOD_STYLES.items()}
            label = name if stage == stages[0] else None
            row[0].plot(columns[0], columns[2], linestyle="none", label=label, alpha=0.8, **style)
            row[1].plot(columns[1], columns[2], linestyle="none", alpha=0.8, **style)
        for axes, what in zip(row, ("parameters", "multiply-adds"), strict=True):
            axes.axhline(before, color="0.5", linewidth=0.8)
            axes.set(xlabel=f"{what} left [%]")
            axes.grid(True, alpha=0.3)
        row[0].set_ylabel(f"test accuracy {STAGES[stage]} [%]")
    figure.legend(loc="outside right center", frameon=False, fontsize="small", title="method; line: before")
    save(figure, path)


def work_precision(path: Path, rows: Mapping[str, Mapping[str, Mapping[str, tuple[Floats, Floats, Floats]]]]) -> None:
    """Draw cost per cell over error, one row of panels per mechanism, one panel per kind of cells, one curve per
    integrator: its errors of T [K], costs [s] and relative tolerances, which stand at points where they have room."""
    columns = max(len(panels) for panels in rows.values())
    figure = Figure(figsize=(2.7 * columns + 0.8, 2.5 * len(rows) + 1.1), layout="constrained")
    grid = figure.subplots(len(rows), columns, sharex=True, sharey="row", squeeze=False)
    for line, (mechanism, panels) in zip(grid, rows.items(), strict=True):
        for axes, (kind, curves) in zip(line, panels.items(), strict=False):
            for colour, (name, curve) in zip(("0.45", "C3"), curves.items(), strict=True):
                axes.plot(curve[0], 1e6 * curve[1], "o-", color=colour, label=name, markersize=4)
            axes.set(xscale="log", yscale="log", title=kind)
            axes.margins(0.14, 0.12)
            axes.yaxis.set_major_formatter("{x:g}")
            axes.grid(True, which="major", alpha=0.3)
        line[0].set_ylabel(f"{mechanism}\ncost of a cell and step [us]")
    figure.supxlabel("error of T, 99th percentile [K]; the numbers are relative tolerances", fontsize="medium")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    figure.draw_without_rendering()  # the axes have their places and limits only now
    for line, panels in zip(grid, rows.values(), strict=True):
        for axes, curves in zip(line, panels.values(), strict=False):
            for curve, drawn in zip(curves.values(), axes.get_lines(), strict=True):
                _label_tolerances(axes, curve, drawn.get_color())
    save(figure, path)


_ROOM = (30.0, 11.0)  # width and height of a tolerance [points]


def _label_tolerances(axes: Axes, curve: tuple[Floats, Floats, Floats], colour: str) -> None:
    """Write the tolerances at the points of a curve, leaving out those that would stand on one before."""
    error, cost, rtol = curve
    places = axes.transData.transform(np.column_stack([error, 1e6 * cost])) * 72.0 / axes.figure.dpi
    taken: list[Floats] = []
    for place, x, y, tolerance in zip(places, error, 1e6 * cost, rtol, strict=True):
        if all((np.abs(place - other) > _ROOM).any() for other in taken):
            text = f"{tolerance:.0e}".replace("e-0", "e-")
            axes.annotate(text, (x, y), (2, 4), textcoords="offset points", color=colour, fontsize=7)
            taken.append(place)
