"""Sampling of a training set: a recipe becomes one HDF5 file of states and labels.

First the sources are computed: ignition paths (D), hotter ones of an ignition kernel (K), free flames (F), burnt gas
(B) and turbulent flames (V), run by a flow solver that is not known here (`Visit`); those that no row is drawn from are
left out. Then chunks of rows are drawn from them, plain, perturbed (P, Q), mixed (M) or transported (T), some evolved
for a while, and labelled by the exact step; a share of the labels is audited by CVODES (`label_audit.py`). Every task
has its own random generator, seeded by the recipe's seed and the task's number, so that the content depends neither on
the number of workers nor on interruptions; finished tasks are kept as shards beside the file until it is whole.
"""

from __future__ import annotations

import datetime
import functools
import json
import shutil
import time
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import cantera as ct
import numpy as np

from chemnet.data import dataset, label_audit
from chemnet.data.augmentation import Drawer, premixed
from chemnet.data.dataset import Audit, Pairs
from chemnet.data.progress import Progress, Task
from chemnet.data.recipe import KINDS, Paths, Recipe, load_recipe
from chemnet.gas import canonical
from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.state import Array
from chemnet.gas.status import Status
from chemnet.kinetics import RosenbrockReactor
from chemnet.kinetics.cvodes import CvodesReactor
from chemnet.kinetics.step import ChemistryStep
from chemnet.runtime.config import dump_yaml, parse, parse_yaml
from chemnet.runtime.errors import UsageError
from chemnet.runtime.files import check_new
from chemnet.runtime.processes import number_of_workers
from chemnet.version import __version__

_RECIPE = "recipe.yaml"
ROWS_PER_SHARD = 5_000
_PATHS_PER_TASK = 10
_CLOCKS = ("seconds_drawing", "seconds_labels", "seconds_audit")

Facts = dict[str, float]
# Runs a case of a flow solver, or a variant of it, with `key=value` changes, and gives at most so many of the states
# (n, 2 + K) that its chemistry gets.
Visit = Callable[[str, "str | None", Sequence[str], int, np.random.Generator], Array]
VISITS = "chemnet.visited_states"  # group of entry points; an installed flow solver offers its `Visit` there


