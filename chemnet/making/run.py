"""A make from its begin to its end, phase by phase: survey, plan, states, rates, training, checks, model, report.

Every phase leaves its result in the folder, with a fingerprint of what it depends on, and its seconds; the same command
goes on from there. The functions are those of the commands: `sample`, `train --scan-rates`, `train`, `validate`.

| file | holds |
|---|---|
| `make.yaml` | the task; another one is refused |
| `survey.json` | what a look at the gas found |
| `recipe.yaml`, `config.yaml`, `cases.yaml`, `choices.json` | the plan; they can be used by the other commands, too |
| `states.h5`, `rates/`, `training/` | the training set, short trainings, the training |
| `calm-first.safetensors` | only where it is needed: the model that leaves calm gas to one exponential step |
| `widest-first.safetensors` | only where that is not enough: the model that leaves nearly all gas to it |
| `ladder/` | the tables of each check, and the references |
| `validation.json` | all tables of the checks, as `chemnet validate --json` writes them |
| `model.safetensors`, `README.md`, `report.html` | the model, its card, its report |
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chemnet.data.dataset import read_attributes
from chemnet.data.recipe import load_recipe
from chemnet.data.sampling import sample
from chemnet.gas.mechanism import Mechanism
from chemnet.making import page, verdict
from chemnet.making.budget import Budget, in_words
from chemnet.making.plan import Plan, make_plan, n_boxes, scales_of
from chemnet.making.survey import Survey, survey
from chemnet.making.task import MakeTask
from chemnet.making.verdict import Verdict
from chemnet.runtime.config import dump_yaml, parse, parse_yaml, read_yaml
from chemnet.runtime.errors import UsageError
from chemnet.runtime.files import read_json, write_json, write_text
from chemnet.runtime.processes import available_cores
from chemnet.runtime.run_folder import MANIFEST, check_same, finish_run, read_kept, sha256, write_kept
from chemnet.runtime.tables import Table
from chemnet.surrogate.hybrid import order_in_words, takes_calm_gas_first
from chemnet.surrogate.model import CalmFirst, Surrogate
from chemnet.surrogate.model_file import fingerprint
from chemnet.training.config import TrainConfig, load_config
from chemnet.training.loop import CHECKPOINT
from chemnet.training.rate_scan import scan_rates
from chemnet.training.run import train
from chemnet.validation import load_cases
from chemnet.validation.flames import Burn
from chemnet.validation.flow import FlowSolver
from chemnet.validation.ignition import CASES as CASE_TABLE
from chemnet.validation.metrics import SUMMARY_OF
from chemnet.validation.reports import figures_of
from chemnet.validation.suite import Suite
from chemnet.validation.suite import run as run_checks

TASK, SURVEY, CHOICES = "make.yaml", "survey.json", "choices.json"
RECIPE, CONFIG, CASES, JUDGING = "recipe.yaml", "config.yaml", "cases.yaml", "judging-cases.yaml"
DATA, RATES, TRAINING, LADDER = "states.h5", "rates", "training", "ladder"
VALIDATION, MODEL, SECONDS = "validation.json", "model.safetensors", "seconds.json"
CALM_FIRST, WIDEST_FIRST = "calm-first.safetensors", "widest-first.safetensors"

SCANNED = (1.0, 0.5, 2.0)  # times the plan's learning rate
_LEAST_TRAINING = 0.5  # of its share of the budget
_OVERRUN = 1.1  # times the budget
_PATIENCE = 2.0  # times the time of a short training, for one of as many steps
_COLD_FROM, _FLAMES_FROM = 20.0, 30.0  # [s] of the time for checks
_CHECKS = ("steps", "ignition", "cold", "flames", "cost")

Report = Callable[[str], None]


@dataclass(frozen=True)
class Tools:
    """Functions of the flow solver for the checks `flames`, `burn` and the identity of the `solver`, and `flow`; None
    without."""

    burn: Burn | None = None
    solver: str = ""
    flow: FlowSolver | None = None


def make(
    task: MakeTask,
    *,
    out: Path | None = None,
    budget: float = 1800.0,
    overwrite: bool = False,
    workers: int | None = None,
    tools: Tools = Tools(),  # noqa: B008 (immutable)
    report: Report = print,
) -> list[Table]:
    """Make the model of a task in `budget` seconds; its folder (default `runs/<name>`) then holds the model, its card
    and its report. Returns the tables of the survey, the choices and the verdict.

    A make that was interrupted goes on where it was; with `overwrite` it begins anew. Raises UsageError for a folder of
    another task and for a gas that does not burn, and what sampling, training and validation raise.
    """
    cores = workers or available_cores()
    mechanism = task.load()
    folder = out or Path("runs") / task.name
    _begin(folder, task, overwrite)
    making = _Making(task, folder, Budget(budget, cores), mechanism, tools, report)
    found = making.look()
    plan = making.plan(found)
    making.sample(plan)
    rate, rates = making.scan(plan)
    making.train(plan, rate)
    tables, missing = making.climb(plan, found)
    decision = making.decide(tables, missing)
    making.write(found, plan, rates, tables, decision)
    return [*page.survey_tables(found), plan.table(), making.time_table(), decision.table()]


def _begin(folder: Path, task: MakeTask, overwrite: bool) -> None:
    """Take a folder. Raises UsageError where it holds another make, or something else."""
    kept = folder / TASK
    if overwrite and kept.exists():
        shutil.rmtree(folder)
    if kept.exists():
        saved = parse(MakeTask, read_yaml(kept), str(kept)).model_dump(mode="json")
        way_out = "Choose another --out, or begin anew with --overwrite."
        check_same(kept, saved, task.model_dump(mode="json"), way_out)
    elif folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty and holds no make\nChoose another --out.")
    write_text(kept, dump_yaml(task))


class _Making:
    """The phases of one make; each returns its result, or the one that is kept."""

    def __init__(
        self, task: MakeTask, folder: Path, budget: Budget, mechanism: Mechanism, tools: Tools, report: Report
    ) -> None:
        self.task, self.folder, self.budget, self.mechanism = task, folder, budget, mechanism
        self.tools, self.report = tools, report
        self.origin = sha256(task.model_dump(mode="json"), mechanism.sha256)

    @property
    def seconds(self) -> dict[str, float]:
        """Wall seconds by phase, of all parts of the make."""
        kept = read_kept(self.folder / SECONDS, self.origin) or {}
        return {name: value for name, value in kept.items() if name != "origin"}

    def timed(self, phase: str, action: Callable[[], Any]) -> Any:
        """Result of an action, whose seconds count for a phase, whatever ends it."""
        start = time.monotonic()
        try:
            return action()
        finally:
            spent = self.seconds
            spent[phase] = spent.get(phase, 0.0) + time.monotonic() - start
            write_kept(self.folder / SECONDS, self.origin, spent)

    def look(self) -> Survey:
        """What a look at the gas found."""
        path = self.folder / SURVEY
        kept = read_kept(path, self.origin)
        if kept is None:
            self.report(f"{self.task.name}: a look at the gas")
            found = self.timed("survey", lambda: survey(self.task, self.budget.cores, self.report, self.budget.flames))
            write_kept(path, self.origin, found.model_dump(mode="json"))
            return self.look()
        del kept["origin"]
        return parse(Survey, kept, str(path))

    def plan(self, found: Survey) -> Plan:
        """The plan, as its files in the folder say."""
        if not (self.folder / CHOICES).exists():
            plan = make_plan(self.task, self.mechanism, found, self.budget, self.folder, self.tools.burn is not None)
            for name, content in ((RECIPE, plan.recipe), (CONFIG, plan.config), (CASES, plan.cases)):
                write_text(self.folder / name, dump_yaml(content))
            write_text(self.folder / JUDGING, dump_yaml(plan.judging))
            write_json(self.folder / CHOICES, {"budget": self.budget.seconds, "choices": plan.choices})
            self.report(plan.table().text())
        return Plan(
            load_recipe(self.folder / RECIPE),
            load_config(self.folder / CONFIG),
            load_cases(path=str(self.folder / CASES)),
            load_cases(path=str(self.folder / JUDGING)),
            [tuple(choice) for choice in read_json(self.folder / CHOICES)["choices"]],
        )

    def sample(self, plan: Plan) -> None:
        """The training set. Raises UsageError where another recipe made the one that is there."""
        path = self.folder / DATA
        if path.exists():
            saved = parse_yaml(str(read_attributes(path)["recipe"]), str(path))
            check_same(path, saved, plan.recipe.model_dump(mode="json"), f"Remove {path} to sample anew.")
        else:
            self.report(f"{plan.recipe.rows:,} states, about {in_words(self.budget.sampling)}")
            self.timed("states", lambda: sample(plan.recipe, path, workers=self.budget.cores, report=self.report))

    def scan(self, plan: Plan) -> tuple[float, Table | None]:
        """The learning rate with the smallest validation loss in short trainings, and their table; the plan's own where
        the budget has no time for them, and that of a training that has begun."""
        usual = plan.config.fit.learning_rate
        begun = self.folder / TRAINING / CONFIG
        scanned = all((self.folder / RATES / f"{factor * usual:g}.json").exists() for factor in SCANNED)
        if begun.exists() and not scanned:
            return load_config(begun).fit.learning_rate, None
        if not (self.budget.scan or scanned):
            return usual, None
        columns: Sequence[str] = ()
        rows: list[tuple[Any, ...]] = []
        for factor in SCANNED:
            (row,) = self._short(plan, factor * usual, rows[0][columns.index("steps")] if rows else None)["rows"]
            columns = tuple(row)
            rows.append(tuple(row.values()))
        table = Table(f"learning rates, {in_words(self.budget.scan / len(SCANNED))} each", columns, rows)
        losses = {row[0]: row[columns.index("validation loss")] for row in rows}
        known = {rate: loss for rate, loss in losses.items() if loss is not None}
        return (min(known, key=lambda rate: known[rate]) if known else 0.5 * usual * min(SCANNED)), table

    def _short(self, plan: Plan, rate: float, steps: int | None) -> dict[str, Any]:
        """Table of one short training, as JSON: a third of the time for rates long, or as many steps as the first, so
        that other work on the machine does not decide."""
        path = self.folder / RATES / f"{rate:g}.json"
        origin = sha256(self.origin, dump_yaml(plan.config), dump_yaml(plan.recipe))
        kept = read_kept(path, origin)
        if kept is not None:
            return kept
        minutes = self.budget.scan / len(SCANNED) / 60.0 * (1.0 if steps is None else _PATIENCE)
        fit = plan.config.fit.model_copy(update={} if steps is None else {"steps": steps})
        config = plan.config.model_copy(update={"fit": fit})

        def scan() -> Table:
            return scan_rates(
                config,
                [rate],
                data=self.folder / DATA,
                out=self.folder / RATES,
                seed=self.task.seed,
                max_minutes=minutes,
                cases=plan.judging,
                overwrite=True,
                report=self.report,
            )

        write_kept(path, origin, self.timed("rates", scan).as_json())
        return self._short(plan, rate, steps)

    def train(self, plan: Plan, rate: float) -> None:
        """The training, at a learning rate; one that was interrupted goes on. Raises UsageError where another config
        made the one that is there."""
        out = self.folder / TRAINING
        fit = plan.config.fit.model_copy(update={"learning_rate": rate})
        config = plan.config.model_copy(update={"fit": fit})
        if (out / MANIFEST).exists():
            facts = config.model_dump(mode="json")
            check_same(out / CONFIG, read_yaml(out / CONFIG), facts, f"Remove {out} to train anew.")
            return
        seconds = self._training_seconds(resume := (out / CHECKPOINT).exists())
        self.report(f"training at a rate of {rate:g} for {in_words(seconds)}")
        self.timed("training", lambda: self._train(plan, config, seconds, resume))

    def _training_seconds(self, resume: bool) -> float:
        """Seconds for the training; what phases before it took too long is missing here, and what they left is not.
        Half of its share is left to it, even if the budget is spent: the model would be worth nothing."""
        spent = sum(seconds for phase, seconds in self.seconds.items() if phase != "training")
        left = self.budget.seconds - self.budget.ladder - spent
        return max(_LEAST_TRAINING * self.budget.training, left)

    def _train(self, plan: Plan, config: TrainConfig, seconds: float, resume: bool) -> Path:
        return train(
            config,
            data=self.folder / DATA,
            out=self.folder / TRAINING,
            seed=self.task.seed,
            resume=resume,
            max_minutes=seconds / 60.0,
            cases=plan.judging,
            report=self.report,
        )

    def climb(self, plan: Plan, found: Survey) -> tuple[list[Table], dict[str, str]]:
        """The tables of the checks, the summary of all figures last, and of checks that cannot be made the reason."""
        missing = self._missing(plan, found)
        model = self._choose_calm_gas(plan, found)
        checks = [check for check in _CHECKS if check not in missing]
        if self._n_boxes(found):
            checks.append("flow")
        content = [self._check(check, model, plan, found) for check in checks]
        if "flow" in checks and not (of_flow := content[-1])[-1]["rows"]:
            reason = next(row["outcome"] for row in of_flow[0]["rows"])
            missing["flow"] = f"no turbulent flame was checked ({reason})"
        tables = [Table.from_json(table) for of_check in content for table in of_check[:-1]]
        rows = [tuple(row.values()) for of_check in content for row in of_check[-1]["rows"]]
        columns = ("check", "figure", "value", "target", "met")
        tables.append(Table(f"{SUMMARY_OF} {self.task.name}", columns, rows))
        write_json(self.folder / VALIDATION, {"tables": [table.as_json() for table in tables]})
        return tables, missing

    def _choose_calm_gas(self, plan: Plan, found: Survey) -> Path:
        """The trained model; where it misses a target of the ignitions or of the turbulent flames, one that leaves calm
        gas, or nearly all, to one exponential step before the network is asked: slower, and nearly exact.

        Of several that miss the last.
        """
        trained = self.folder / TRAINING / MODEL
        usual = takes_calm_gas_first(self.mechanism)
        for name in (CALM_FIRST, WIDEST_FIRST):
            (self.folder / name).unlink(missing_ok=True)
        orders: list[CalmFirst | None] = [None, "widest"] if usual else [None, "usual", "widest"]
        for order in orders:
            path = trained if order is None else self.folder / (CALM_FIRST if order == "usual" else WIDEST_FIRST)
            if order is not None:
                Surrogate.load(trained).with_calm_first(order).save(path)
            if self._meets(path, plan, found):
                break
        return path

    def _meets(self, model: Path, plan: Plan, found: Survey) -> bool:
        """Whether a model meets the targets of ignitions and of turbulent flames."""
        for check in ("ignition", *(["flow"] if self._n_boxes(found) else [])):
            summary = self._check(check, model, plan, found)[-1]["rows"]
            if summary and not verdict.passes(check, {row["figure"]: row["value"] for row in summary}):
                return False
        return True

    def _n_boxes(self, found: Survey) -> int:
        """How many small turbulent flames are checked."""
        return n_boxes(found, self.mechanism, self.task.dt, self.budget) if self.tools.flow else 0

    def _missing(self, plan: Plan, found: Survey) -> dict[str, str]:
        """Checks that cannot be made, and why."""
        short = f"a budget of {in_words(self.budget.seconds)} has no time for it"
        missing = {}
        if plan.cases.delays == 0.0:  # those of `judging`
            missing["late ignitions"] = f"late ignitions were not checked ({short})"
        if self.budget.ladder < _COLD_FROM:
            missing["cold"] = f"cold gas was not checked ({short})"
        reason = found.without_flames
        if reason is None and self.tools.burn is None:
            reason = "there is no flow solver"
        if reason is None and self.budget.ladder < _FLAMES_FROM:
            reason = short
        if reason is not None:
            missing["flames"] = f"no flame was checked ({reason})"
        elif not self._n_boxes(found):
            missing["flow"] = f"no turbulent flame was checked ({short})"
        return missing

    def _check(self, check: str, model: Path, plan: Plan, found: Survey) -> list[dict[str, Any]]:
        """Tables of one check of a model file as JSON."""
        path = self.folder / LADDER / f"{'' if model.name == MODEL else model.stem + '-'}{check}.json"
        origin = sha256(self.origin, fingerprint(model), dump_yaml(plan.cases))
        kept = read_kept(path, origin)
        if kept is not None:
            return list(kept["tables"])
        self.report(f"check: {check}, where {order_in_words(Surrogate.load(model))}")
        suite = Suite(
            str(model),
            plan.cases,
            data=self.folder / DATA,
            cache=self.folder / LADDER / "references",
            **self._flow_solver(found),
            report=self.report,
        )
        tables = self.timed("checks", lambda: run_checks(suite, [check]))
        write_kept(path, origin, {"tables": [table.as_json() for table in tables]})
        return self._check(check, model, plan, found)

    def _flow_solver(self, found: Survey) -> dict[str, Any]:
        """What burns flames: the flow solver, in boxes that fit the gas."""
        if self.tools.burn is None or not found.flames:
            return {}
        return {
            "burn": self.tools.burn,
            "solver": self.tools.solver,
            "flow": self.tools.flow,
            "scales": scales_of(found),
            "n_boxes": self._n_boxes(found),
        }

    def decide(self, tables: Sequence[Table], missing: Mapping[str, str]) -> Verdict:
        """The verdict on the figures of the checks."""
        cases = next(table for table in tables if table.title == CASE_TABLE).as_json()["rows"]
        summary = tables[-1].as_json()["rows"]
        return verdict.judge(figures_of(self.folder / VALIDATION), verdict.columns_of(cases), missing, summary)

    def time_table(self) -> Table:
        """Wall time by phase, of all parts of the make."""
        spent = self.seconds
        total = sum(spent.values())
        short = ", which was too small" if total > _OVERRUN * self.budget.seconds else ""
        title = f"wall time, of a budget of {in_words(self.budget.seconds)}{short}"
        return Table(title, ("phase", "seconds"), [*spent.items(), ("all", total)])

    def write(self, found: Survey, plan: Plan, rates: Table | None, tables: Sequence[Table], decision: Verdict) -> None:
        """The model with its figures, its card, its report, and the manifest; nothing where they are there."""
        origin = sha256(self.origin, self.folder / VALIDATION, decision.line(), self.seconds)
        manifest = self.folder / MANIFEST
        if manifest.exists() and read_json(manifest).get("origin") == origin:
            return
        chosen = [path for name in (WIDEST_FIRST, CALM_FIRST) if (path := self.folder / name).exists()]
        trained = Surrogate.load([*chosen, self.folder / TRAINING][0])
        figures = figures_of(self.folder / VALIDATION)
        facts = {"ladder": figures, "verdict": decision.line(), "cases": plan.cases.model_dump(mode="json")}
        if found.flames:
            facts["scales"] = scales_of(found).model_dump(mode="json")
        model = trained.with_network(trained.network, **facts)
        model.save(self.folder / MODEL)
        content = page.Content(
            self.task, self.budget, self.mechanism, found, plan, rates, tables, decision, self.time_table(), model
        )
        page.write(self.folder, content)
        facts = {"verdict": decision.line(), "seconds": self.seconds, "origin": origin}
        finish_run(self.folder, "make", self.task.name, facts)
