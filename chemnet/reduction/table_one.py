"""Table 1 and figures 2 and 3 of the condensation paper, with the figures of an experiment beside the published ones.

The page, `table-1.md` and `table-1.html`, says of what the paper claims whether it held here, seed by seed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from chemnet.condensation.similarity import Floats
from chemnet.reduction.published_experiment import CONTROL, ORIGINAL, Result
from chemnet.reduction.report import PICTURES, similarity_map
from chemnet.reduction.run import threshold_table
from chemnet.reduction.stage_run import dashed
from chemnet.runtime.lazy import installed
from chemnet.runtime.report import Heading, Part, Picture, Points, write_report
from chemnet.runtime.tables import Table
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.network import build, count, describe

PAGE = "table-1"
# Table 1: structure and validation loss of the original and of its three reductions.
PUBLISHED = (
    ("23-3200-1600-800-400-23", 0.02276),
    ("23-2205-1600-800-400-23", 0.01694),
    ("23-1105-1600-800-400-23", 0.01454),
    ("23-1105-1309-800-400-23", 0.01434),
)
_NAMES = ("original", "reduction 1", "reduction 2", "reduction 3")
_LAYER = 2  # whose neurons figure 3 shows
_REDUCED = 0.95  # share of the weights above which nothing has been reduced, and no claim is tested


def tables(results: Sequence[Result]) -> list[Table]:
    """Table 1, and the number of groups by similarity threshold in each network, of every seed."""
    found = [_sizes(results)]
    for result in results:
        models = [result.original, *(result.models("thresholds") if "thresholds" in result.stages else ())]
        for name, model in zip(_NAMES, models, strict=False):
            groups = threshold_table(model)
            found.append(dataclasses.replace(groups, title=f"seed {result.seed}, {name}: {groups.title}"))
    return found


def _sizes(results: Sequence[Result]) -> Table:
    """Structure, size and losses of all networks, beside the published ones."""
    rows: list[tuple[Any, ...]] = []
    for result in results:
        full, loss = count(result.original.network, biases=False), _loss(result.original)
        rows.append((result.seed, "", ORIGINAL, *_of(result.original.network, full), None, loss, *PUBLISHED[0]))
        for series, reports in result.stages.items():
            if series == CONTROL:
                small = result.begun(series)
                rows.append((result.seed, series, ORIGINAL, *_of(small.network, full), None, _loss(small), None, None))
            for r in reports:
                published = PUBLISHED[r.stage] if series in ("thresholds", "widths") else (None, None)
                size = (dashed(r.widths), r.weights, 100.0 * r.weights / full)
                rows.append((result.seed, series, f"stage {r.stage}", *size, r.loss_at_once, r.loss_after, *published))
    columns = ("seed", "series", "network", "structure", "weights", "weights [%]", "loss at once", "loss")
    return Table("table 1", (*columns, "published structure", "published loss"), rows)


def _of(network: nn.Sequential, full: int) -> tuple[str, int, float]:
    weights = count(network, biases=False)
    return dashed(describe(network).widths), weights, 100.0 * weights / full


def _loss(model: Surrogate) -> float:
    return float(model.metadata["validation_loss"])


# ---- what the paper claims


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence of the paper, the series that it needs, and whether it holds for a result, with the figures."""

    text: str
    needs: str
    holds: Callable[[Result], tuple[bool, str]]


def _falls(result: Result) -> tuple[bool, str]:
    losses = [_loss(result.original), *(r.loss_after for r in result.stages["thresholds"])]
    return bool(np.all(np.diff(losses) < 0.0)), " to ".join(f"{loss:.4g}" for loss in losses)


def _recovers(result: Result) -> tuple[bool, str]:
    reports = result.stages["thresholds"]
    shown = ", ".join(f"{r.loss_before:.4g} to {r.loss_at_once:.4g} to {r.loss_after:.4g}" for r in reports)
    return all(r.loss_after <= r.loss_before for r in reports), shown


def _beside(series: str) -> Callable[[Result], tuple[bool, str]]:
    def holds(result: Result) -> tuple[bool, str]:
        reduced, other = (result.stages[name][-1].loss_after for name in ("thresholds", series))
        return reduced < other, f"{reduced:.4g} and {other:.4g}"

    return holds


