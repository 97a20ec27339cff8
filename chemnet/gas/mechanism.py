"""Constants of one Cantera mechanism: species, atoms, thermodynamic polynomials, and a hash of its content."""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cantera as ct
import numpy as np
from numpy.typing import NDArray

from chemnet.runtime.errors import UsageError

_BUNDLED = Path(__file__).parent / "mechanisms"


@dataclass(frozen=True, eq=False)
class Mechanism:
    """One gas-phase mechanism.

    `name` is what `load_mechanism` was given and takes again. Shapes: K species, E elements.

    * `molecular_weights` (K,) [kg/kmol]
    * `atoms` (E, K): number of atoms of element e in species k
    * `element_mass` (E, K) [kg/kg]: mass of element e in one kilogram of species k; columns sum to 1
    * `inert` (K,) bool: species that no reaction makes or consumes
    * `nasa` (K, 15): `[T_mid, a_0..a_6 below it, a_0..a_6 above it]`, the NASA polynomials of Cantera times R/W_k,
      so that cp_k = a_0 + a_1 T + ... + a_4 T^4 [J/kg/K] and h_k = a_5 + a_0 T + a_1 T^2/2 + ... [J/kg]
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

    @property
    def n_species(self) -> int:
        """Number of species K; a row of states has K + 2 columns."""
        return len(self.species_names)

    def index(self, species: str) -> int:
        """Position of a species in Y. Raises UsageError for an unknown one."""
        try:
            return self.species_names.index(species)
        except ValueError:
            near = difflib.get_close_matches(species, self.species_names, n=3, cutoff=0.6)
            names = f"near are {', '.join(near)}" if near else f"it has {', '.join(self.species_names)}"
            raise UsageError(f"no species {species} in {self.name}; {names}") from None

    def gas(self) -> ct.Solution:
        """A new Cantera gas of this mechanism."""
        return ct.Solution(self.source, self.phase)


@functools.cache
def load_mechanism(name_or_path: str | Path = "drm19", phase: str | None = None) -> Mechanism:
    """The mechanism of a bundled name (`drm19`), a Cantera data file (`gri30.yaml`), or a path.

    Raises UsageError when there is no such mechanism or phase, or it is no ideal gas with reactions and NASA7
    thermodynamics.
    """
    source = _find(str(name_or_path))
    try:
        gas = ct.Solution(source, phase or "")
    except ct.CanteraError as error:
        raise UsageError(f"{name_or_path}: {_reason(error)}\nGive a Cantera YAML file with a gas phase.") from None
    if gas.thermo_model != "ideal-gas" or gas.n_reactions == 0:
        raise UsageError(f"{name_or_path}: phase {gas.name} is no ideal gas with reactions, which chemnet needs")
    return _from_gas(gas, source, str(name_or_path))


def _find(name: str) -> str:
    bundled = _BUNDLED / f"{name}.yaml"
    if bundled.exists():
        return str(bundled)
    if Path(name).exists():
        return str(Path(name).resolve())
    if any((Path(folder) / name).exists() for folder in ct.get_data_directories()):
        return name
    names = ", ".join(sorted(path.stem for path in _BUNDLED.glob("*.yaml")))
    raise UsageError(f"no mechanism {name}: bundled are {names}; else give the path of a Cantera YAML file")


def _reason(error: ct.CanteraError) -> str:
    """The one line of Cantera's message that says what is wrong."""
    frame = ("*", "CanteraError thrown", "InputFileError thrown", "Error on line")
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.startswith(frame)), "Cantera cannot read it")


def _from_gas(gas: ct.Solution, source: str, name: str) -> Mechanism:
    weights = gas.molecular_weights
    atoms = np.array([[gas.n_atoms(k, e) for k in range(gas.n_species)] for e in range(gas.n_elements)], float)
    changes = gas.product_stoich_coeffs - gas.reactant_stoich_coeffs
    arrays = {
        "molecular_weights": weights,
        "atoms": atoms,
        "element_mass": atoms * np.asarray(gas.atomic_weights)[:, None] / weights,
        "inert": np.all(changes == 0.0, axis=1),
        "nasa": _nasa(gas),
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
        **arrays,
    )


def _nasa(gas: ct.Solution) -> NDArray[np.float64]:
    """NASA7 coefficients per kilogram; Cantera stores `[T_mid, high range, low range]`."""
    table = np.empty((gas.n_species, 15))
    for k, species in enumerate(gas.species()):
        if not isinstance(species.thermo, ct.NasaPoly2):
            raise UsageError(f"{gas.name}: species {species.name} has no NASA7 polynomials, which chemnet needs")
        coefficients = species.thermo.coeffs
        table[k, 0] = coefficients[0]
        table[k, 1:8] = coefficients[8:15] * ct.gas_constant / gas.molecular_weights[k]
        table[k, 8:15] = coefficients[1:8] * ct.gas_constant / gas.molecular_weights[k]
    return table


def _content_hash(gas: ct.Solution) -> str:
    """SHA-256 of species, thermodynamics and rates, independent of how the file is laid out."""
    content = {
        "species": [[s.name, s.composition, list(s.thermo.coeffs)] for s in gas.species()],
        "reactions": [r.input_data for r in gas.reactions()],
    }
    return hashlib.sha256(json.dumps(_rounded(content), sort_keys=True).encode()).hexdigest()


def _rounded(content: Any) -> Any:
    """Numbers at twelve digits, so that a last bit lost in a unit conversion does not change the hash."""
    if isinstance(content, dict):
        return {str(key): _rounded(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_rounded(value) for value in content]
    return float(f"{content:.12g}") if isinstance(content, float) else content
