"""The plan of a make: a recipe, a config and cases that fit the gas and the budget, and why they are as they are.

The recipe is the shipped one where nothing depends on the gas: kinds of states and their shares. All temperatures,
pressures, mixtures, flames, times and numbers come from the survey, the task and the budget.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chemnet.data.recipe import KINDS, Recipe, load_recipe
from chemnet.gas.mechanism import Mechanism
from chemnet.making.budget import Budget, in_words
from chemnet.making.survey import (
    EARLIEST_DELAY,
    HOTTEST_PATH,
    LATEST_DELAY,
    Survey,
    middle,
    middle_pressure,
    some_phis,
    some_pressures,
)
from chemnet.making.task import MakeTask
from chemnet.runtime.config import parse
from chemnet.runtime.tables import Table
from chemnet.training.config import TrainConfig
from chemnet.validation.flame_scales import METHANE, FlameScales
from chemnet.validation.flames import TARGETS
from chemnet.validation.flow import boxes_of
from chemnet.validation.ignition import IgnitionCases

_USUAL_DT = 1e-6  # [s] of the shipped recipe, whose times are multiples of it
_PHI_BEYOND = (0.6, 1.1)  # times the ends of the range of phi: what mixing and diffusion make of these mixtures
_T0_BELOW = 100.0  # [K] below the ladder's T0 that paths begin, too
_MOST_ROWS, _FEWEST_ROWS = 1_000_000, 2_000
_MOST_BYTES = 6e8  # of the file of states
_ROW = 6e-5  # [s] to draw a row, beside the exact steps that it takes
_STEPS_OF_ROW = 12.0  # exact steps of a reacting cell: its label, and in some kinds of rows the time before
_ROW_SHARE, _PATH_SHARE, _FLAME_SHARE = 0.4, 0.15, 0.15  # of the time for states, at most
_COLD_BELOW, _COLDEST_LIMIT, _WARMEST_LIMIT = 150.0, 500.0, 800.0  # [K]
_WIDTHS = ((150.0, 96), (600.0, 128), (2400.0, 192), (math.inf, 256))  # by seconds of training
_MANY_SPECIES, _WIDEST = 40, 256
_STEPS = 300_000  # of a training, which its time ends
_LADDER_SHARE = 0.5  # of the time for checks that ignitions may take
_LADDER_STEPS, _LADDER_DELAYS = 20_000, 2.0
_JUDGING_STEPS, _JUDGING_DELAY = 1_500, 1_000.0
_COLDEST_KERNEL = 0.72  # of the temperature of kernels, in the shipped flows
_ROWS_PER_RUN = 20_000
_FLOW_TIMES, _FINEST_CELL = (2e-4, 5e-4), 2.9e-5  # [s] ends, [m] of the shipped flows
_BOX_SHARE, _BOX_RUNS = 0.5, 1.5  # of the time for checks, for the check `flow`; its runs, of one by the exact step
_FLOW_SECONDS, _FLOW_SHARE, _FEWEST_FLOWS = 12.0, 0.4, 4  # [s] for 300 steps without species; of the time for states
_MARGIN = 1e-3  # of the range of pressures: cases at its ends lie inside


@dataclass(frozen=True)
class Plan:
    """Recipe, config, cases of the ladder, those that a training judges its weights by, and the choices: what, which,
    why."""

    recipe: Recipe
    config: TrainConfig
    cases: IgnitionCases
    judging: IgnitionCases
    choices: list[tuple[str, str, str]]

    def table(self) -> Table:
        """The choices."""
        return Table("choices", ("what", "chosen", "because"), self.choices)


def make_plan(
    task: MakeTask, mechanism: Mechanism, found: Survey, budget: Budget, folder: Path, flows: bool = False
) -> Plan:
    """The plan of a task whose gas has been looked at; with `flows` there is a flow solver to run small flames."""
    recipe = _recipe(task, mechanism, found, budget, flows)
    config = _config(task, mechanism, found, budget, folder, recipe.flow is not None)
    cases = _cases(task, found, budget)
    return Plan(
        recipe, config, cases, _judging(task, found, cases), _choices(task, found, budget, recipe, config, cases)
    )


def _recipe(task: MakeTask, mechanism: Mechanism, found: Survey, budget: Budget, flows: bool) -> Recipe:
    seconds = budget.sampling * budget.cores
    rows = _rows(mechanism, found, seconds)
    top = min(found.kernel, HOTTEST_PATH)
    paths = max(found.seconds_per_ignition, 1e-4)
    trajectories = int(np.clip(_PATH_SHARE * seconds / paths, 20, min(1500, rows // 200 + 20)))
    times = task.dt / _USUAL_DT
    data = load_recipe().model_dump(mode="json")
    evolution = [0.1 * task.dt, 10.0 * task.dt]
    changes: dict[str, dict[str, Any]] = {
        "paths": {"first_time": 0.1 * task.dt, "after_ignition": times * data["paths"]["after_ignition"]},
        "ignition": {"trajectories": trajectories, "T0": [max(found.T0[0] - _T0_BELOW, found.unburnt), top]},
        "kernel": {"trajectories": max(10, trajectories // 8), "T0": [top, found.kernel]},
        "burnt": {"states": int(np.clip(rows // 100, 50, 3000)), "T_unburnt": [found.unburnt, 1000.0]},
        "perturbed": {"evolution": evolution},
        "strongly_perturbed": {"evolution": evolution},
        "mixed": {"evolution": [task.dt, 1e4 * task.dt], "T_unburnt": [found.unburnt, found.kernel]},
        "probes": {"reacting": [task.dt, 10.0 * task.dt]},
    }
    if found.kernel <= top:
        changes["kernel"]["share"] = 0.0
    for key, values in changes.items():
        data[key] = {**data[key], **values}
    data |= {
        "mechanism": task.mechanism,
        "fuel": task.fuel,
        "oxidizers": [{"share": 1.0, "moles": task.oxidizer}],
        "rows": rows,
        "dt": task.dt,
        "seed": task.seed,
        "phi": _wider(found),
        "pressure": task.pressure,
        "flames": _flames(task, found, seconds),
        "flow": _flow(task, mechanism, found, data["flow"], seconds) if flows else None,
    }
    if data["flow"]:
        _add_rows_of_flows(data)
    data["integrator"]["audit"] = float(np.clip(300.0 / rows, 0.0, 0.01))
    return parse(Recipe, data, "plan of the recipe")


def _rows(mechanism: Mechanism, found: Survey, seconds: float) -> int:
    """Rows that a part of the seconds of sampling pays for, in whole thousands."""
    affordable = _ROW_SHARE * seconds / (_ROW + _STEPS_OF_ROW * found.seconds_per_step)
    fitting = _MOST_BYTES / (16.0 * (mechanism.n_species + 2))
    return max(_FEWEST_ROWS, int(min(affordable, fitting, _MOST_ROWS)) // 1000 * 1000)


def _wider(found: Survey) -> tuple[float, float]:
    """Equivalence ratios of the states: somewhat beyond those of the model."""
    low, high = (factor * end for factor, end in zip(_PHI_BEYOND, found.phi, strict=True))
    return max(low, min(found.burns[0], found.phi[0])), min(high, max(found.burns[1], found.phi[1]))


def _flames(task: MakeTask, found: Survey, seconds: float) -> dict[str, Any] | None:
    """The flames that a part of the time pays for; those that Cantera does not find are left out."""
    if not found.flames:
        return None
    n = int(np.clip(_FLAME_SHARE * seconds / max(found.seconds_per_flame, 1e-3), 2, 48))
    low, high = task.pressure
    P, T = middle_pressure(task), found.unburnt
    at = [(P, T), (low, T), (high, T + 50.0), (P, T + 100.0), (math.sqrt(P * high), T + 20.0)]
    at = list(dict.fromkeys(at))[: int(np.clip(n // 3, 1, 5))]
    known = [flame.phi for flame in found.flames]
    low_phi, high_phi = max(found.phi[0], 0.9 * min(known)), min(found.phi[1], 1.1 * max(known))
    phis = np.geomspace(low_phi, high_phi, int(np.clip(n // len(at), 2, 13)))
    return {"share": 0.04, "phi": [float(f"{phi:.3g}") for phi in phis], "at": at, "missing": "leave"}


def _flow(
    task: MakeTask, mechanism: Mechanism, found: Survey, shipped: dict[str, Any], seconds: float
) -> dict[str, Any] | None:
    """Small turbulent flames: the shipped ones with all lengths, times and velocities in the scales of this gas's
    laminar flame, near the middle pressure, where it was found; None where less than a few can be paid for."""
    if not found.flames:
        return None
    scales = scales_of(found)
    length, time = scales.length, scales.time(*_FLOW_TIMES, task.dt)
    one = _flow_seconds(mechanism, time * sum(_FLOW_TIMES) / 2.0, task.dt)
    runs = int(min(_FLOW_SHARE * seconds / one, shipped["runs"]))
    if runs < _FEWEST_FLOWS:
        return None
    low, high = task.pressure
    fastest = shipped["between"]["initial.rms_velocity"][1]
    factors = {
        "initial.rms_velocity": scales.turbulence(fastest, _FINEST_CELL, task.dt),
        "initial.integral_length": length,
        "initial.kernel_radius": length,
    }
    between = {key: [factor * end for end in shipped["between"][key]] for key, factor in factors.items()}
    between |= {
        "mixture.phi": [max(found.phi[0], 0.5), min(found.phi[1], 1.7)],
        "mixture.temperature": [found.unburnt, found.unburnt + 100.0],
        "mixture.pressure": [max(low, 0.8 * scales.pressure), min(high, 1.8 * scales.pressure)],
        "initial.kernel_temperature": [_COLDEST_KERNEL * scales.kernel_temperature, scales.kernel_temperature],
        "initial.kernel_edge_cells": shipped["between"]["initial.kernel_edge_cells"],
    }
    choose = dict(shipped["choose"])
    choose["end_time"] = [float(f"{time * end:.3g}") for end in choose["end_time"]]
    sizes = ("length_x", "length_y")
    choose["grid"] = [{**grid, **{size: length * grid[size] for size in sizes}} for grid in choose["grid"]]
    return {**shipped, "runs": runs, "between": between, "choose": choose}


def _add_rows_of_flows(data: dict[str, Any]) -> None:
    """Rows of the turbulent flames beside the others, as many as those at most: a label costs little once a run is
    paid for."""
    others = sum(part["share"] for kind, part in data.items() if kind in KINDS and kind != "flow" and part)
    extra = min(data["flow"]["runs"] * _ROWS_PER_RUN, data["rows"])
    share = others * extra / data["rows"]
    data["flow"] = {**data["flow"], "rows_per_run": _ROWS_PER_RUN, "share": float(f"{share:.3g}")}
    data["rows"] += extra


def scales_of(found: Survey) -> FlameScales:
    """The scales of the gas's flames: of the usual equivalence ratios of the checks those of the gas, or its middle."""
    flame = found.flame_at(1.0)
    usual = tuple(phi for phi in TARGETS if found.phi[0] <= phi <= found.phi[1])
    return FlameScales(
        thickness=flame.thickness,
        speed=flame.speed,
        pressure=flame.P,
        temperature=found.unburnt,
        phis=usual or (middle(found.phi),),
        kernel_temperature=min(METHANE.kernel_temperature, found.kernel),
    )


