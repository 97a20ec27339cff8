"""Work that is shared out: equal loads, few rows that travel, and the same bits wherever a row is advanced."""

import numpy as np
import pytest
from flow_states import run_ranks
from tiny_model import save_tiny_model

from cfd_coupling.load_balance import LoadBalance, plan
from cfd_coupling.parallel import Communicator

CELLS = """
import sys
import numpy as np
from cfd_coupling import grid as grids
from cfd_coupling.chemistry import Reacting, build_chemistry
from cfd_coupling.config import ChemistryConfig
from cfd_coupling.fields import interior
from cfd_coupling.parallel import Communicator, connect
from chemnet.gas.status import Status
from chemnet.kinetics import StepResult
from chemnet.runtime.errors import NumericalError
from flow_states import drm19, kernel

comm, gas = connect(), drm19()


def advanced(comm, **options):
    grid = grids.Grid(24, 20, 1e-3, 1e-3, comm.rank, comm.size)
    fields = kernel(grid, comm, kernel_temperature=2150.0)
    interior(fields.T)[np.arange(grid.j_start, grid.j_stop) >= 12] = 300.0
    chemistry = build_chemistry(ChemistryConfig(**options), gas.mechanism, 1e-6, grid.j_start, comm)
    reports = []
    for _ in range(3):
        reports.append(chemistry.apply(fields, 1e-6))
        moved = comm.gather(fields.scalars), comm.gather(fields.T)
    return moved, reports


class Fails:
    def advance(self, states, dt):
        return StepResult(states.copy(), np.where(states[:, 0] > 2000.0, Status.OUTSIDE, Status.OK))


options = {"kind": sys.argv[1], "model": sys.argv[2]}
shared, reports = advanced(comm, **options)
alone, unshared = advanced(comm, share=False, **options)
serial, one = advanced(Communicator(), **options)
for kind in one[-1].cells:
    assert comm.sum(reports[-1].cells[kind]) == one[-1].cells[kind], kind
assert comm.sum(reports[-1].integrated) == one[-1].integrated
np.testing.assert_array_equal(reports[-1].change, unshared[-1].change)
np.testing.assert_array_equal(reports[-1].kinds, unshared[-1].kinds)
assert comm.sum(reports[-1].moved) > 0 == comm.sum(unshared[-1].moved)
if comm.rank == 0:
    for x, y, z in zip(shared, alone, serial, strict=True):
        np.testing.assert_array_equal(x, z)
        np.testing.assert_array_equal(y, z)

grid = grids.Grid(24, 20, 1e-3, 1e-3, comm.rank, comm.size)
fields = kernel(grid, comm, kernel_temperature=400.0)
hot = 5 if comm.rank == comm.size - 1 else 0
interior(fields.T)[:hot] = 1000.0
interior(fields.T)[3, 7] += 1500.0 * (hot > 0)
try:
    Reacting("neural", Fails(), min_temperature=500.0, first_row=grid.j_start, comm=comm).apply(fields, 1e-6)
    assert not hot
except NumericalError as error:
    assert hot and f"row {grid.j_start + 3}, column 7" in str(error)
comm.barrier()
print("rank", comm.rank, "agrees")
"""


@pytest.mark.parametrize("totals", [[0.0, 10.0], [7.0, 1.0, 4.0], [0.0, 0.0, 9.0, 3.0], [5.0], [0.0, 0.0, 0.0]])
def test_after_the_plan_all_ranks_have_the_same_work_and_only_surplus_travels(totals):
    totals = np.array(totals)
    moves = plan(totals)
    np.testing.assert_allclose(totals - moves.sum(axis=1) + moves.sum(axis=0), totals.mean(), rtol=1e-12, atol=1e-12)
    assert moves.min() >= 0.0
    assert moves.sum() == pytest.approx(np.maximum(totals - totals.mean(), 0.0).sum(), rel=1e-12, abs=0.0)


def test_a_difference_that_is_not_worth_a_message_stays():
    assert not plan(np.array([1.0, 1.002, 0.998])).any()


class Pair(Communicator):
    """Rank 0 of two; rank 1 has twenty times the work, and hands over rows of ones."""

    size = 2

    def each(self, x):
        return np.stack([x, 20.0 * x if x.dtype == float else np.array([7, 0])])

    def exchange(self, blocks, shapes):
        return [blocks[0], np.ones(shapes[1])]


def test_rows_of_others_come_after_its_own_and_their_results_go_back():
    balance, rows = LoadBalance(Pair()), np.zeros((4, 3))
    to_do = balance.hand_out(rows, np.ones(4))
    np.testing.assert_array_equal(to_do, np.repeat([0.0, 1.0], [4, 7])[:, None] * np.ones(3))
    np.testing.assert_array_equal(balance.hand_back(to_do[:, :1]), np.zeros((4, 1)))
    assert balance.moved == 0


@pytest.mark.parametrize(
    ("ranks", "kind"),
    [
        (3, "exact"),
        *(
            pytest.param(ranks, kind, marks=pytest.mark.slow)
            for ranks, kind in [(2, "exact"), (4, "exact"), (2, "cvode"), (2, "neural"), (3, "neural"), (4, "neural")]
        ),
    ],
)
def test_cells_get_the_same_bits_on_any_rank_and_a_failure_is_told_by_their_owner(tmp_path, ranks, kind):
    """Against one process, and without sharing; with a network there are rows that it leaves."""
    script = tmp_path / "cells.py"
    script.write_text(CELLS)
    model = save_tiny_model(tmp_path / "tiny.safetensors", 1e-6) if kind == "neural" else "none"
    done = run_ranks(ranks, script, kind, model)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("agrees") == ranks
