"""Reaction rates for DeepFlame by a network of chemnet.

DeepFlame imports this module from the case folder and calls `inference` in every step. It needs Python 3.8 or later,
numpy, and beside it `chemnet_step.py`, `model.npz` and `constant/CanteraTorchProperties`. README.md says which cells
the network is not for and how they are answered; `log.chemnet` counts them.
"""

from __future__ import annotations

import atexit
import json
import os
import re
from typing import Any, Mapping, Sequence

import numpy as np
from chemnet_step import CALM, COLD, FAILED, FROZEN, INVALID, KINDS, NETWORK, OUTSIDE, Array, Step, variable

HERE = os.path.dirname(os.path.abspath(__file__))
PROPERTIES = os.path.join("constant", "CanteraTorchProperties")
ATMOSPHERE = 101325.0  # [Pa]
BLOCK = 1024  # cells that are computed at a time
ON = ("on", "yes", "true", "y", "t", "any")  # OpenFOAM's words
STEP_TOLERANCE = 1e-6  # of the time step, which text files round
RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "MV2_COMM_WORLD_RANK", "SLURM_PROCID")

_loaded: list[Case] = []


def inference(rows: Array, *further: Any) -> Array:
    """Mass rates (N, K) [kg/m3/s] of K species for flat rows [T [K], p [atm], K mass fractions, rho [kg/m3]].

    Versions of DeepFlame differ. Some give three arrays, whose cells follow one another in the answer; some give the
    time step [s] and the number of the process as well, and then p is in Pa. Raises ValueError for numbers that are not
    finite, for rows of another length, and for a time step that the network was not made for.
    """
    with_step = bool(further) and np.ndim(further[0]) == 0
    if not _loaded:
        rank = further[1] if with_step and len(further) > 1 else variable(RANKS, "0")
        _loaded.append(Case(HERE, int(rank)))
    case = _loaded[0]
    if with_step:
        case.check_step("the time step of DeepFlame", float(further[0]))
        return case.rates(rows, 1.0)
    return case.rates(np.concatenate([np.ravel(part) for part in (rows, *further)]), ATMOSPHERE)