def n_boxes(found: Survey, mechanism: Mechanism, dt: float, budget: Budget) -> int:
    """How many of the turbulent flames of the checks half of the time for checks pays for; 0 without a flame."""
    if not found.flames:
        return 0
    boxes = boxes_of(scales_of(found), dt)
    runs = [_BOX_RUNS * (box.cells / 128) ** 2 * _flow_seconds(mechanism, box.end_time, dt) for box in boxes]
    return int(np.searchsorted(np.cumsum(runs), _BOX_SHARE * budget.ladder, side="right"))


def _flow_seconds(mechanism: Mechanism, time: float, dt: float) -> float:
    """Seconds that a small turbulent flame of 128 x 128 cells takes a core, by the exact step, for a time [s]."""
    return _FLOW_SECONDS * (1.0 + mechanism.n_species / 20.0) * time / (300.0 * dt)


def _config(
    task: MakeTask, mechanism: Mechanism, found: Survey, budget: Budget, folder: Path, flows: bool
) -> TrainConfig:
    columns = mechanism.n_species + 2
    width = next(width for seconds, width in _WIDTHS if budget.training <= seconds)
    if mechanism.n_species > _MANY_SPECIES:
        width = min(_WIDEST, width + 64)
    data = {
        "name": task.name,
        "description": f"made for {task.name} in {in_words(budget.seconds)}",
        "data": str(folder / "states.h5"),
        "calm_share": 0.2,
        "cold_limit": _cold_limit(found),
        "network": {"widths": [columns, *3 * [width], columns], "activation": "gelu", "initialisation": "default"},
        "fit": {
            "optimizer": "muon",
            "learning_rate": 1.5e-2,
            "steps": _STEPS,
            "report_every": 1000,
            "change_loss": 5.0 if flows else 0.0,
            "rollouts": int(np.clip(budget.training / 30.0, 1, 8)),
        },
    }
    return parse(TrainConfig, data, "plan of the config")


