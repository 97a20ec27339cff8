"""Refinement of a model in a closed loop: it runs flows, the states that it visits are labelled, and it trains on them.

A network is trained on states of exact runs, and errs its way to others. Each round takes small flows that are run by
the model of the round before (`data.sampling`, kind `flow`), labels their states by the exact step, trains the model on
with all states so far, and judges it (Ross, Gordon and Bagnell, 2011, call this DAgger).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from chemnet.data import dataset
from chemnet.data.recipe import Recipe, stored_recipe
from chemnet.data.sampling import sample
from chemnet.runtime.config import parse
from chemnet.runtime.errors import UsageError
from chemnet.runtime.files import read_json, write_json
from chemnet.runtime.processes import available_cores
from chemnet.runtime.run_folder import MANIFEST, check_same, clear_run, read_kept, sha256, write_kept
from chemnet.runtime.tables import Table
from chemnet.surrogate.model_file import find_model, fingerprint
from chemnet.training.config import TrainConfig
from chemnet.training.loop import CHECKPOINT
from chemnet.training.options import FitOptions
from chemnet.training.run import ensure_data, train
from chemnet.validation.metrics import Figure

_SEEDS = 100_000  # of the flows of one round, apart from those of the recipe and of other rounds
_FACTS, _START, _JUDGEMENT = "refine.json", "start.json", "judgement.json"

FlowJudge = Callable[[Path], Sequence[Figure]]


def refine(
    model: str | Path,
    config: TrainConfig,
    judge: FlowJudge,
    *,
    rounds: int = 3,
    runs: int = 12,
    rows: int = 60_000,
    rate: float = 0.2,
    data: Path | None = None,
    out: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    max_minutes: float | None = None,
    overwrite: bool = False,
    report: Callable[[str], None] = print,
) -> Table:
    """Table of the rounds: the figures of the model, and after each round of it; a round that is there is not repeated.
    Rounds of another model, data or other settings are refused, with `overwrite` replaced.

    A round takes `runs` flows and `rows` states of them, and one training of at most `max_minutes`, with the options of
    `config` at `rate` times its learning rate. The loop ends after `rounds`, or when `judge` has no figure beyond its
    target. Round n is left in `out/round-n` (default `runs/<config>-refined`): `states.h5`, and the run folder
    `training`. Raises UsageError for a training set whose recipe has no flow, and what sampling and `train` raise.
    """
    path, out = find_model(model), out or Path("runs") / f"{config.name}-refined"
    base = data or config.data
    if data is None:
        ensure_data(config, base, report)
    recipe = stored_recipe(dataset.read_attributes(base))
    if recipe is None:
        raise UsageError(f"{base} does not hold its recipe; sample it again")
    if recipe.flow is None:
        raise UsageError(f"the recipe of {base} has no flow\nTake a set of one that has, such as DRM19's: --data FILE")
    _begin(
        out,
        overwrite,
        {
            "model": fingerprint(path),
            "config": config.model_dump(mode="json", exclude={"name", "description"}),
            "data": str(base),
            **{"runs": runs, "rows": rows, "rate": rate, "seed": seed},
        },
    )
    options = parse(FitOptions, config.fit.model_dump() | {"learning_rate": rate * config.fit.learning_rate}, "refine")
    gentle, sets = config.model_copy(update={"fit": options}), [base]
    judged = [_judged(path, out / _START, judge, report)]
    for number in range(1, rounds + 1):
        if all(figure.met != "no" for figure in judged[-1]):
            report(f"all targets met after round {number - 1}")
            break
        folder = out / f"round-{number}"
        sets.append(_visited(folder / "states.h5", recipe, path, runs, rows, number * _SEEDS, report))
        path = _trained(folder / "training", gentle, sets, path, seed, device, max_minutes, report)
        judged.append(_judged(path, folder / _JUDGEMENT, judge, report))
    return _table(judged)


def _begin(out: Path, overwrite: bool, facts: Mapping[str, Any]) -> None:
    """Take a folder for a refinement, or go on in it. Raises UsageError where it holds another one."""
    kept = out / _FACTS
    if kept.exists() and overwrite:
        clear_run(out, ("round-*", _START, _FACTS))
    if kept.exists():
        way_out = "Name another folder with --out, or replace it with --overwrite."
        check_same(kept, read_json(kept), facts, way_out)
    else:
        write_json(kept, facts)


def _visited(
    states: Path, recipe: Recipe, model: Path, runs: int, rows: int, first_seed: int, report: Callable[[str], None]
) -> Path:
    """The states that flows run by a model visit; sampled where they are missing."""
    if not states.exists():
        by_model = {"chemistry.kind": "neural", "chemistry.model": str(model.resolve())}
        flows = recipe.of_flows(by_model, runs, rows, first_seed)
        sample(flows, states, workers=available_cores(), report=report)
    return states


def _trained(
    run: Path,
    config: TrainConfig,
    data: Sequence[Path],
    start: Path,
    seed: int,
    device: str,
    max_minutes: float | None,
    report: Callable[[str], None],
) -> Path:
    """The model of a training that begins with another; trained, or trained to the end, where it is not finished."""
    if not (run / MANIFEST).exists():
        resume = (run / CHECKPOINT).exists()
        how = {"seed": seed, "device": device, "max_minutes": max_minutes, "report": report}
        train(config, data=data, out=run, start_from=start, resume=resume, **how)  # type: ignore[arg-type]
    return find_model(run)


def _judged(model: Path, kept: Path, judge: FlowJudge, report: Callable[[str], None]) -> list[Figure]:
    """The figures of a model, kept beside it."""
    origin = sha256(model)
    found = read_kept(kept, origin)
    if found is None:
        report(f"judging {model}")
        figures = judge(model)
        found = {"figures": [[f.check, f.name, f.value, f.target, f.lower] for f in figures]}
        write_kept(kept, origin, found)
    return [Figure(*row) for row in found["figures"]]


def _table(judged: Sequence[Sequence[Figure]]) -> Table:
    """The figures, with a column for the start and one for each round."""
    names = ("start", *(f"round {number}" for number in range(1, len(judged))))
    rows = []
    for i, figure in enumerate(judged[0]):
        rows.append((figure.check, figure.name, figure.bound, *(figures[i].value for figures in judged)))
    return Table("refinement by flows", ("check", "figure", "target", *names), rows)
