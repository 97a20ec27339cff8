"""The page of a reduction: `reduction.md` and `reduction.html` with its pictures, written beside the stages.

Its tables and pictures are those of the paper, with the project's own figures: table 1 (sizes and losses), figure 2
(loss curves), figure 3 (similarity of the neurons before a cut).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import nn

from chemnet.condensation import similarity
from chemnet.condensation.channel_vectors import layer_vectors
from chemnet.reduction.stage_run import Delays, StageReport
from chemnet.reduction.stages import Cut, Stage, Stages, hidden_layers
from chemnet.runtime.lazy import installed
from chemnet.runtime.report import Heading, Part, Picture, Points, write_report
from chemnet.runtime.tables import Table
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.network import describe

PAGE, PICTURES = "reduction", "pictures"

_CONDENSED = 0.9  # similarity from which on neurons count as one group in the maps; the paper's first threshold
_PIXELS = 320  # of a map, at most, in each direction

_CHOICES = {
    "cosine": "grouped by the cosine similarity of their weights",
    "qr": "chosen by a pivoted QR factorisation of their activations",
    "forward": "chosen one after the other by what the next layer needs of them",
}
_MERGES = {
    "paper": "the others are merged into them by the rule of the paper",
    "refit": "the next layer is fitted anew on calibration states",
}


def write_page(
    out: Path,
    original: Surrogate,
    stages: Stages,
    reports: Sequence[StageReport],
    sizes: Table,
    curves: Mapping[str, Path],
) -> list[Path]:
    """Write the page of the stages in `out`, as Markdown and as one file of HTML, and its pictures; the paths of both.

    `sizes` is the table of all stages, `curves` are files `loss.csv` to draw, by title. Without matplotlib there are no
    pictures, and the page says so.
    """
    title = "-".join(map(str, describe(original.network).widths))
    parts: list[Part] = [
        Heading("Sizes, losses, ignition delays"),
        "Losses are those on the validation states: before a cut, at once after it, and after retraining. Delays are "
        "those of the quick ignitions; a failed case does not ignite or leaves the domain.",
        dataclasses.replace(sizes, title=""),
    ]
    parents = [original, *(Surrogate.load(out / f"stage-{r.stage}", original.mechanism) for r in reports[:-1])]
    for parent, settings, report in zip(parents, stages.stages, reports, strict=False):
        parts += _stage(parent, settings, report)
    parts += _pictures(out, parents, stages, reports, curves)
    return write_report(out / PAGE, f"Reduction of {title}", stages.description, parts)


def _stage(parent: Surrogate, settings: Stage, report: StageReport) -> list[Part]:
    """Section of one stage."""
    before = describe(parent.network).widths
    cuts = ", ".join(_cut(cut, before[cut.layer], report.widths[cut.layer]) for cut in settings.cuts)
    if settings.choice != "cosine":
        merging = ""
    elif report.exact:
        merging = " Merging is exact for parallel neurons."
    else:
        merging = " Merging is not exact, since the activation is not homogeneous."
    saved = 1.0 - report.loss_after / report.loss_before
    change = "smaller" if saved > 0 else "larger"
    points = [
        f"The cut alone changed the outputs by {100.0 * report.output_change:.2g} % of their mean size, and the loss "
        f"from {report.loss_before:.4g} to {report.loss_at_once:.4g}.",
        f"After {report.steps:,} steps ({report.seconds:.0f} s) the loss is {report.loss_after:.4g}, "
        f"{100.0 * abs(saved):.2g} % {change} than before the cut.",
    ]
    if report.delays_before and report.delays_after:
        points.append(f"Ignition delays: {_delays(report.delays_before)} before, {_delays(report.delays_after)} after.")
    rule = f"The neurons that stay are {_CHOICES[settings.choice]}; {_MERGES[settings.merge]}.{merging}"
    return [Heading(f"Stage {report.stage}"), f"{cuts}. {rule}", Points(points)]


def _cut(cut: Cut, before: int, after: int) -> str:
    asked = ""
    if cut.threshold is not None:
        asked = f" (similarity {cut.threshold:g})"
    elif cut.loss_increase is not None:
        asked = f" (loss at most {100.0 * cut.loss_increase:g} % larger)"
    return f"Hidden layer {cut.layer}: {before} to {after} neurons{asked}"


def _delays(delays: Delays) -> str:
    if delays.mean is None or delays.max is None:
        return f"none of {delays.cases} ignites"
    failed = f", {delays.failed} of {delays.cases} failed" if delays.failed else ""
    return f"{delays.mean:.2g} % off on average, {delays.max:.2g} % at most{failed}"


def _pictures(
    out: Path,
    parents: Sequence[Surrogate],
    stages: Stages,
    reports: Sequence[StageReport],
    curves: Mapping[str, Path],
) -> list[Part]:
    if not installed("matplotlib"):
        return ["The pictures need matplotlib: `pip install matplotlib`, then run the command again."]
    from chemnet.runtime import plots

    folder = out / PICTURES
    folder.mkdir(exist_ok=True)
    plots.loss_panels(folder / "losses.png", curves)
    parts: list[Part] = [
        Heading("Loss curves"),
        "Training (grey) and validation loss (red).",
        Picture(folder / "losses.png", "losses"),
        Heading("Similarity of the neurons"),
        "Cosine similarity of the vectors of weights and bias, ordered by groups of neurons that are at least "
        f"{_CONDENSED:g} alike, the largest group first: where a layer has condensed there are red squares on the "
        "diagonal.",
    ]
    every: Sequence[int] = range(1, len(describe(parents[0].network).widths) - 1)
    shown = [("the original", "original", parents[0], every, stages.stages[0])]
    for parent, settings, report in list(zip(parents, stages.stages, reports, strict=False))[1:]:
        cut = [cut.layer for cut in settings.cuts]
        shown.append((f"before stage {report.stage}", f"before-{report.stage}", parent, cut, settings))
    for title, name, model, layers, settings in shown:
        picture = folder / f"similarity-{name}.png"
        plots.similarity_maps(picture, _maps(model, layers, settings.include_bias))
        parts.append(Picture(picture, title))
    return parts


def _maps(model: Surrogate, layers: Sequence[int], include_bias: bool) -> dict[str, similarity.Floats]:
    """The similarities in some hidden layers, in the order of their groups, by a title that counts them."""
    maps = {}
    for layer in layers:
        found = similarity_map(model.network, layer, include_bias)
        maps[f"hidden layer {layer}\n{found.words}"] = found.matrix
    return maps


class SimilarityMap(NamedTuple):
    """Cosine similarities of the neurons of a layer, in the order of their groups at 0.9, as means over blocks; the
    numbers of neurons and of groups."""

    matrix: similarity.Floats
    neurons: int
    groups: int

    @property
    def words(self) -> str:
        """The numbers, for a title."""
        return f"{self.neurons:,} neurons, {self.groups:,} groups at {_CONDENSED:g}"


def similarity_map(network: nn.Sequential, layer: int, include_bias: bool = True) -> SimilarityMap:
    """The map of a hidden layer, of which the first is 1."""
    neurons = network.get_submodule(hidden_layers(network)[layer - 1])
    matrix = similarity.cosine_similarity(layer_vectors(neurons, include_bias))
    groups = similarity.group(matrix, _CONDENSED)
    order = by_group(groups)
    return SimilarityMap(pooled(matrix[np.ix_(order, order)], _PIXELS), len(matrix), similarity.n_groups(groups))


def by_group(main_of: similarity.Grouping) -> similarity.Grouping:
    """The neurons (m,) in the order of their groups: large groups first, those of one group together, its main neuron
    first; neurons that belong to no group come last."""
    members = np.flatnonzero(main_of != similarity.NO_GROUP)
    sizes = np.bincount(main_of[members], minlength=len(main_of))
    is_main = members == main_of[members]
    order = members[np.lexsort((~is_main, main_of[members], -sizes[main_of[members]]))]
    return np.concatenate([order, np.flatnonzero(main_of == similarity.NO_GROUP)])


def pooled(matrix: similarity.Floats, most: int) -> similarity.Floats:
    """A square matrix as means over equal blocks, so that it has at most `most` rows; what is left over is cut off."""
    block = -(-len(matrix) // most)
    rows = len(matrix) // block
    blocks: similarity.Floats = matrix[: rows * block, : rows * block].reshape(rows, block, rows, block).mean((1, 3))
    return blocks