def _cold_limit(found: Survey) -> float:
    """Temperature [K] below which gas is integrated: far below every ignition, where steps are calm and cheap."""
    return float(np.clip(50.0 * math.floor((found.T0[0] - _COLD_BELOW) / 50.0), _COLDEST_LIMIT, _WARMEST_LIMIT))


def _cases(task: MakeTask, found: Survey, budget: Budget) -> IgnitionCases:
    """Ignitions over the survey's range of T0, as many as a part of the time for checks pays for."""
    phis, pressures = some_phis(found.phi), _inside(task)
    of_one = len(phis) * len(pressures) * _LADDER_STEPS * found.seconds_per_step
    affordable = _LADDER_SHARE * budget.ladder / of_one
    T0 = 1.0 / np.linspace(1.0 / found.T0[0], 1.0 / found.T0[1], int(np.clip(affordable, 3, 6)))
    cases = IgnitionCases(
        temperatures=tuple(dict.fromkeys(float(round(T)) for T in T0)),
        equivalence_ratios=tuple(float(f"{phi:.4g}") for phi in phis),
        pressures=pressures,
        fuel=task.fuel,
        oxidizer=task.oxidizer,
        steps=_LADDER_STEPS,
        delays=_LADDER_DELAYS,
    )
    return cases if affordable >= 1.0 else _judging(task, found, cases)