class Case:
    """The network of a case folder with the settings of the case, and its log."""

    def __init__(self, folder: str, rank: int = 0) -> None:
        with np.load(os.path.join(folder, "model.npz"), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        self.facts = json.loads(str(arrays.pop("facts")))
        self.species, self.dt = self.facts["species"], self.facts["dt"]
        self.settings = Settings(os.path.join(folder, PROPERTIES), self.facts)
        self._check_files(folder)
        settings = self.settings
        self.step = Step(arrays, self.facts, settings.frozen, settings.calm == "network", settings.gpu)
        self.integrator = None
        if "cantera" in (settings.refused, settings.calm):
            self.integrator = Integrator(os.path.join(folder, settings.mechanism), self.dt)
        self.log = Log(folder, rank, self.facts, settings, self.step.engine)

    def rates(self, rows: Array, pascals: float) -> Array:
        """Mass rates (N, K) [kg/m3/s] of flat rows whose pressure is in units of so many pascals."""
        K = len(self.species)
        rows = np.array(rows, dtype=np.float64).ravel()
        if rows.size % (K + 3):
            raise ValueError(
                f"{rows.size} numbers are no rows of T, p, {K} mass fractions and rho: "
                f"is the mechanism of the case {self.facts['mechanism_file']}?"
            )
        rows = rows.reshape(-1, K + 3)
        self._check_numbers(rows)
        states = rows[:, :-1].copy()
        states[:, 1] *= pascals
        change, kinds = np.zeros((len(states), K)), np.zeros(len(states), np.int8)
        for start in range(0, len(states), BLOCK):
            part = slice(start, start + BLOCK)
            change[part], kinds[part] = self.step.changes(states[part])
        integrated = self._integrate(states, kinds, change)
        self.log.count(states, kinds, integrated)
        rates: Array = rows[:, -1:] * change / self.dt
        return rates

    def check_step(self, what: str, dt: float) -> None:
        """Raises ValueError unless dt [s] is the time step that the network was made for."""
        if not abs(dt - self.dt) <= STEP_TOLERANCE * self.dt:
            raise ValueError(
                f"{what} is {dt:g} s, but this network answers for steps of {self.dt:g} s and for no others.\n"
                f"Set deltaT {self.dt:g} in system/controlDict, adjustTimeStep off, and inferenceDeltaTime "
                f"{self.dt:g} in {PROPERTIES}."
            )

    def _check_files(self, folder: str) -> None:
        """Raises ValueError for time steps or species of the case that are not those of the network."""
        control = read_dictionary(os.path.join(folder, "system", "controlDict"))
        for what, dt in (
            (f"inferenceDeltaTime in {PROPERTIES}", self.settings.dt),
            ("deltaT in system/controlDict", number(control.get("deltaT"))),
        ):
            if dt is not None:
                self.check_step(what, dt)
        if control.get("adjustTimeStep") in ON:
            raise ValueError(
                f"system/controlDict: adjustTimeStep is on, but this network answers for steps of {self.dt:g} s and "
                f"for no others.\nSet adjustTimeStep off and deltaT {self.dt:g}."
            )
        names = species_of(os.path.join(folder, self.settings.mechanism))
        if names is not None and names != self.species:
            raise ValueError(
                f"{self.settings.mechanism} has the species {' '.join(names)}\nbut the network has "
                f"{' '.join(self.species)}, in this order: use {self.facts['mechanism_file']}, which came with it."
            )

    def _check_numbers(self, rows: Array) -> None:
        """Raises ValueError that names the first cell and column of what is not finite."""
        bad = np.argwhere(~np.isfinite(rows))
        if bad.size:
            cell, column = bad[0]
            name = [*columns_of(self.species), "rho"][column]
            raise ValueError(
                f"{name} of cell {cell} of this call is {float(rows[cell, column])} ({len(set(bad[:, 0]))} of "
                f"{len(rows)} cells hold such numbers): the flow has failed before its chemistry was asked"
            )

    def _integrate(self, states: Array, kinds: Array, change: Array) -> int:
        """Number of cells whose changes Cantera has computed, in place of zeros."""
        if self.integrator is None:
            return 0
        wanted = [CALM] if self.settings.calm == "cantera" else []
        wanted += [COLD, OUTSIDE, FAILED] if self.settings.refused == "cantera" else []
        integrated = 0
        for i in np.flatnonzero(np.isin(kinds, wanted)):
            answer = self.integrator.change(states[i])
            if answer is not None:
                change[i] = answer
                integrated += 1
        return integrated


class Settings:
    """Settings of the case; keys that are missing have the values that the model came with.

    `mechanism` file, `gpu`, time step `dt` [s] of the network or None, temperature `frozen` [K] below which nothing
    reacts, and who answers for `calm` cells and for those that the network has `refused`.
    """

    def __init__(self, path: str, facts: Mapping[str, Any]) -> None:
        if not os.path.exists(path):
            raise ValueError(f"no file {path}: copy the folder as it was exported, its files need each other")
        inner = read_dictionary(path, "TorchSettings")
        self.mechanism = read_dictionary(path).get("CanteraMechanismFile", facts["mechanism_file"])
        self.gpu = inner.get("GPU") in ON
        self.dt = number(inner.get("inferenceDeltaTime"))
        frozen = number(inner.get("frozenTemperature"))
        self.frozen = float(facts["cold_limit"]) if frozen is None else frozen
        self.calm = _one_of(inner, "calmCells", ("network", "zero", "cantera"))
        self.refused = _one_of(inner, "refusedCells", ("zero", "cantera"))


def _one_of(entries: Mapping[str, str], key: str, choices: Sequence[str]) -> str:
    """The value of an entry, the first of the choices if it is missing; raises ValueError for another."""
    value = entries.get(key, choices[0])
    if value not in choices:
        raise ValueError(f"{PROPERTIES}: {key} {value}; there are {', '.join(choices)}")
    return value


def read_dictionary(path: str, inner: str = "") -> dict[str, str]:
    """Entries `key value;` of an OpenFOAM dictionary, or of one inside it, as text; empty where there is no file."""
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", file.read(), flags=re.DOTALL)
    if inner:
        found = re.search(r"\b" + inner + r"\s*\{([^{}]*)\}", text)
        text = found.group(1) if found else ""
    entries = re.findall(r'"?\b([A-Za-z]\w*)"?\s+("[^"]*"|[^\s;{}"]+)\s*;', text)
    return {key: value.strip('"') for key, value in entries}


def number(text: str | None) -> float | None:
    """The number of an entry; None where there is none, as in an expression."""
    try:
        return float(text or "")
    except ValueError:
        return None


def species_of(path: str) -> list[str] | None:
    """Species of the first phase of a mechanism file, in order; None where they are not listed in brackets."""
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        found = re.search(r"^\s+species:\s*\[([^\]]*)\]", file.read(), flags=re.MULTILINE)
    return None if found is None else [name.strip().strip("'\"") for name in found.group(1).split(",")]


def columns_of(species: Sequence[str]) -> list[str]:
    """Names of the columns of states."""
    return ["T", "p", *(f"Y of {name}" for name in species)]


class Integrator:
    """Cantera's CVODES at constant pressure and enthalpy, for cells that the network is not for: some ms each."""

    def __init__(self, mechanism: str, dt: float) -> None:
        import cantera

        self._cantera, self._gas, self._dt = cantera, cantera.Solution(mechanism), dt
        self._later = tuple(int(part) for part in cantera.__version__.split(".")[:2]) >= (3, 2)

    def change(self, state: Array) -> Array | None:
        """Change of the mass fractions (K,) over dt; None where the integrator fails."""
        ct, gas = self._cantera, self._gas
        gas.TPY = state[0], state[1], np.maximum(state[2:], 0.0)
        before = gas.Y
        shared = {"clone": False} if self._later else {}  # as before 3.2, which has to be told
        reactor = ct.IdealGasConstPressureReactor(gas, **shared)
        net = ct.ReactorNet([reactor])
        net.rtol, net.atol = 1e-9, 1e-15
        try:
            net.advance(self._dt)
        except ct.CanteraError:
            return None
        after: Array = (reactor.phase if self._later else reactor.thermo).Y
        return after - before


class Log:
    """`log.chemnet`: a line for every call with the numbers of cells by kind; remarks begin with #."""

    def __init__(self, folder: str, rank: int, facts: Mapping[str, Any], settings: Settings, engine: str) -> None:
        self._path = os.path.join(folder, "log.chemnet" if rank == 0 else f"log.chemnet.{rank}")
        self._facts, self._settings, self._rank = facts, settings, rank
        self._calls, self._totals = 0, np.zeros(len(KINDS) + 1, np.int64)
        self._write("", "w")
        for remark in [f"{facts['name']}, computed by {engine}", *facts["remarks"]]:
            self.remark(remark)
        self._write("\t".join(("call", "cells", *KINDS, "integrated")) + "\n")
        atexit.register(self.close)

    def count(self, states: Array, kinds: Array, integrated: int) -> None:
        """Write the numbers of a call, and a remark with the first cell of every kind that is new."""
        self._calls += 1
        counts = np.append(np.bincount(kinds, minlength=len(KINDS)), integrated)
        for kind in np.flatnonzero((counts[:-1] > 0) & (self._totals[:-1] == 0)):
            if kind != NETWORK:
                self._explain(int(kind), states, kinds)
        self._totals += counts
        self._write("\t".join(str(value) for value in (self._calls, len(kinds), *counts.tolist())) + "\n")

    def close(self) -> None:
        """Write the totals."""
        totals = dict(zip((*KINDS, "integrated"), self._totals.tolist()))
        shares = [f"{name} {total}" for name, total in totals.items() if total]
        self.remark(f"{self._calls} calls, cells by kind: {', '.join(shares) or 'none'}")

    def remark(self, text: str) -> None:
        """Write a remark; that of the first process to the standard output as well."""
        self._write(f"# {text}\n")
        if self._rank == 0:
            print(f"chemnet: {text}", flush=True)

    def _explain(self, kind: int, states: Array, kinds: Array) -> None:
        """A remark on the first cells of a kind."""
        cells = np.flatnonzero(kinds == kind)
        first = states[cells[0]]
        answer = self._settings.calm if kind == CALM else self._settings.refused
        answer = "zero" if kind in (FROZEN, INVALID) else answer
        words = {"network": "the network", "zero": "rates of zero", "cantera": "Cantera's integrator"}
        where = f"the first is cell {cells[0]}: T = {first[0]:.6g} K, p = {first[1]:.6g} Pa"
        if kind in (OUTSIDE, INVALID):
            where += self._beyond(first)
        self.remark(
            f"call {self._calls}, {len(cells)} of {len(kinds)} cells are {KINDS[kind]} "
            f"and answered by {words[answer]}; {where}"
        )

    def _beyond(self, state: Array) -> str:
        """The first bound of T, p or a mass fraction that a state breaks, in words."""
        for name, value, (low, high) in zip(columns_of(self._facts["species"]), state.tolist(), self._facts["limits"]):
            if not low <= value <= high:
                return f"; {name} is {value:.6g}, the domain of the network {low:.6g} to {high:.6g}"
        total = state[2:].sum()
        return f"; its elements and enthalpy, or its sum of mass fractions, {total:.9g}, are beyond those of the data"

    def _write(self, text: str, mode: str = "a") -> None:
        try:
            with open(self._path, mode, encoding="utf-8") as file:
                file.write(text)
        except OSError:  # a full disk must not end the flow; the remarks are on the standard output, too
            pass
