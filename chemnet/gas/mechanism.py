"""Constants of one Cantera mechanism: species, atoms, thermodynamic polynomials, and a hash of its content."""

from __future__ import annotations

import functools
import hashlib
import json
import multiprocessing
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import cantera as ct
import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator

from chemnet.gas.mechanism_file import check_ideal_gas, jumps_untold, open_gas, text_of, with_phase
from chemnet.gas.polynomials import enthalpy_jumps, table_of
from chemnet.runtime.errors import UsageError
from chemnet.runtime.nearest import hint
from chemnet.runtime.processes import is_first_rank

_MEMORY = "memory#"  # begins the names of mechanisms that are in no file
_T_USUAL, _T_HIGHEST = 3500.0, 6000.0  # [K] bounds of `Mechanism.T_max`
_JUMP = 1e-3  # of h/(RT) where two ranges meet; Cantera warns from there on, too
_BALANCED = 1e-4  # of what takes part in a reaction, as in Cantera


@dataclass(frozen=True, eq=False)
class Mechanism:
    """One gas-phase mechanism.

    `name` is what `load_mechanism` was given and takes again. Shapes: K species, E elements.

    * `molecular_weights` (K,) [kg/kmol]
    * `atoms` (E, K): number of atoms of element e in species k
    * `element_mass` (E, K) [kg/kg]: mass of element e in one kilogram of species k; columns sum to 1
    * `inert` (K,) bool: species that no reaction makes or consumes
    * `nasa` (K, 17 or more): thermodynamic polynomials per kilogram, see `polynomials.py`; of NASA7 data a row is
      `[T_mid, a_0..a_6 below it, a_0..a_6 above it, W_k, free]`, with cp_k = a_0 + a_1 T + ... + a_4 T^4 [J/kg/K],
      h_k = a_5 + a_0 T + a_1 T^2/2 + ... [J/kg], and s_k at 1 atm, whatever the file's `reference-pressure` is
    * `T_max` [K]: states up to it are valid; where all polynomials end, but at least 3500 K and at most 6000 K
    """

    name: str
    source: str
    phase: str
    sha256: str
    species_names: tuple[str, ...]
    element_names: tuple[str, ...]
    molecular_weights: NDArray[np.float64] = field(repr=False)
    atoms: NDArray[np.float64] = field(repr=False)
    element_mass: NDArray[np.float64] = field(repr=False)
    inert: NDArray[np.bool_] = field(repr=False)
    nasa: NDArray[np.float64] = field(repr=False)
    T_max: float  # [K]
    text: str | None = field(default=None, repr=False)  # of a mechanism that is in no file, as Cantera's YAML

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled one; arrays that could be written to would be of another type, and compiled for anew."""
        for value in state.values():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
        vars(self).update(state)

    @property
    def n_species(self) -> int:
        """Number of species K; a row of states has K + 2 columns."""
        return len(self.species_names)

    def index(self, species: str) -> int:
        """Position of a species in Y. Raises UsageError for an unknown one."""
        try:
            return self.species_names.index(species)
        except ValueError:
            meant = hint(species, self.species_names, "it has")
            raise UsageError(f"no species {species} in {self.name}{meant}") from None

    def gas(self) -> ct.Solution:
        """A new Cantera gas of this mechanism."""
        with jumps_untold():
            if self.text is not None:
                return ct.Solution(yaml=self.text, name=self.phase)
            return ct.Solution(self.source, self.phase)


MechanismLike = Mechanism | ct.Solution | str | Path  # what public functions take

_in_memory: dict[str, Mechanism] = {}  # by name: those of Cantera objects that are in no file


def load_mechanism(name_or_path: str | Path | ct.Solution = "drm19", phase: str | None = None) -> Mechanism:
    """The mechanism of a bundled name (`drm19`), a Cantera data file (`gri30.yaml`), a path, or a Cantera object.

    `FILE#PHASE` stands for a file and one of its phases in one name; without a phase the first one is taken. Of a
    Cantera object whose file holds the same, it is the mechanism of the file; else `name` is known to this process
    only. The same name gives the same object.
    Raises UsageError when there is no such mechanism or phase, it is no ideal gas with reactions and thermodynamic
    polynomials, or a reaction does not balance.
    """
    if isinstance(name_or_path, ct.Solution):
        return _of_solution(name_or_path)
    name = str(name_or_path)
    return _load(name if phase is None else with_phase(name, phase))


def as_mechanism(mechanism: MechanismLike) -> Mechanism:
    """The mechanism itself, or that of a Cantera object, a name or a path."""
    return mechanism if isinstance(mechanism, Mechanism) else load_mechanism(mechanism)


def name_of(mechanism: MechanismLike) -> str:
    """The name by which another process finds a mechanism. Raises UsageError where that is in no file."""
    if isinstance(mechanism, (str, Path)):
        return str(mechanism)
    name = as_mechanism(mechanism).name
    if name.startswith(_MEMORY):
        raise UsageError(
            "a Cantera object that no file holds, where other processes must find the mechanism\n"
            "Write it to a file, gas.write_yaml('mechanism.yaml'), and give that."
        )
    return name


MechanismName = Annotated[str, BeforeValidator(name_of)]  # in configurations; made of a MechanismLike


@functools.cache
def _load(name: str) -> Mechanism:
    if name in _in_memory:
        return _in_memory[name]
    if name.startswith(_MEMORY):
        raise UsageError(
            f"{name}: a Cantera object of another process, which no file holds\n"
            "Write it to a file, gas.write_yaml('mechanism.yaml'), and load that in its place."
        )
    source, gas = open_gas(name)
    return _from_gas(gas, source, name)


def _of_solution(gas: ct.Solution) -> Mechanism:
    """The mechanism of the object's file if that holds the same, else one that keeps its own text."""
    check_ideal_gas(gas, gas.name)
    changed = [i for i in range(gas.n_reactions) if gas.multiplier(i) != 1.0]
    if changed:
        raise UsageError(
            f"{gas.name}: the rate of {gas.reaction(changed[0]).equation} has a multiplier, which no file can hold\n"
            "Change the rate itself (gas.modify_reaction) in its place, or set the multiplier to 1."
        )
    sha256 = _content_hash(gas)
    for name in (gas.source, f"{gas.source}#{gas.name}"):
        with suppress(UsageError):
            mechanism = _load(name)
            if (mechanism.sha256, mechanism.phase) == (sha256, gas.name):
                return mechanism
    name = f"{_MEMORY}{gas.name}-{sha256[:12]}"
    if name not in _in_memory:
        text = text_of(gas)
        with jumps_untold():
            copy = ct.Solution(yaml=text, name=gas.name)
        _in_memory[name] = _from_gas(copy, name, name, text)
    return _in_memory[name]