def sample(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    workers: int = 1,
    visit: Visit | None = None,
    overwrite: bool = False,
    report: Callable[[str], None] = print,
) -> None:
    """Write the training set of a recipe, or recipe file, at `out`; goes on from the shards of an interrupted run.

    A set that is there, or the shards of another recipe, are replaced with `overwrite` only. The flow of a recipe is
    run by `visit`, by default that of the installed flow solver. Raises UsageError where there is none, for an unknown
    mechanism or species, and for what would be lost, and whatever sources and store raise.
    """
    out = Path(out)
    check_new(out, overwrite, "Name another file with --out, or replace it with --overwrite.")
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    mechanism = load_mechanism(recipe.mechanism)
    unburnt = [canonical.premixed(mechanism, recipe.phi[0], recipe.fuel, air.moles) for air in recipe.oxidizers]
    if recipe.needs_transport:
        canonical.check_transport(mechanism)
    if recipe.flow:
        visit = visit or _installed_visit()
    labeller = _labeller(recipe)
    parts = out.with_name(out.name + ".parts")
    _begin(parts, recipe, overwrite)
    shards = [("rows", i) for i in range(-(-recipe.rows // ROWS_PER_SHARD))]
    progress = Progress([*_source_tasks(recipe), *shards], lambda task: (parts / _shard_name(task)).exists(), report)
    progress.begin(f"{out}: {recipe.rows:,} states of {mechanism.name}", number_of_workers(workers))
    run_task = functools.partial(_run_task, parts, visit)
    try:
        progress.run(run_task, _source_tasks(recipe), workers)
        _compile(labeller, unburnt[0], recipe)
        progress.run(run_task, shards, workers)
    except (KeyboardInterrupt, SystemExit):
        report(f"stopped; {progress.kept()} are kept in {parts}, and the same command goes on from there")
        raise
    pieces = [parts / _shard_name(shard) for shard in shards]
    for line in _merge(recipe, pieces, out):
        report(line)
    shutil.rmtree(parts)


def _installed_visit() -> Visit:
    """The `Visit` of the installed flow solver. Raises UsageError where there is none."""
    for offered in entry_points(group=VISITS):
        visit: Visit = offered.load()
        return visit
    raise UsageError("the recipe's flow needs a flow solver: install cfd_coupling, or leave it out by --set flow=null")


def _merge(recipe: Recipe, pieces: list[Path], out: Path) -> list[str]:
    """Write the shards into one file; returns lines for the report."""
    facts = [dataset.read_attributes(piece) for piece in pieces]
    total = {name: sum(fact[name] for fact in facts) for name in ("rows", "lost", "retried", *_CLOCKS)}
    starts = np.cumsum([0, *(fact["rows"] for fact in facts)])
    audits = [dataset.read_audit(piece) for piece in pieces]
    audit = dataset.Audit(
        np.concatenate([part.row + start for part, start in zip(audits, starts[:-1], strict=True)]),
        np.concatenate([part.difference for part in audits]),
    )
    found = {
        "lost": int(total["lost"]),
        "retried": int(total["retried"]),
        "raw_drift": max(fact["raw_drift"] for fact in facts),
        **label_audit.figures(audit),
    }
    dataset.write(out, map(dataset.read, pieces), _provenance(recipe) | found, audit)
    spent = ", ".join(f"{name.removeprefix('seconds_')} {total[name]:.1f} s" for name in _CLOCKS)
    return [
        f"{out}: {total['rows']} pairs, {found['lost']} labels lost, {found['retried']} found at the second attempt",
        f"elements off by up to {found['raw_drift']:.1e} kg/kg before the closure",
        f"core time of the shards: {spent}",
    ]


def _compile(labeller: ChemistryStep, unburnt: Array, recipe: Recipe) -> None:
    """Compile the kernels here, once, instead of in every worker."""
    row = np.hstack([300.0, recipe.pressure[0], unburnt])[None]
    for step in (labeller, CvodesReactor(labeller.mechanism)):
        step.advance(row, recipe.dt)


def _begin(parts: Path, recipe: Recipe, overwrite: bool) -> None:
    text = dump_yaml(recipe)
    kept = parts / _RECIPE
    if kept.exists() and kept.read_text() != text:
        if not overwrite:
            raise UsageError(
                f"{parts} holds shards of another recipe\n"
                "Name another file with --out, or replace them with --overwrite."
            )
        shutil.rmtree(parts)
    parts.mkdir(parents=True, exist_ok=True)
    kept.write_text(text)


def _provenance(recipe: Recipe) -> dict[str, Any]:
    mechanism = load_mechanism(recipe.mechanism)
    return {
        "generator": f"chemnet {__version__}",
        "cantera-version": ct.__version__,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "units": "T K, P Pa, Y kg/kg, dt s",
        "mechanism": recipe.mechanism,
        "mechanism_sha256": mechanism.sha256,
        "species": list(mechanism.species_names),
        "dt": recipe.dt,
        "integrator": recipe.integrator.kind,
        "rtol": recipe.integrator.rtol,
        "atol": recipe.integrator.atol,
        "seed": recipe.seed,
        "kinds": list(KINDS),
        "recipe": dump_yaml(recipe),
    }


def _source_tasks(recipe: Recipe) -> list[Task]:
    """Flows and flames first: they take longest."""
    n_tasks = {
        "flow": recipe.flow.runs if recipe.flow else 0,
        "flames": len(recipe.flames.at) if recipe.flames else 0,
        "burnt": 1,
        "ignition": -(-recipe.ignition.trajectories // _PATHS_PER_TASK),
        "kernel": -(-recipe.kernel.trajectories // _PATHS_PER_TASK),
    }
    used = recipe.sources()
    return [(kind, i) for kind, n in n_tasks.items() if kind in used for i in range(n)]


def _shard_name(task: Task) -> str:
    return f"{task[0]}-{task[1]:05d}.h5"


def _run_task(parts: Path, visit: Visit | None, task: Task) -> float:
    """Compute and keep what a task makes; the seconds that it took."""
    start = time.perf_counter()
    _write_shard(parts, visit, task)
    return time.perf_counter() - start


def _write_shard(parts: Path, visit: Visit | None, task: Task) -> None:
    kind, number = task
    text = (parts / _RECIPE).read_text()
    recipe = _recipe(text)
    stream = 0 if kind == "rows" else 1 + KINDS.index(kind)
    rng = np.random.default_rng([recipe.seed, stream, number])
    if kind == "rows":
        pairs, audit, facts = _labelled_rows(_drawer(parts, text), number, rng)
        dataset.write(parts / _shard_name(task), [pairs], facts, audit)
    elif kind == "flow":
        assert visit is not None
        dataset.write(parts / _shard_name(task), [_flow_rows(recipe, visit, number, rng)], {})
    else:
        make = {"flames": _flame_rows, "burnt": _burnt_rows}.get(kind, _path_rows)
        dataset.write(parts / _shard_name(task), [make(recipe, kind, number, rng)], {})


def _path_rows(recipe: Recipe, kind: str, number: int, rng: np.random.Generator) -> Pairs:
    """Source rows of one task's ignition paths."""
    mechanism = load_mechanism(recipe.mechanism)
    gas = mechanism.gas()
    paths: Paths = getattr(recipe, kind)
    n_paths = min(_PATHS_PER_TASK, paths.trajectories - number * _PATHS_PER_TASK)
    rows = []
    for _ in range(n_paths):
        T0 = 1.0 / rng.uniform(1.0 / paths.T0[1], 1.0 / paths.T0[0])
        Y = premixed(recipe, rng)
        start = np.hstack([T0, rng.uniform(*recipe.pressure), Y])
        times, states = canonical.ignition_path(gas, start, recipe.paths.end_time, recipe.paths.after_ignition)
        rows.append(canonical.states_along(times, states, recipe.rows_per_source, rng, recipe.paths))
    return _source_pairs(rows, kind, recipe, rng)


def _flame_rows(recipe: Recipe, kind: str, number: int, rng: np.random.Generator) -> Pairs:
    """Source rows of one task's flames."""
    assert recipe.flames is not None
    P, T = recipe.flames.at[number]
    mechanism, airs = load_mechanism(recipe.mechanism), [recipe.draw_oxidizer(rng) for _ in recipe.flames.phi]
    rows = []
    for air in (oxidizer.moles for oxidizer in recipe.oxidizers):
        phis = [phi for phi, drawn in zip(recipe.flames.phi, airs, strict=True) if drawn == air]
        may_miss = recipe.flames.missing == "leave"
        profiles = canonical.flames(mechanism, phis, P, T, recipe.fuel, air, may_miss=may_miss)
        rows += [canonical.states_across(grid, states, recipe.rows_per_source, rng) for grid, states in profiles]
    return _source_pairs(rows, kind, recipe, rng)


def _burnt_rows(recipe: Recipe, kind: str, number: int, rng: np.random.Generator) -> Pairs:
    """Source rows in equilibrium, each a group of its own."""
    mechanism = load_mechanism(recipe.mechanism)
    gas = mechanism.gas()
    rows = []
    for _ in range(recipe.burnt.states):
        Y = premixed(recipe, rng)
        unburnt = np.hstack([rng.uniform(*recipe.burnt.T_unburnt), rng.uniform(*recipe.pressure), Y])
        rows.append(canonical.burnt(gas, unburnt)[None])
    return _source_pairs(rows, kind, recipe, rng)


def _flow_rows(recipe: Recipe, visit: Visit, number: int, rng: np.random.Generator) -> Pairs:
    """Source rows of one run of a flow: a group, of those within the recipe's pressures, which a closed box exceeds."""
    flow = recipe.flow
    assert flow is not None
    own = flow.draw(number, rng)
    gas = {
        "mechanism": recipe.mechanism,
        "dt": recipe.dt,
        "mixture.fuel": recipe.fuel,
        "mixture.oxidizer": recipe.draw_oxidizer(rng),
        "mixture.phi": float(rng.uniform(*recipe.phi)),
        "mixture.pressure": float(rng.uniform(*recipe.pressure)),
        "chemistry.kind": "exact",
    }
    changes = [f"{key}={json.dumps(value)}" for key, value in {**gas, **own}.items()]
    states = visit(flow.case, flow.variant, changes, flow.rows_per_run, rng)
    low, high = recipe.pressure
    usual = (states[:, 1] >= low) & (states[:, 1] <= high)
    return _source_pairs([states[usual]], "flow", recipe, rng)


def _source_pairs(rows: list[Array], kind: str, recipe: Recipe, rng: np.random.Generator) -> Pairs:
    """Unlabelled rows: `next_states` equals `states`; each path or flame belongs to one side of the split."""
    states = np.maximum(np.concatenate(rows), 0.0)  # the integrator leaves traces like -1e-14
    group = np.repeat(np.arange(len(rows), dtype=np.int32), [len(r) for r in rows])
    split = (rng.random(len(rows)) < recipe.validation_share).astype(np.int8)
    return Pairs(states, states, split[group], group, np.full(len(states), KINDS.index(kind), np.int8))


@functools.lru_cache(maxsize=1)
def _recipe(text: str) -> Recipe:
    """The recipe that a run keeps; reading it takes as long as fifty labels."""
    return parse(Recipe, parse_yaml(text, _RECIPE), _RECIPE)


@functools.lru_cache(maxsize=1)
def _drawer(parts: Path, text: str) -> Drawer:
    """Drawer of a run's rows by the recipe `text`; its sources are read once per worker."""
    recipe = _recipe(text)
    return Drawer(recipe, _read_sources(recipe, parts), _integrator(recipe))


def _labeller(recipe: Recipe) -> CvodesReactor | RosenbrockReactor:
    """The step that computes the labels. Raises UsageError for a mechanism that it does not cover."""
    return _integrator(recipe, rtol=recipe.integrator.rtol, atol=recipe.integrator.atol)


def _integrator(recipe: Recipe, **tolerances: Any) -> CvodesReactor | RosenbrockReactor:
    make = CvodesReactor if recipe.integrator.kind == "cvode" else RosenbrockReactor
    return make(load_mechanism(recipe.mechanism), **tolerances)


def _read_sources(recipe: Recipe, parts: Path) -> Pairs:
    """All source rows, with groups numbered through, and both sides of the split present for every kind."""
    pieces, groups = [], 0
    for task in _source_tasks(recipe):
        piece = dataset.read(parts / _shard_name(task))
        pieces.append(Pairs(piece.states, piece.next_states, piece.split, piece.group + groups, piece.kind))
        groups += int(piece.group.max(initial=-1)) + 1
    rows = dataset.concatenate(pieces)
    for kind in np.unique(rows.kind):
        of_kind = rows.kind == kind
        for split in (0, 1):
            if recipe.validation_share > 0 and not (rows.split[of_kind] == split).any():
                last = rows.group == rows.group[of_kind][-1]
                rows.split[last] = split
    return rows


def _labelled_rows(drawer: Drawer, number: int, rng: np.random.Generator) -> tuple[Pairs, Audit, Facts]:
    """The rows of one shard, the audit of their labels, and facts.

    `lost` labels, those found by a second attempt (`retried`), the largest element error before the closure
    (`raw_drift`) and the seconds of each part.
    """
    recipe, labeller = drawer.recipe, _labeller(drawer.recipe)
    clock = [time.perf_counter()]
    n = min(ROWS_PER_SHARD, recipe.rows - number * ROWS_PER_SHARD)
    n_validation = rng.binomial(n, recipe.validation_share)
    drawn = []
    for split, n_split in ((0, n - n_validation), (1, n_validation)):
        for kind, count in zip(KINDS, rng.multinomial(n_split, recipe.shares()), strict=True):
            drawn.append(drawer.draw(kind, int(count), split, rng))
    rows = dataset.concatenate(drawn)
    clock.append(time.perf_counter())
    labels = labeller.advance(rows.states, recipe.dt)
    next_states, status = labels
    assert labels.stats.raw_drift is not None
    clock.append(time.perf_counter())
    kept = status <= Status.RETRIED
    pairs = Pairs(rows.states, next_states, rows.split, rows.group, rows.kind)
    if not kept.all():
        pairs = pairs.where(kept)
    audit = label_audit.audit(pairs, recipe.dt, recipe.integrator.audit, drawer.mechanism, rng)
    clock.append(time.perf_counter())
    facts = {
        "lost": int(n - kept.sum()),
        "retried": int((status == Status.RETRIED).sum()),
        "raw_drift": float(labels.stats.raw_drift.max()),
        **dict(zip(_CLOCKS, np.diff(clock).tolist(), strict=True)),
    }
    return pairs, audit, facts