def _judging(task: MakeTask, found: Survey, cases: IgnitionCases) -> IgnitionCases:
    """Those of the ladder's ignitions that are soon over, so that a training can afford them now and then."""
    late = {i.T0 for i in found.ignitions if i.delay is None or i.delay > _JUDGING_DELAY * task.dt}
    soon = min({i.T0 for i in found.ignitions} - late, default=math.inf)
    levels = [T for T in cases.temperatures if soon <= T] or [cases.temperatures[-1]]
    chosen = levels[:: max(1, len(levels) // 2)][:3]
    return cases.model_copy(update={"temperatures": tuple(chosen), "steps": _JUDGING_STEPS, "delays": 0.0})


def _inside(task: MakeTask) -> tuple[float, ...]:
    """Pressures of the ladder, the ends of the range a little inside."""
    low, high = task.pressure
    margin = _MARGIN * (high - low)
    return some_pressures((low + margin, high - margin)) if margin else (low,)


def _choices(
    task: MakeTask, found: Survey, budget: Budget, recipe: Recipe, config: TrainConfig, cases: IgnitionCases
) -> list[tuple[str, str, str]]:
    """What was chosen, and why."""
    given = "as asked for" if task.phi else "what burns of the usual 0.5 to 2"
    delays = f"delays are then {EARLIEST_DELAY:g} to {LATEST_DELAY:g} steps at all pressures and mixtures"
    widths = "-".join(map(str, config.network.widths))
    flames = (
        f"{len(recipe.flames.phi)} mixtures at {len(recipe.flames.at)} states" if recipe.flames else "none",
        found.without_flames or f"one takes {found.seconds_per_flame:.2g} s",
    )
    flows = ("none", "no flow solver, no flames, or no time for them")
    if recipe.flow:
        flows = (f"{recipe.flow.runs} small runs", "lengths and times in the scales of the laminar flame")
    exact = f"an exact step of a reacting cell takes {1e6 * found.seconds_per_step:.3g} us"
    return [
        ("phi of the model", _range(found.phi), given),
        ("phi of the states", _range(recipe.phi), "beyond it by what mixing and diffusion make of it"),
        ("pressure [Pa]", _range(task.pressure), "as asked for"),
        ("oxidizer", ", ".join(f"{name} {x:g}" for name, x in task.oxidizer.items()), "no other dilution"),
        ("T0 of the ladder [K]", _range(found.T0), delays),
        ("T0 of the paths [K]", _range(recipe.ignition.T0), f"from {_T0_BELOW:g} K below the ladder"),
        ("T0 of the kernels [K]", _range(recipe.kernel.T0), "the hottest burns to just below the hottest valid state"),
        ("flames", *flames),
        ("turbulent flames", *flows),
        ("rows", f"{recipe.rows:,}", f"{exact}; {in_words(budget.sampling)} for states on {budget.cores} cores"),
        ("paths", f"{recipe.ignition.trajectories}", f"one takes {1e3 * found.seconds_per_ignition:.3g} ms"),
        ("network", widths, f"{in_words(budget.training)} of training"),
        ("integrated below [K]", f"{config.cold_limit:g}", "far below the ignitions, where steps are calm and cheap"),
        ("calm gas is integrated below", f"{config.calm_limit:g}", "of the typical change: the shipped limit"),
        ("ignitions of the ladder", f"{len(cases.mixtures())}", f"{in_words(budget.ladder)} for all checks"),
    ]


def _range(limits: tuple[float, float]) -> str:
    return f"{limits[0]:.4g} - {limits[1]:.4g}"