def _second_layer(result: Result) -> tuple[bool, str]:
    shares = [_groups(result.original.network), *(_groups(network) for network in result.at_once)]
    return bool(np.all(np.diff(shares[:3]) < 0.0)), " to ".join(f"{100.0 * share:.0f} %" for share in shares)


def _groups(network: nn.Sequential) -> float:
    """Groups of the neurons of figure 3 at 0.9, as a share of the neurons."""
    found = similarity_map(network, _LAYER)
    return found.groups / found.neurons


_WORDS = {True: "yes", False: "no"}
CLAIMS = (
    Claim("The loss falls with every reduction and its training.", "thresholds", _falls),
    Claim("Merging condensed neurons hardly matters: the loss comes back.", "thresholds", _recovers),
    Claim("The second layer condenses more with each reduction of the first (groups at 0.9 before training).",
          "thresholds", _second_layer),
    Claim("The reduced network is better than one of its size that is trained directly.", CONTROL, _beside(CONTROL)),
    Claim("(not in the paper) It is better than the unreduced one with the same training.",
          "unreduced", _beside("unreduced")),
)  # fmt: skip


def verdicts(results: Sequence[Result]) -> list[str]:
    """Of each claim, whether it held, by seed; one whose series was not run, or that took nothing away, is untested."""
    lines = []
    for claim in CLAIMS:
        found = []
        for result in (each for each in results if {"thresholds", claim.needs} <= each.stages.keys()):
            left = result.stages["thresholds"][-1].weights / count(result.original.network, biases=False)
            holds, figures = claim.holds(result)
            word = f"untested, {100.0 * left:.3g} % of the weights are left" if left > _REDUCED else _WORDS[holds]
            found.append(f"seed {result.seed} {word} ({figures})")
        lines.append(f"{claim.text} {'; '.join(found) or 'untested'}.")
    return lines


# ---- the page


def write_page(out: Path, results: Sequence[Result], machine: str) -> list[Path]:
    """Write `table-1.md` and `table-1.html` in `out`, with their pictures; the paths of both."""
    sizes, *groups = tables(results)
    parts: list[Part] = [
        "Validation loss of the label difference, standardised; at once: after a cut, before training. The published "
        "losses are of another training set, so that only their course can be compared.",
        dataclasses.replace(sizes, title=""),
        Heading("What the paper claims"),
        Points(verdicts(results)),
        *_pictures(out, results),
        Heading("Groups by similarity threshold"),
        *groups,
    ]
    return write_report(out / PAGE, "The published experiment", machine, parts)


def _pictures(out: Path, results: Sequence[Result]) -> list[Part]:
    """Figures 2 and 3 of every seed."""
    if not installed("matplotlib"):
        return ["The pictures need matplotlib: `pip install matplotlib`, then run the command again."]
    from chemnet.runtime import plots

    folder = out / PICTURES
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[Part] = [Heading("Figures 2 and 3")]
    for result in (result for result in results if "thresholds" in result.stages):
        curves = {"original": result.folder / ORIGINAL}
        curves |= {f"reduction {n}": result.stage("thresholds", n) for n in (1, 2, 3)}
        picture = folder / f"losses-{result.seed}.png"
        plots.loss_panels(picture, {title: run / "loss.csv" for title, run in curves.items()})
        parts.append(Picture(picture, f"Figure 2, seed {result.seed}: training (grey) and validation loss (red)"))
        picture = folder / f"similarity-{result.seed}.png"
        plots.similarity_maps(picture, _maps(result), columns=len(_NAMES))
        caption = f"Figure 3, seed {result.seed}: cosine similarity of layer {_LAYER}, before training and after it"
        parts.append(Picture(picture, caption))
    return parts


def _maps(result: Result) -> dict[str, Floats]:
    """Similarities of the neurons of figure 3: original and reductions before training, then after it."""
    config = describe(result.original.network).model_copy(update={"initialisation": "paper"})
    before = [build(config, result.seed), *result.at_once]
    after = [model.network for model in (result.original, *result.models("thresholds"))]
    maps = {}
    for moment, networks in (("before training", before), ("trained", after)):
        for name, network in zip(_NAMES, networks, strict=True):
            found = similarity_map(network, _LAYER)
            maps[f"{name}, {moment}\n{found.words}"] = found.matrix
    return maps
