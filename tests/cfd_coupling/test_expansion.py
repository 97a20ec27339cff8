"""Thermodynamic pressure and the divergence that lets expansion out, closed and open."""

import numpy as np
import pytest
from flow_states import ATMOSPHERE, COMM, drm19, methane_air

from cfd_coupling import initial
from cfd_coupling.expansion import FRAME_CELLS, Expansion, frame_weights
from cfd_coupling.fields import interior
from cfd_coupling.grid import GHOSTS, Grid
from chemnet.runtime.errors import NumericalError

GRID = Grid(40, 36, 1e-3, 9e-4)


def gas_at(T, grid=GRID):
    gas = drm19()
    return initial.at_rest(grid, COMM, gas, np.broadcast_to(T, (grid.ny, grid.nx)), methane_air(gas), ATMOSPHERE)


def heated_spot():
    return 300.0 + 1200.0 * np.exp(-(((GRID.x[None, :] - 5e-4) ** 2 + (GRID.y[:, None] - 4e-4) ** 2) / 1e-8))


def test_a_gas_in_balance_asks_for_no_divergence():
    fields = gas_at(heated_spot())
    target = Expansion(GRID, COMM, drm19(), "closed").target(fields, 1e-6)
    assert np.abs(target).max() * 1e-6 < 1e-13
    assert fields.p0 == pytest.approx(ATMOSPHERE, rel=1e-13, abs=0.0)


def test_compressing_a_closed_box_is_isentropic():
    fields, gas = gas_at(300.0), drm19()
    factor = 1.0 + 1e-4
    fields.rho *= factor
    Expansion(GRID, COMM, gas, "closed").target(fields, 1e-6)
    solution = gas.mechanism.gas()
    solution.TPY = 300.0, ATMOSPHERE, methane_air(gas)
    solution.SV = solution.s, solution.v / factor
    assert fields.p0 - ATMOSPHERE == pytest.approx(solution.P - ATMOSPHERE, rel=1e-3, abs=0.0)
    assert np.allclose(interior(fields.T) - 300.0, solution.T - 300.0, rtol=1e-3, atol=0.0)


def test_heat_in_a_closed_box_raises_p0_keeps_energy_and_expands_where_it_is():
    fields, gas = gas_at(heated_spot()), drm19()
    rho, h = interior(fields.rho), interior(fields.h)
    h += 2e4 * (interior(fields.T) > 600.0)
    expansion = Expansion(GRID, COMM, gas, "closed")
    expansion.update_temperature(fields)
    before = (rho * h - fields.p0).sum()
    target = expansion.target(fields, 1e-6)
    assert fields.p0 > ATMOSPHERE * (1.0 + 1e-6)
    assert (rho * interior(fields.h) - fields.p0).sum() == pytest.approx(before, rel=1e-13, abs=0.0)
    assert abs(target.mean()) < 1e-12 * np.abs(target).max()
    hot = interior(fields.T) > 700.0
    assert target[hot].min() > 0.0 > target[~hot].mean()


def test_an_open_box_keeps_p0_and_lets_the_gas_out_at_the_edge():
    fields, gas = gas_at(heated_spot()), drm19()
    interior(fields.h)[:] += 2e4 * (interior(fields.T) > 600.0)
    expansion = Expansion(GRID, COMM, gas, "open")
    expansion.update_temperature(fields)
    target = expansion.target(fields, 1e-6)
    sink = interior(expansion.sink)
    assert fields.p0 == ATMOSPHERE
    assert abs(target.mean()) < 1e-12 * np.abs(target).max()
    assert sink.max() > 0.0 and sink.min() == 0.0
    assert np.allclose(target + sink, interior(expansion.excess) / 1e-6, rtol=1e-12, atol=1e-9)


def test_the_frame_lies_at_the_edge_and_is_the_same_on_two_ranks():
    whole = interior(frame_weights(GRID))
    assert (whole[0] == 1.0).all() and (whole[:, -1] == 1.0).all()
    inside = slice(FRAME_CELLS, -FRAME_CELLS)
    assert not whole[inside, inside].any()
    parts = [interior(frame_weights(Grid(40, 36, 1e-3, 9e-4, rank, 2))) for rank in (0, 1)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_a_thin_box_is_open_along_its_length_only():
    weights = interior(frame_weights(Grid(64, 6, 1e-3, 1e-4)))
    assert (weights == weights[0]).all() and weights[0, 0] == 1.0 and weights[0, 32] == 0.0


def test_a_cell_without_temperature_is_named_with_step_and_species():
    fields, gas = gas_at(300.0), drm19()
    fields.Y[gas.mechanism.index("CO"), GHOSTS + 4, GHOSTS + 7] = np.nan
    COMM.step = 31
    with pytest.raises(NumericalError, match=r"(?s)row 4, column 7\), step 31.*Y\(CO\)"):
        Expansion(GRID, COMM, gas, "closed").update_temperature(fields)
