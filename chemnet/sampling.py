"""States to learn from, and their labels: a recipe becomes one HDF5 file.

First the sources are computed: ignition paths (D), hotter ones of an ignition kernel (K), free flames (F) and burnt
gas (B). Then chunks of rows are drawn from them, plain, perturbed (P, Q) or mixed (M), some evolved for a while, and
labelled by CVODES. Every task has its own random generator, seeded by the recipe's seed and the task's number, so that
the content depends neither on the number of workers nor on interruptions; finished tasks are kept as shards beside the
file until it is whole.
"""

from __future__ import annotations

import datetime
import functools
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import cantera as ct
import numpy as np
from pydantic import Field, model_validator

import chemnet
from chemnet import sources, store
from chemnet.config import Config, dump_yaml, override, parse, read_yaml
from chemnet.errors import NumericalError, UsageError
from chemnet.files import shipped
from chemnet.mechanism import load_mechanism
from chemnet.reactor import CvodesReactor
from chemnet.state import T_MAX, T_MIN, Array, enthalpy
from chemnet.status import Status
from chemnet.store import Pairs
from chemnet.thermo import temperature_from_enthalpy
from chemnet.workers import ordered_map

SOURCES = ("ignition", "kernel", "flames", "burnt")
KINDS = (*SOURCES, "perturbed", "strongly_perturbed", "mixed")
_ROWS_PER_SHARD = 5_000
_PATHS_PER_TASK = 10
_ROWS_PER_SOURCE = 400
_HOTTEST = T_MAX - 50.0  # [K] of a state to learn from; its next state must be valid too
_PATH_END, _AFTER_IGNITION = 5.0, 2e-3  # [s]

Range = tuple[float, float]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Paths(Config):
    """Ignition paths: share of the rows, number, range of initial temperatures [K]."""

    share: Share
    trajectories: int = Field(ge=2)
    T0: Range


class Flames(Config):
    """Free flames: share of the rows, equivalence ratios, and (P [Pa], T unburnt [K]) to solve them at."""

    share: Share
    phi: list[Positive] = Field(min_length=1)
    at: list[tuple[Positive, Positive]] = Field(min_length=1)

    @model_validator(mode="after")
    def _both_sides_of_the_split(self) -> Flames:
        if len(self.phi) * len(self.at) < 2:
            raise ValueError("at least two flames are needed, one to train on and one to validate with")
        return self


class Burnt(Config):
    """Gas in equilibrium: share of the rows, number of states, range of the unburnt temperature [K]."""

    share: Share
    states: int = Field(ge=2)
    T_unburnt: Range


class Perturbation(Config):
    """Perturbed source states: log-uniform amplitude, and the share evolved for a log-uniform time [s]."""

    share: Share
    amplitude: Range
    evolved_share: Share
    evolution: Range


class Mixing(Config):
    """Mixtures of two states; unburnt gas takes part at a temperature in `T_unburnt` [K]."""

    share: Share
    evolved_share: Share
    evolution: Range
    T_unburnt: Range


class Integrator(Config):
    """Tolerances of CVODES for the labels."""

    rtol: Positive = 1e-6
    atol: Positive = 1e-12


class Recipe(Config):
    """What is in a training set; `datasets/drm19/recipe.yaml` says what each part is for."""

    mechanism: str = "drm19"
    fuel: dict[str, float]
    oxidizer: dict[str, float]
    rows: int = Field(ge=1)
    dt: Positive
    seed: int = Field(ge=0)
    validation_share: Share
    integrator: Integrator = Integrator()
    phi: tuple[Positive, Positive]
    pressure: tuple[Positive, Positive]
    ignition: Paths
    kernel: Paths
    flames: Flames
    burnt: Burnt
    perturbed: Perturbation
    strongly_perturbed: Perturbation
    mixed: Mixing

    def shares(self) -> Array:
        """Share of the rows of each kind, in the order of KINDS, summing to 1."""
        shares = np.array([getattr(self, kind).share for kind in KINDS])
        return shares / shares.sum()


def load_recipe(path: str | Path | None = None, variant: str | None = None, changes: tuple[str, ...] = ()) -> Recipe:
    """The recipe of a file (default: the shipped one of DRM19), with a variant and `key=value` changes applied.

    Raises UsageError for unknown keys, variants or values, FileError when there is no such file.
    """
    path = path or shipped("datasets/drm19/recipe.yaml")
    data = read_yaml(path)
    variants = data.pop("variants", {})
    if variant is not None and variant not in variants:
        raise UsageError(f"{path} has no variant {variant}; it has {', '.join(variants) or 'none'}")
    for key, value in variants.get(variant, {}).items():
        data[key] = {**data[key], **value} if isinstance(value, dict) else value
    return parse(Recipe, override(data, changes), str(path))


