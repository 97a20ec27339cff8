"""Checkpoints: the state reads back bit for bit on any number of ranks, and a damaged file is never taken."""

import os

import numpy as np
import pytest
from flow_states import run_ranks

from cfd_coupling.checkpoint import checkpoints, keep_last, latest, read_fields, read_header, write_checkpoint
from cfd_coupling.fields import Fields, interior
from cfd_coupling.grid import Grid
from cfd_coupling.parallel import Communicator
from chemnet.runtime.errors import FileError, NumericalError

GRID, N_SPECIES, COMM = Grid(7, 11, 7e-4, 1.1e-3), 4, Communicator()
ARRAYS = ("scalars", "velocity", "rho", "T", "p")
REST = {"facts": {"case": {"dt": 1e-6}}, "monitors": {"Clock": {"worst": {"cfl": 0.1 + 0.2}}},
        "row": True, "snapshot": False, "seconds": 12.5}  # fmt: skip


def state(grid=GRID, comm=COMM, step=120):
    """A state with another number in each cell, the same for any number of ranks."""
    fields, rng = Fields.empty(grid, N_SPECIES, p0=101325.0 / 3.0), np.random.default_rng(step)
    fields.step, fields.time = step, step / 7e6
    for q in (getattr(fields, name) for name in ARRAYS):
        interior(q)[:] = rng.random((*q.shape[:-2], grid.ny, grid.nx))[..., grid.j_start : grid.j_stop, :]
        comm.update(q)
    return fields


def write(folder, step=120):
    return write_checkpoint(folder, state(step=step), COMM, **REST)


def assert_same(one, other):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert (one.p0, one.time, one.step) == (other.p0, other.time, other.step)


def test_a_state_reads_back_bit_for_bit_with_its_ghosts(tmp_path):
    path = write(tmp_path)
    header = read_header(path)
    assert {name: getattr(header, name) for name in REST} == REST
    assert_same(read_fields(path, header, GRID, COMM, N_SPECIES), state())


RANKS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_checkpoint import GRID, N_SPECIES, REST, assert_same, state
from cfd_coupling.checkpoint import read_fields, read_header, write_checkpoint
from cfd_coupling.grid import Grid
from cfd_coupling.parallel import connect

comm = connect()
assert comm.size == 3
grid = Grid(GRID.nx, GRID.ny, GRID.length_x, GRID.length_y, comm.rank, comm.size)
path = Path(sys.argv[2])
header = comm.broadcast(read_header(path) if comm.rank == 0 else None)
mine = state(grid, comm)
assert_same(read_fields(path, header, grid, comm, N_SPECIES), mine)
write_checkpoint(path.parent / "three", mine, comm, **REST)
comm.barrier()
"""


def test_three_ranks_read_what_one_wrote_and_write_the_same_bytes(tmp_path):
    path, script = write(tmp_path), tmp_path / "ranks.py"
    script.write_text(RANKS)
    done = run_ranks(3, script, os.path.dirname(__file__), path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "three" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["scalars", "velocity", "rho", "T", "p", "p0"])
def test_a_state_that_is_not_finite_is_not_written(tmp_path, name):
    fields = state()
    if name == "p0":
        fields.p0 = np.inf
    else:
        interior(getattr(fields, name))[..., 2, 3] = np.nan
    with pytest.raises(NumericalError, match="after step 120 is not finite"):
        write_checkpoint(tmp_path, fields, COMM, **REST)
    assert not list(tmp_path.iterdir())


def test_the_last_ones_are_kept(tmp_path):
    for step in (5, 10, 20, 100):
        write(tmp_path, step)
        keep_last(tmp_path, 2)
    assert [read_header(path).step for path in checkpoints(tmp_path)] == [20, 100]


def test_no_damage_goes_unnoticed(tmp_path):
    """Truncations and flipped bits all over the file."""
    path = write(tmp_path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for cut in [0, 1, 40, *rng.integers(100, len(whole), 20), len(whole) - 1]:
        path.write_bytes(whole[:cut])
        with pytest.raises(FileError, match="damaged"):
            read_header(path)
    for place in rng.integers(0, len(whole), 100):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(FileError, match="damaged"):
            read_header(path)


def test_of_a_damaged_checkpoint_the_one_before_is_taken_with_a_warning(tmp_path):
    write(tmp_path, 10)
    last = write(tmp_path, 20)
    last.write_bytes(last.read_bytes()[:-9])
    warnings = []
    path, header = latest(tmp_path, warnings.append)
    assert (path.name, header.step) == ("step_0000010.h5", 10)
    assert len(warnings) == 1 and str(last) in warnings[0] and "trying the one before" in warnings[0]


def test_without_a_checkpoint_there_is_nothing_to_resume(tmp_path):
    with pytest.raises(FileError, match="no checkpoint in .* to resume from"):
        latest(tmp_path, print)
    write(tmp_path).write_bytes(b"")
    with pytest.raises(FileError, match="no checkpoint in .* is whole"):
        latest(tmp_path, print)


def test_another_kind_of_file_is_no_checkpoint(tmp_path):
    from chemnet.runtime.hdf5 import new_file

    with new_file(tmp_path / "step_0000001.h5", sealed=True) as file:
        file.attrs["format"] = "something else"
    with pytest.raises(FileError, match="no checkpoint of this version"):
        read_header(tmp_path / "step_0000001.h5")
