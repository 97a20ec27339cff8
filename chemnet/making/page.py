"""What a make writes for people: the tables of the survey, the card of the model, and its report in one file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chemnet.benchmark.timing import processor
from chemnet.data import coverage
from chemnet.gas.mechanism import Mechanism
from chemnet.gas.state import ONE_ATM, Array
from chemnet.making.budget import Budget, in_words
from chemnet.making.plan import Plan
from chemnet.making.survey import Survey
from chemnet.making.task import MakeTask
from chemnet.making.verdict import Verdict
from chemnet.runtime import html_page
from chemnet.runtime.files import write_text
from chemnet.runtime.lazy import installed
from chemnet.runtime.tables import Table, cell
from chemnet.surrogate.hybrid import order_in_words
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.network import count, describe
from chemnet.training.domain_fit import domain_facts
from chemnet.validation.metrics import SUMMARY_OF
from chemnet.validation.reports import ignitions

CARD, REPORT, PICTURES = "README.md", "report.html", "pictures"


@dataclass(frozen=True)
class Content:
    """All that a make found, chose and measured."""

    task: MakeTask
    budget: Budget
    mechanism: Mechanism
    found: Survey
    plan: Plan
    rates: Table | None
    tables: Sequence[Table]
    verdict: Verdict
    seconds: Table
    model: Surrogate

    @property
    def name(self) -> str:
        """Name of the model with its widths."""
        return f"{self.task.name}, {'-'.join(map(str, describe(self.model.network).widths))}"

    @property
    def figures(self) -> Table:
        """All figures of the checks."""
        return next(table for table in self.tables if table.title.startswith(SUMMARY_OF))


def survey_tables(found: Survey) -> list[Table]:
    """What a look at the gas found: its ranges, and flames and burnt gas by mixture."""
    facts = [
        ("mixtures that burn, phi", _range(found.burns)),
        ("mixtures of the model, phi", _range(found.phi)),
        ("T0 with delays of 5 to 10,000 steps [K]", _range(found.T0)),
        ("burnt gas of cold gas [K]", _range(_ends([b.burnt for b in found.burnt]))),
        ("T at the end of ignitions [K]", _range(_ends([i.end for i in found.ignitions if i.delay is not None]))),
        ("hottest unburnt gas that burns to a valid state [K]", found.kernel),
        ("exact step of a reacting cell [us]", 1e6 * found.seconds_per_step),
        ("flames", found.without_flames or len(found.flames)),
        *(("note", note) for note in found.notes),
    ]
    tables = [Table("the gas", ("fact", "value"), facts)]
    if found.flames:
        rows = [(f.P / ONE_ATM, f.phi, f.speed, 1e3 * f.thickness) for f in sorted(found.flames, key=lambda f: f.phi)]
        tables.append(Table("flames", ("P [atm]", "phi", "speed [m/s]", "thickness [mm]"), rows))
    return tables


def write(folder: Path, content: Content) -> None:
    """Write the card and the report into a folder."""
    write_text(folder / CARD, "\n".join(_card(content)) + "\n")
    write_text(folder / REPORT, html_page.page(content.name, content.verdict.line(), list(_body(folder, content))))


def _card(content: Content) -> Iterator[str]:
    """Lines of the card, as those of the models that ship."""
    task, model, recipe = content.task, content.model, content.plan.recipe
    fuel, air = (" + ".join(moles) for moles in (task.fuel, task.oxidizer))
    yield f"# {task.name}"
    yield ""
    yield (
        f"{fuel} and {air}, {'-'.join(map(str, describe(model.network).widths))}, "
        f"{count(model.network, biases=False):,} weights, for steps of {1e6 * task.dt:g} us."
    )
    yield ""
    yield f"**{content.verdict.line()}**"
    yield ""
    budget = content.budget
    yield f"Made by `{task.command} --budget {in_words(budget.seconds)}` on {budget.cores} cores of {processor()}."
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield f"| mechanism | `{task.mechanism}`: {content.mechanism.n_species} species |"
    yield f"| data | {recipe.rows:,} pairs of `recipe.yaml` (seed {recipe.seed}), labels by the exact integrator |"
    for name, value in domain_facts(model.domain):
        yield f"| {name} | {cell(value)} |"
    for name in ("steps", "seconds", "validation_loss"):
        yield f"| training: {name.replace('_', ' ')} | {model.metadata[name]:.6g} |"
    yield f"| integrated, not predicted | gas below {model.cold_limit:g} K, and calm gas ({model.calm_limit:g}) |"
    yield f"| order | {order_in_words(model)} |"
    for table in (*survey_tables(content.found), content.plan.table(), content.seconds, content.verdict.table()):
        yield from ("", f"## {table.title[0].upper()}{table.title[1:]}", "", table.markdown())
    yield from ("", "## Validation", "", content.figures.markdown())


def _body(folder: Path, content: Content) -> Iterator[str]:
    """Parts of the report."""
    pictures = _draw(folder, content)
    for heading, tables, names in (
        ("Verdict", [content.verdict.table(), content.seconds], ("delays",)),
        ("The gas", survey_tables(content.found), ("gas",)),
        ("What was chosen, and why", [content.plan.table()], ("states",)),
        ("Training", [content.rates] if content.rates else [], ("losses",)),
        ("Checks", content.tables, ()),
    ):
        yield html_page.heading(heading)
        yield from (html_page.table(table.title, table.cells(), table.columns, table.holds_words()) for table in tables)
        yield from (html_page.figure(pictures[name], _CAPTIONS[name]) for name in names if name in pictures)
    if not pictures:
        yield html_page.paragraph("The pictures need matplotlib: pip install matplotlib, then run make again.")


_CAPTIONS = {
    "delays": "Ignition delays of the model and of the exact integrator, and their errors.",
    "gas": "Ignition delays at all corners; flames and burnt gas.",
    "states": "The states of the training set.",
    "losses": "Losses of the training.",
}


def _draw(folder: Path, content: Content) -> dict[str, Path]:
    """Pictures by name; none without matplotlib."""
    if not installed("matplotlib"):
        return {}
    from chemnet.runtime import plots

    files = {name: folder / PICTURES / f"{name}.png" for name in _CAPTIONS}
    (cases,) = ignitions(folder / "validation.json").values()
    plots.ignition_delays(files["delays"], {content.task.name: cases})
    plots.gas(files["gas"], _delays(content.found), _over_phi(content.found))
    coverage.draw(folder / "states.h5", files["states"])
    plots.losses(files["losses"], {content.task.name: folder / "training" / "loss.csv"})
    return files


def _delays(found: Survey) -> dict[str, tuple[Array, Array]]:
    """Curves of ignition delays [s] over T0 [K]."""
    curves: dict[str, tuple[Array, Array]] = {}
    for P, phi in dict.fromkeys((i.P, i.phi) for i in found.ignitions):
        mine = [(i.T0, i.delay) for i in found.ignitions if (i.P, i.phi) == (P, phi) and i.delay is not None]
        if mine:
            T0, delay = np.array(mine).T
            curves[f"{P / ONE_ATM:.3g} atm, phi {phi:.3g}"] = (T0, delay)
    return curves


def _over_phi(found: Survey) -> Mapping[str, tuple[Array, Array]]:
    """Quantities over phi."""
    middle_P = sorted({b.P for b in found.burnt})[len({b.P for b in found.burnt}) // 2]
    burnt = np.array([(b.phi, b.burnt) for b in found.burnt if middle_P == b.P]).T
    panels = {"burnt gas of cold gas [K]": (burnt[0], burnt[1])}
    if found.flames:
        speeds = np.array([(flame.phi, flame.speed) for flame in found.flames]).T
        panels["flame speed [m/s]"] = (speeds[0], speeds[1])
    return panels


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _range(limits: tuple[float, float]) -> tuple[float, float]:
    return float(limits[0]), float(limits[1])