def sample(recipe: Recipe, out: str | Path, n_workers: int = 1, report: Callable[[str], None] = print) -> None:
    """Make the training set of a recipe at `out`, going on from the shards of an interrupted run.

    Raises UsageError when the shards at `out` come from another recipe, and whatever sources and store raise.
    """
    out = Path(out)
    parts = out.with_name(out.name + ".parts")
    _begin(parts, recipe)
    n_shards = -(-recipe.rows // _ROWS_PER_SHARD)
    _run_tasks(_source_tasks(recipe), parts, n_workers, "sources", report)
    _run_tasks([("rows", i) for i in range(n_shards)], parts, n_workers, "shards", report)
    pieces = [parts / f"rows-{i:05d}.h5" for i in range(n_shards)]
    lost = sum(int(store.read_attributes(piece)["lost"]) for piece in pieces)
    rows = store.write(out, map(store.read, pieces), _provenance(recipe) | {"lost": lost})
    shutil.rmtree(parts)
    report(f"{out}: {rows} pairs, {lost} labels lost")


def _begin(parts: Path, recipe: Recipe) -> None:
    text = dump_yaml(recipe)
    kept = parts / "recipe.yaml"
    if kept.exists() and kept.read_text() != text:
        raise UsageError(f"{parts} holds shards of another recipe\nRemove the folder, or choose another --out.")
    parts.mkdir(parents=True, exist_ok=True)
    kept.write_text(text)


def _provenance(recipe: Recipe) -> dict[str, Any]:
    mechanism = load_mechanism(recipe.mechanism)
    return {
        "generator": f"chemnet {chemnet.__version__}",
        "cantera-version": ct.__version__,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "units": "T K, P Pa, Y kg/kg, dt s",
        "mechanism": recipe.mechanism,
        "mechanism_sha256": mechanism.sha256,
        "species": list(mechanism.species_names),
        "dt": recipe.dt,
        "rtol": recipe.integrator.rtol,
        "atol": recipe.integrator.atol,
        "seed": recipe.seed,
        "kinds": list(KINDS),
        "recipe": dump_yaml(recipe),
    }


Task = tuple[str, int]


def _source_tasks(recipe: Recipe) -> list[Task]:
    """Flames first: they take longest."""
    tasks = [("flames", i) for i in range(len(recipe.flames.at))] + [("burnt", 0)]
    for kind in ("ignition", "kernel"):
        n_tasks = -(-getattr(recipe, kind).trajectories // _PATHS_PER_TASK)
        tasks += [(kind, i) for i in range(n_tasks)]
    return tasks


def _run_tasks(tasks: list[Task], parts: Path, n_workers: int, what: str, report: Callable[[str], None]) -> None:
    """Run the tasks that have no shard yet; about every ten seconds a line with the time still needed."""
    missing = [task for task in tasks if not (parts / _shard_name(task)).exists()]
    start = last = time.monotonic()
    for done, _ in enumerate(ordered_map(functools.partial(_run_task, parts), missing, n_workers), start=1):
        now = time.monotonic()
        if now - last > 10.0 or done == len(missing):
            last = now
            left = (now - start) / done * (len(missing) - done)
            report(f"{what} {len(tasks) - len(missing) + done} of {len(tasks)}, {left:.0f} s left")


def _shard_name(task: Task) -> str:
    return f"{task[0]}-{task[1]:05d}.h5"


def _run_task(parts: Path, task: Task) -> None:
    kind, number = task
    recipe = parse(Recipe, read_yaml(parts / "recipe.yaml"), str(parts / "recipe.yaml"))
    stream = 0 if kind == "rows" else 1 + KINDS.index(kind)
    rng = np.random.default_rng([recipe.seed, stream, number])
    if kind == "rows":
        pairs, lost = _labelled_rows(recipe, parts, number, rng)
    else:
        make = {"flames": _flame_rows, "burnt": _burnt_rows}.get(kind, _path_rows)
        pairs, lost = make(recipe, kind, number, rng), 0
    store.write(parts / _shard_name(task), [pairs], {"lost": lost})


def _path_rows(recipe: Recipe, kind: str, number: int, rng: np.random.Generator) -> Pairs:
    """Source rows of one task's ignition paths."""
    mechanism = load_mechanism(recipe.mechanism)
    gas = mechanism.gas()
    paths: Paths = getattr(recipe, kind)
    n_paths = min(_PATHS_PER_TASK, paths.trajectories - number * _PATHS_PER_TASK)
    rows = []
    for _ in range(n_paths):
        T0 = 1.0 / rng.uniform(1.0 / paths.T0[1], 1.0 / paths.T0[0])
        Y = sources.premixed(mechanism, rng.uniform(*recipe.phi), recipe.fuel, recipe.oxidizer)
        start = np.hstack([T0, rng.uniform(*recipe.pressure), Y])
        times, states = sources.ignition_path(gas, start, _PATH_END, _AFTER_IGNITION)
        rows.append(sources.states_along(times, states, _ROWS_PER_SOURCE, rng))
    return _source_pairs(rows, kind, recipe, rng)


def _flame_rows(recipe: Recipe, kind: str, number: int, rng: np.random.Generator) -> Pairs:
    """Source rows of one task's flames."""
    P, T = recipe.flames.at[number]
    mechanism = load_mechanism(recipe.mechanism)
    profiles = sources.flames(mechanism, recipe.flames.phi, P, T, recipe.fuel, recipe.oxidizer)
    rows = [sources.states_across(grid, states, _ROWS_PER_SOURCE, rng) for grid, states in profiles]
    return _source_pairs(rows, kind, recipe, rng)


def _burnt_rows(recipe: Recipe, kind: str, number: int, rng: np.random.Generator) -> Pairs:
    """Source rows in equilibrium, each a group of its own."""
    mechanism = load_mechanism(recipe.mechanism)
    gas = mechanism.gas()
    rows = []
    for _ in range(recipe.burnt.states):
        Y = sources.premixed(mechanism, rng.uniform(*recipe.phi), recipe.fuel, recipe.oxidizer)
        unburnt = np.hstack([rng.uniform(*recipe.burnt.T_unburnt), rng.uniform(*recipe.pressure), Y])
        rows.append(sources.burnt(gas, unburnt)[None])
    return _source_pairs(rows, kind, recipe, rng)


def _source_pairs(rows: list[Array], kind: str, recipe: Recipe, rng: np.random.Generator) -> Pairs:
    """Unlabelled rows: `next_states` equals `states`; each path or flame belongs to one side of the split."""
    states = np.maximum(np.concatenate(rows), 0.0)  # the integrator leaves traces like -1e-14
    group = np.repeat(np.arange(len(rows), dtype=np.int32), [len(r) for r in rows])
    split = (rng.random(len(rows)) < recipe.validation_share).astype(np.int8)
    return Pairs(states, states, split[group], group, np.full(len(states), KINDS.index(kind), np.int8))


class Sources:
    """All source rows of a recipe, and how rows of each kind are drawn from those of one side of the split."""

    def __init__(self, recipe: Recipe, parts: Path) -> None:
        self.recipe = recipe
        self.mechanism = load_mechanism(recipe.mechanism)
        self.gas = self.mechanism.gas()
        self.rows = _read_sources(recipe, parts)

    def pick(self, n: int, kinds: tuple[str, ...], split: int, rng: np.random.Generator) -> Pairs:
        """n random source rows of the given kinds."""
        wanted = np.isin(self.rows.kind, [KINDS.index(kind) for kind in kinds])
        candidates = np.flatnonzero(wanted & (self.rows.split == split) & (self.rows.states[:, 0] < _HOTTEST))
        if n > 0 and candidates.size == 0:
            raise NumericalError(f"no usable source states of {', '.join(kinds)} (all above {_HOTTEST:.0f} K?)")
        return self.rows.where(rng.choice(candidates, n))

    def draw(self, kind: str, n: int, split: int, rng: np.random.Generator) -> Pairs:
        """n states of one kind; those to be evolved have been."""
        if kind in SOURCES:
            return self.pick(n, (kind,), split, rng)
        picked = self.pick(n, SOURCES[:3], split, rng)
        settings: Perturbation | Mixing = getattr(self.recipe, kind)
        if isinstance(settings, Mixing):
            states = self._mix(picked.states, self.pick(n, ("ignition", "kernel", "flames"), split, rng).states, rng)
        else:
            states = perturb(picked.states, settings.amplitude, rng)
        states = self._evolve(states, settings, rng)
        return Pairs(states, states, picked.split, picked.group, np.full(n, KINDS.index(kind), np.int8))

    def _partners(self, picked: Pairs, split: int, rng: np.random.Generator) -> Array:
        """States to mix, one for each picked row and at its pressure: half of them from paths and flames, the others
        burnt gas, unburnt gas as cold as it comes, or unburnt gas heated, as at the edge of an ignition kernel."""
        n = len(picked)
        role = rng.random(n)
        states = self.pick(n, SOURCES[:3], split, rng).states
        states[role < 0.2] = self.pick(n, ("burnt",), split, rng).states[role < 0.2]
        coldest, hottest = self.recipe.mixed.T_unburnt
        heated = coldest + (hottest - coldest) * rng.random(n) ** 3
        for i in np.flatnonzero(role > 0.7):
            phi = rng.uniform(*self.recipe.phi)
            states[i, 2:] = sources.premixed(self.mechanism, phi, self.recipe.fuel, self.recipe.oxidizer)
            states[i, 0] = coldest if role[i] < 0.85 else heated[i]
        states[:, 1] = picked.states[:, 1]
        return states

    def _mix(self, first: Array, second: Array, rng: np.random.Generator) -> Array:
        """Mixtures of random shares of two states at equal pressure: mass fractions and enthalpies add up."""
        share = rng.random((len(first), 1))
        mixed = share * first + (1.0 - share) * second
        h = share[:, 0] * enthalpy(first, self.mechanism) + (1.0 - share[:, 0]) * enthalpy(second, self.mechanism)
        for row, h_row in zip(mixed, h, strict=True):
            row[0] = temperature_from_enthalpy(h_row, row[2:], row[0], self.mechanism.nasa)
        return mixed

    def _evolve(self, states: Array, settings: Perturbation | Mixing, rng: np.random.Generator) -> Array:
        """Let the chemistry run for a while in some of the rows; rows that fail or get too hot stay as they were."""
        evolved = rng.random(len(states)) < settings.evolved_share
        durations = np.exp(rng.uniform(*np.log(settings.evolution), len(states)))
        reactor = CvodesReactor(self.mechanism)
        for i in np.flatnonzero(evolved):
            evolved_state = reactor.advance(states[i : i + 1], durations[i])[0][0]
            if evolved_state[0] < _HOTTEST:
                states[i] = evolved_state
        return states


def perturb(states: Array, amplitude: Range, rng: np.random.Generator) -> Array:
    """States with T, P and every Y multiplied by random factors, the amplitude log-uniform per row; (n, 2 + K).

    Mass fractions vary as exp(a N(0, 1)), T and P by a tenth of the amplitude; Y is normalised, T kept in range.
    """
    a = np.exp(rng.uniform(*np.log(amplitude), len(states)))[:, None]
    noise = rng.standard_normal(states.shape)
    noise[:, :2] = np.clip(0.1 * noise[:, :2], -0.3, 0.3)
    result = states * np.exp(a * noise)
    result[:, 2:] /= result[:, 2:].sum(axis=1, keepdims=True)
    result[:, 0] = np.clip(result[:, 0], T_MIN + 90.0, _HOTTEST)
    return result


@functools.lru_cache(maxsize=1)
def _sources(parts: Path) -> Sources:
    """The sources of a run, read once per worker."""
    return Sources(parse(Recipe, read_yaml(parts / "recipe.yaml"), str(parts)), parts)


def _read_sources(recipe: Recipe, parts: Path) -> Pairs:
    """All source rows, with groups numbered through, and both sides of the split present for every kind."""
    pieces, groups = [], 0
    for task in _source_tasks(recipe):
        piece = store.read(parts / _shard_name(task))
        pieces.append(Pairs(piece.states, piece.next_states, piece.split, piece.group + groups, piece.kind))
        groups += int(piece.group[-1]) + 1
    rows = store.concatenate(pieces)
    for kind in np.unique(rows.kind):
        of_kind = rows.kind == kind
        for split in (0, 1):
            if recipe.validation_share > 0 and not (rows.split[of_kind] == split).any():
                last = rows.group == rows.group[of_kind][-1]
                rows.split[last] = split
    return rows


def _labelled_rows(recipe: Recipe, parts: Path, number: int, rng: np.random.Generator) -> tuple[Pairs, int]:
    """The rows of one shard and the number of labels that were lost."""
    source = _sources(parts)
    n = min(_ROWS_PER_SHARD, recipe.rows - number * _ROWS_PER_SHARD)
    n_validation = rng.binomial(n, recipe.validation_share)
    drawn = []
    for split, n_split in ((0, n - n_validation), (1, n_validation)):
        for kind, count in zip(KINDS, rng.multinomial(n_split, recipe.shares()), strict=True):
            drawn.append(source.draw(kind, int(count), split, rng))
    rows = store.concatenate(drawn)
    reactor = CvodesReactor(source.mechanism, recipe.integrator.rtol, recipe.integrator.atol)
    next_states, status = reactor.advance(rows.states, recipe.dt)
    kept = status <= Status.RETRIED
    pairs = Pairs(rows.states, next_states, rows.split, rows.group, rows.kind).where(kept)
    return pairs, int(n - kept.sum())
