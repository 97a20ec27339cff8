"""Ghost cells, sums and transposes give the same on any number of ranks, and no rank is left waiting."""

import os
import subprocess
import sys

import numpy as np
import pytest
from flow_states import run_ranks

from cfd_coupling.grid import GHOSTS
from cfd_coupling.parallel import Communicator, connect

VERBS = """
import numpy as np
from mpi4py import MPI
from cfd_coupling.grid import GHOSTS, Grid
from cfd_coupling.parallel import Communicator, connect

comm = connect()
ny, nx, serial = 11, 6, Communicator()
grid = Grid(nx, ny, 1.0, 1.0, comm.rank, comm.size)
size = comm.size
assert grid.ny_local in (ny // size, ny // size + 1)
rng = np.random.default_rng(0)
whole = rng.random((2, ny, nx))
mine = slice(grid.j_start, grid.j_stop)
expected = np.pad(whole, ((0, 0), (GHOSTS, GHOSTS), (GHOSTS, GHOSTS)), mode="wrap")
q = np.zeros((2, *grid.shape))
q[:, GHOSTS:-GHOSTS, GHOSTS:-GHOSTS] = whole[:, mine]
comm.update(q)
assert np.array_equal(q, expected[:, grid.j_start : grid.j_stop + 2 * GHOSTS])

sums = comm.sum_rows(whole[:, mine].sum(axis=-1), ny)
assert np.array_equal(sums, serial.sum_rows(whole.sum(axis=-1), ny))
assert comm.sum(comm.rank + 1.0) == size * (size + 1) / 2 and comm.max(float(comm.rank)) == size - 1
assert comm.any(np.arange(size) == comm.rank).all()
np.testing.assert_array_equal(comm.each(np.array([comm.rank, 7])), [[r, 7] for r in range(size)])
blocks = [np.full((r, 2), 10.0 * comm.rank + r) for r in range(size)]
for r, block in enumerate(comm.exchange(blocks, [(comm.rank, 2)] * size)):
    np.testing.assert_array_equal(block, np.full((comm.rank, 2), 10.0 * r + comm.rank))

spectrum = (whole[0] + 1j * whole[1]).astype(np.complex64)
columns = comm.to_columns(spectrum[mine], ny)
assert columns.shape == (ny, nx // size)
assert np.array_equal(columns, spectrum[:, nx // size * comm.rank : nx // size * (comm.rank + 1)])
assert np.array_equal(comm.to_rows(columns, nx), spectrum[mine])

gathered = comm.gather(q)
assert (gathered is None) == (comm.rank > 0)
assert gathered is None or np.array_equal(gathered, whole)
assert gathered is None or gathered.dtype == q.dtype

x = rng.standard_normal(size) * 10.0 ** rng.integers(-9, 9, size)
assert comm.sum(x[comm.rank]) == sum(MPI.COMM_WORLD.allgather(x[comm.rank]))
assert comm.max(x[comm.rank]) == MPI.COMM_WORLD.allreduce(x[comm.rank], op=MPI.MAX)
comm.barrier()
print("rank", comm.rank, "agrees")
"""

INTERRUPTED = """
import signal, sys, time
from pathlib import Path
from cfd_coupling.parallel import connect

class Called(Exception):
    pass

def call(*_):
    raise Called

comm, told = connect(), Path(sys.argv[1])
if comm.rank == 0:
    signal.signal(signal.SIGALRM, call)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        comm.barrier()
    except Called:
        told.touch()
else:
    while not told.exists():
        time.sleep(0.01)
    comm.barrier()
"""

FAILURE = """
import errno, sys
from cfd_coupling import __main__ as command
from chemnet.runtime.errors import NumericalError

def run_case(arguments, words, comm, signals, start):
    comm.step = 7
    if comm.rank == 1:
        raise ERROR
    comm.barrier()
    comm.barrier()

command.run_case = run_case
sys.exit(command.main(["run", "any"]))
"""


def test_update_wraps_a_serial_box_both_ways():
    whole = np.random.default_rng(0).random((2, 5, 4))
    q = np.zeros((2, 5 + 2 * GHOSTS, 4 + 2 * GHOSTS))
    q[:, GHOSTS:-GHOSTS, GHOSTS:-GHOSTS] = whole
    Communicator().update(q)
    assert np.array_equal(q, np.pad(whole, ((0, 0), (GHOSTS, GHOSTS), (GHOSTS, GHOSTS)), mode="wrap"))


def test_update_of_one_layer_leaves_the_outer_ghosts_alone():
    q = np.ones((10, 10))
    q[GHOSTS:-GHOSTS, GHOSTS:-GHOSTS] = 2.0
    Communicator().update(q, width=1)
    assert (q[2:8, 2:8] == 2.0).all()
    assert (q[:2] == 1.0).all() and (q[-2:] == 1.0).all() and (q[:, :2] == 1.0).all() and (q[:, -2:] == 1.0).all()


@pytest.mark.parametrize("ranks", [2, 3])
def test_all_verbs_agree_with_one_rank_on_uneven_slabs_and_with_verbs_that_block(tmp_path, ranks):
    script = tmp_path / "verbs.py"
    script.write_text(VERBS)
    done = run_ranks(ranks, script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("agrees") == ranks


def test_a_signal_is_answered_by_a_rank_that_waits(tmp_path):
    """Rank 1 comes to the barrier only when rank 0, which waits there, has heard the alarm."""
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED)
    done = run_ranks(2, script, tmp_path / "told", timeout=30.0)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        ("NumericalError('the flame went out')", 3, "the flame went out"),
        ("OSError(errno.ENOSPC, 'No space left on device', 'a.h5')", 4, "No space left on device: a.h5"),
        ("SystemExit(0)", 1, "0"),
    ],
)
def test_an_error_on_one_rank_ends_the_job_and_names_rank_and_step(tmp_path, error, code, message):
    script = tmp_path / "failure.py"
    script.write_text(FAILURE.replace("ERROR", error))
    done = run_ranks(2, script, timeout=30.0)
    assert done.returncode == code
    assert f"[rank 1] step 7: {message}" in done.stderr
    assert ("Traceback" in done.stderr) == (code == 1)


def test_a_serial_run_needs_no_mpi4py():
    code = "import sys; sys.modules['mpi4py'] = None; from cfd_coupling.parallel import connect; print(connect().size)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "1", done.stderr


def test_a_launcher_of_another_mpi_is_refused():
    code = "from cfd_coupling.parallel import connect; connect()"
    environment = os.environ | {"OMPI_COMM_WORLD_SIZE": "4"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode != 0
    assert "UsageError" in done.stderr and "started 4 processes" in done.stderr and "mpiexec" in done.stderr


def test_connect_without_a_launcher_is_one_rank(monkeypatch):
    for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    assert (connect().rank, connect().size) == (0, 1)


def test_abort_of_one_rank_ends_with_the_code(capsys):
    with pytest.raises(SystemExit) as ended:
        Communicator().abort("stop here", 3)
    assert ended.value.code == 3 and "stop here" in capsys.readouterr().err
