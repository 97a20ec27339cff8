"""A mechanism as the plain arrays that the flow kernels take, with fitted transport and the error of the fits."""

from __future__ import annotations

from dataclasses import dataclass, field

import cantera as ct
import numpy as np
from numpy.typing import NDArray

from chemnet.gas.mechanism import Mechanism
from chemnet.runtime.errors import UsageError

Floats = NDArray[np.float64]

FIT_RANGE = (250.0, 3500.0)  # [K]
_FIT_POINTS = 120
_VISCOSITY_DEGREE = 5
_CONDUCTIVITY_DEGREE = 6
_BASIS_DEGREE = 7
BASIS_SIZE = 4  # functions of T of which every 1/D_kj is a combination


@dataclass(frozen=True, eq=False)
class Gas:
    """Arrays of one mechanism for the kernels; K species.

    weights (K,) [kg/kmol] and nasa as in `Mechanism`. Fits in x = (T - T_ref) / (T + T_ref), coefficients
    from the constant up: viscosity (K, 6) and conductivity (K, 7) of species over sqrt(T); basis (BASIS_SIZE, 8) and
    pairs (K, K, BASIS_SIZE): 1/D_kj = P T^-1.5 pairs[k, j] . basis(x). All SI.

    fit_error: largest relative error of each fit against Cantera between FIT_RANGE, away from the fitted points.
    """

    mechanism: Mechanism = field(repr=False)
    weights: Floats = field(repr=False)
    nasa: Floats = field(repr=False)
    T_ref: float
    viscosity: Floats = field(repr=False)
    conductivity: Floats = field(repr=False)
    basis: Floats = field(repr=False)
    pairs: Floats = field(repr=False)
    fit_error: dict[str, float]

    @property
    def n_species(self) -> int:
        """Number of species K."""
        return len(self.weights)

    @classmethod
    def from_mechanism(cls, mechanism: Mechanism) -> Gas:
        """Fit the transport of a mechanism. Raises UsageError when it has no transport data."""
        gas = mechanism.gas()
        try:
            gas.transport_model = "mixture-averaged"
        except ct.CanteraError:
            raise UsageError(
                f"mechanism {mechanism.name} has no transport data, which the flow needs; name another one"
            ) from None
        T_ref = float(np.sqrt(FIT_RANGE[0] * FIT_RANGE[1]))
        nodes = np.geomspace(*FIT_RANGE, 2 * _FIT_POINTS + 1)
        tables = _sample(gas, nodes)
        fits = _fit({name: table[::2] for name, table in tables.items()}, nodes[::2], T_ref)
        return cls(
            mechanism=mechanism,
            weights=mechanism.molecular_weights,
            nasa=mechanism.nasa,
            T_ref=T_ref,
            **fits,
            fit_error=_errors(fits, {name: table[1::2] for name, table in tables.items()}, nodes[1::2], T_ref),
        )


def _sample(gas: ct.Solution, nodes: Floats) -> dict[str, Floats]:
    """Properties of species and pairs at the temperatures `nodes`, with their strong dependence on T taken out."""
    viscosity, conductivity, drag = [], [], []
    pure = np.eye(gas.n_species)
    for T in nodes:
        gas.TP = T, ct.one_atm
        viscosity.append(gas.species_viscosities / np.sqrt(T))
        drag.append(T**1.5 / (ct.one_atm * gas.binary_diff_coeffs))
        conductivity.append([_pure_conductivity(gas, T, Y) / np.sqrt(T) for Y in pure])
    return {"viscosity": np.array(viscosity), "conductivity": np.array(conductivity), "drag": np.array(drag)}


def _pure_conductivity(gas: ct.Solution, T: float, Y: Floats) -> float:
    gas.TPY = T, ct.one_atm, Y
    return float(gas.thermal_conductivity)


def _fit(tables: dict[str, Floats], nodes: Floats, T_ref: float) -> dict[str, Floats]:
    n_species = tables["drag"].shape[1]
    drag = tables["drag"].reshape(len(nodes), -1)
    scaled = drag / np.sqrt((drag**2).mean(axis=0))
    functions = np.linalg.svd(scaled, full_matrices=False)[0][:, :BASIS_SIZE]
    basis = _relative_fit(_powers(nodes, T_ref, _BASIS_DEGREE), functions, np.ones_like(functions))
    smooth = _powers(nodes, T_ref, _BASIS_DEGREE) @ basis
    pairs = _relative_fit(smooth, drag, drag).T.reshape(n_species, n_species, BASIS_SIZE)
    viscosity, conductivity = tables["viscosity"], tables["conductivity"]
    return {
        "viscosity": _relative_fit(_powers(nodes, T_ref, _VISCOSITY_DEGREE), viscosity, viscosity).T.copy(),
        "conductivity": _relative_fit(_powers(nodes, T_ref, _CONDUCTIVITY_DEGREE), conductivity, conductivity).T.copy(),
        "basis": basis.T.copy(),
        "pairs": pairs.copy(),
    }


def _powers(T: Floats, T_ref: float, degree: int) -> Floats:
    x = (T - T_ref) / (T + T_ref)
    return np.vander(x, degree + 1, increasing=True)


def _relative_fit(functions: Floats, values: Floats, scale: Floats) -> Floats:
    """Coefficients (m, c) of the columns of `values` (n, c) in `functions` (n, m), least squares relative to scale."""
    columns = [
        np.linalg.lstsq(functions / s[:, None], v / s, rcond=None)[0] for v, s in zip(values.T, scale.T, strict=True)
    ]
    return np.array(columns).T


def _errors(fits: dict[str, Floats], tables: dict[str, Floats], nodes: Floats, T_ref: float) -> dict[str, float]:
    viscosity = _powers(nodes, T_ref, _VISCOSITY_DEGREE) @ fits["viscosity"].T
    conductivity = _powers(nodes, T_ref, _CONDUCTIVITY_DEGREE) @ fits["conductivity"].T
    drag = np.einsum("nr,kjr->nkj", _powers(nodes, T_ref, _BASIS_DEGREE) @ fits["basis"].T, fits["pairs"])
    return {
        "viscosity": float(np.abs(viscosity / tables["viscosity"] - 1).max()),
        "conductivity": float(np.abs(conductivity / tables["conductivity"] - 1).max()),
        "binary diffusivity": float(np.abs(drag / tables["drag"] - 1).max()),
    }
