"""Fitted transport against Cantera's mixture-averaged model, and the promises of the stored fit errors."""

import cantera as ct
import numpy as np
import pytest
from flow_states import ATMOSPHERE, COMM, drm19, methane_air, mixture

from cfd_coupling.active_cells import all_cells
from cfd_coupling.diffusion import Diffusion
from cfd_coupling.fields import Fields, interior
from cfd_coupling.gas import FIT_RANGE, Gas
from cfd_coupling.grid import Grid
from cfd_coupling.kernels.transport import viscosity
from chemnet.gas.mechanism import load_mechanism
from chemnet.runtime.config import dump_yaml, read_yaml
from chemnet.runtime.errors import UsageError

PRESSURE = 1.7 * ATMOSPHERE


def flame_states(gas):
    """T (n,) and Y (K, n): mixing lines from unburnt to burnt gas at three equivalence ratios."""
    solution = gas.mechanism.gas()
    T, Y = [], []
    for phi in (0.6, 1.0, 1.6):
        solution.set_equivalence_ratio(phi, "CH4", "O2:1, N2:3.76")
        solution.TP = 300.0, PRESSURE
        unburnt = solution.Y.copy()
        solution.equilibrate("HP")
        for z in np.linspace(0.0, 1.0, 8):
            T.append(300.0 + z * (solution.T - 300.0))
            Y.append((1 - z) * unburnt + z * solution.Y)
    return np.array(T), np.array(Y).T


def evaluate(gas, T, Y):
    """Diffusivities (K, n), conductivity over heat capacity, enthalpies, viscosity of n >= 3 cells by the kernels."""
    grid = Grid(len(T), 3, 1.0, 1.0)
    fields, diffusion, mu = (
        Fields.empty(grid, gas.n_species, PRESSURE),
        Diffusion(grid, COMM, gas),
        np.empty(grid.shape),
    )
    fields.T[:], fields.rho[:] = 300.0, 2.0
    interior(fields.T)[:], interior(fields.Y)[:] = T, Y[:, None, :]
    for q in (fields.T, fields.scalars):
        COMM.update(q)
    diffusion.start.fields[:] = fields.scalars
    largest = diffusion._coefficients(fields, all_cells(grid).segments())
    viscosity(fields.T, fields.scalars, gas.weights, gas.T_ref, gas.viscosity, mu)
    coefficients = 2.0 * interior(diffusion.half.fields)[:, 0]
    return (
        coefficients[::2] / 2.0,
        interior(diffusion.lam_cp.fields)[0, 0],
        coefficients[1::2],
        interior(mu)[0],
        largest,
    )


def cantera(gas, T, Y):
    solution = gas.mechanism.gas()
    solution.transport_model = "mixture-averaged"
    rows = []
    for t, y in zip(T, Y.T, strict=True):
        solution.TPY = t, PRESSURE, y
        h_k = solution.partial_molar_enthalpies / solution.molecular_weights
        lam_cp = solution.thermal_conductivity / solution.cp_mass
        rows.append((solution.mix_diff_coeffs, lam_cp, h_k, solution.viscosity))
    return [np.array(column).T for column in zip(*rows, strict=True)]


def test_stored_errors_are_small():
    assert set(drm19().fit_error) == {"viscosity", "conductivity", "binary diffusivity"}
    assert max(drm19().fit_error.values()) < 2e-3


def test_stored_errors_are_those_of_the_fits():
    gas = drm19()
    T = np.random.default_rng(0).uniform(*FIT_RANGE, 20)
    solution = gas.mechanism.gas()
    x = (T - gas.T_ref) / (T + gas.T_ref)
    powers = x[:, None] ** np.arange(gas.viscosity.shape[1])
    fitted = np.sqrt(T)[:, None] * (powers @ gas.viscosity.T)
    for t, row in zip(T, fitted, strict=True):
        solution.TP = t, ct.one_atm
        assert np.allclose(row, solution.species_viscosities, rtol=1.1 * gas.fit_error["viscosity"], atol=0.0)


def test_mixture_transport_through_flames_is_canteras():
    gas = drm19()
    T, Y = flame_states(gas)
    D, lam_cp, h_k, mu, largest = evaluate(gas, T, Y)
    exact_D, exact_lam_cp, exact_h, exact_mu = cantera(gas, T, Y)
    assert np.allclose(D, exact_D, rtol=1e-3, atol=0.0)
    assert np.allclose(lam_cp, exact_lam_cp, rtol=1e-3, atol=0.0)
    assert np.allclose(h_k, exact_h, rtol=1e-7, atol=1.0)  # float32
    assert np.allclose(mu, exact_mu, rtol=1.5e-2, atol=0.0)  # another mixture rule
    assert largest == pytest.approx(max(D.max(), (lam_cp / 2.0).max()), rel=1e-7, abs=0.0)


def test_viscosity_of_stoichiometric_methane_air_is_within_one_percent():
    gas = drm19()
    T = np.array([300.0, 800.0, 1600.0])
    Y = np.repeat(methane_air(gas)[:, None], 3, axis=1)
    assert np.allclose(evaluate(gas, T, Y)[3], cantera(gas, T, Y)[3], rtol=1e-2, atol=0.0)


def test_a_species_alone_has_a_finite_diffusivity():
    gas = drm19()
    D = evaluate(gas, np.full(3, 300.0), np.repeat(mixture(gas, N2=1.0)[:, None], 3, axis=1))[0]
    assert np.isfinite(D).all() and D.min() > 0.0


def test_other_mechanisms_fit_as_well():
    assert max(Gas.from_mechanism(load_mechanism("h2o2.yaml")).fit_error.values()) < 2e-3


def test_a_mechanism_without_transport_data_is_refused(tmp_path):
    path = tmp_path / "bare.yaml"
    ct.Solution("h2o2.yaml").write_yaml(path)
    content = read_yaml(path)
    for entry in (*content["phases"], *content["species"]):
        entry.pop("transport", None)
    path.write_text(dump_yaml(content))
    with pytest.raises(UsageError, match="no transport data"):
        Gas.from_mechanism(load_mechanism(path))