def _from_gas(gas: ct.Solution, source: str, name: str, text: str | None = None) -> Mechanism:
    check_ideal_gas(gas, name)
    weights = gas.molecular_weights
    atoms = np.array([[gas.n_atoms(k, e) for k in range(gas.n_species)] for e in range(gas.n_elements)], float)
    _check_balances(gas, atoms, name)
    _announce_jumps(gas, name)
    changes = gas.product_stoich_coeffs - gas.reactant_stoich_coeffs
    arrays = {
        "molecular_weights": weights,
        "atoms": atoms,
        "element_mass": atoms * np.asarray(gas.atomic_weights)[:, None] / weights,
        "inert": np.all(changes == 0.0, axis=1),
        "nasa": table_of(gas),
    }
    for array in arrays.values():
        array.setflags(write=False)
    return Mechanism(
        name=name,
        source=source,
        phase=gas.name,
        sha256=_content_hash(gas),
        species_names=tuple(gas.species_names),
        element_names=tuple(gas.element_names),
        T_max=min(max(_T_USUAL, gas.max_temp), _T_HIGHEST),
        text=text,
        **arrays,
    )


def _check_balances(gas: ct.Solution, atoms: NDArray[np.float64], name: str) -> None:
    """Raise UsageError that names a reaction whose two sides differ in charge or in atoms.

    Cantera does not look at reactions that it takes for three-body ones without an M.
    """
    kept = {"charge": gas.charges, **dict(zip((f"atoms of {e}" for e in gas.element_names), atoms, strict=True))}
    before, after = gas.reactant_stoich_coeffs, gas.product_stoich_coeffs
    for what, amounts in kept.items():
        changes = amounts @ (after - before)
        wrong = np.flatnonzero(np.abs(changes) > _BALANCED * (np.abs(amounts) @ (after + before)))
        for i in wrong.tolist():
            raise UsageError(
                f"{name}: reaction {i + 1}, {gas.reaction(i).equation}, is unbalanced: {what} {changes[i]:+g}\n"
                "Add what one of its sides lacks, or take it out of the file."
            )


def _announce_jumps(gas: ct.Solution, name: str) -> None:
    """Print a line for the species whose enthalpy jumps most where two of its ranges meet, once, not in workers."""
    jumps = sorted((abs(jump), species, T) for species, T, jump in enthalpy_jumps(gas) if abs(jump) > _JUMP)
    if jumps and is_first_rank() and multiprocessing.parent_process() is None:
        jump, species, T = jumps[-1]
        more = f" (and of {len(jumps) - 1} others by less)" if len(jumps) > 1 else ""
        print(
            f"{name}: the enthalpy of {species} jumps by {jump:.3g} RT at {T:g} K{more}; steps keep enthalpy, and T",
            "jumps where CVODES, which integrates cp, loses the energy: mend the data",
            file=sys.stderr,
        )


def _content_hash(gas: ct.Solution) -> str:
    """SHA-256 of species, thermodynamics and rates, independent of how the file is laid out."""
    content: dict[str, Any] = {
        "species": [[s.name, s.composition, list(s.thermo.coeffs)] for s in gas.species()],
        "reactions": [r.input_data for r in gas.reactions()],
    }
    if gas.reference_pressure != ct.one_atm:
        content["reference-pressure"] = gas.reference_pressure
    kinds = [type(s.thermo).__name__ for s in gas.species()]
    if set(kinds) != {"NasaPoly2"}:
        content["thermo"] = kinds
    return hashlib.sha256(json.dumps(_rounded(content), sort_keys=True).encode()).hexdigest()


def _rounded(content: Any) -> Any:
    """Numbers at twelve digits, so that a last bit lost in a unit conversion does not change the hash."""
    if isinstance(content, dict):
        return {str(key): _rounded(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_rounded(value) for value in content]
    return float(f"{content:.12g}") if isinstance(content, float) else content
