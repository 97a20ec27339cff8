"""Processes that wait for one another get their turns sooner, and no more of the processor."""

import errno
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from chemnet.runtime import processes
from chemnet.runtime.errors import ChemnetError

SLICE = """
import ctypes, os, platform, struct
from chemnet.runtime.processes import shorten_time_slices

def attributes():
    found = ctypes.create_string_buffer(56)
    assert ctypes.CDLL(None).syscall({"x86_64": 315, "aarch64": 275}[platform.machine()], 0, found, 56, 0) == 0
    _, policy, _, nice, _, slice, *_ = struct.unpack("=IIQiIQQQII", found.raw)
    return policy, nice, slice

os.nice(3)
before = attributes()
granted = shorten_time_slices()
after = attributes()
assert after[:2] == before[:2] == (os.SCHED_OTHER, 3)
assert granted and after[2] in (100_000, before[2]), (granted, before, after)
print(after[2])
"""

INTERRUPTED = """
import sys, time
from pathlib import Path
from tempfile import TemporaryDirectory
from chemnet.runtime.processes import ordered_map

def work(number):
    with TemporaryDirectory(dir=sys.argv[1]):
        Path(sys.argv[1], f"{number}.begun").touch()
        if number % 2:
            time.sleep(600)
        while number:
            pass

if __name__ == "__main__":
    for _ in ordered_map(work, range(9), 3):
        while len(list(Path(sys.argv[1]).glob("*.begun"))) < 4:
            time.sleep(0.01)
        print("first", flush=True)
        {ending}
"""

ELSEWHERE = """
import sys
sys.platform = "darwin"
from chemnet.runtime.processes import shorten_time_slices
print(shorten_time_slices())
"""


@pytest.mark.parametrize("ending", ["raise KeyboardInterrupt", "sys.exit(143)", "raise ValueError"])
def test_what_ends_a_map_ends_its_workers_and_they_leave_nothing(tmp_path, ending):
    """Each of the workers would take ten minutes and more."""
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED.replace("{ending}", ending))
    place = tmp_path / "place"
    place.mkdir()
    done = subprocess.run([sys.executable, script, place], capture_output=True, text=True, timeout=120)
    assert done.stdout == "first\n" and done.returncode != 0
    assert done.stderr.count("Traceback") == (0 if "exit" in ending else 1), done.stderr
    assert {path.suffix for path in place.iterdir()} == {".begun"}


@pytest.mark.skipif(sys.platform != "linux", reason="a system call of Linux")
def test_slices_get_shorter_and_policy_and_niceness_stay():
    """Kernels before 6.12 know no slices of a process and tell 0, or the one that all have."""
    done = subprocess.run([sys.executable, "-c", SLICE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_on_other_systems_nothing_changes():
    done = subprocess.run([sys.executable, "-c", ELSEWHERE], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_kept_and_not_asked_for_again():
    script = (
        "import resource, numpy as np\n"
        "from chemnet.runtime.processes import keep_freed_memory\n"
        "assert keep_freed_memory()\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(20): np.ones(200_000)\n"
        "before = faults()\n"
        "for _ in range(200): np.ones(200_000)\n"
        "print(faults() - before)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert int(run.stdout) < 200  # each array has 390 pages


def test_workers_without_shared_memory_are_an_error_with_the_way_out(monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.EROFS, "Read-only file system")  # as its locks do

    monkeypatch.setattr(processes, "ProcessPoolExecutor", refuse)
    with pytest.raises(ChemnetError, match="/dev/shm, Read-only file system\nTake one worker"):
        list(processes.ordered_map(abs, [1], 2))
    assert list(processes.ordered_map(abs, [-1], 1)) == [1]


FOREIGN = """
from chemnet.runtime.errors import run_command
from chemnet.runtime.processes import mpi_world
code = run_command(mpi_world, "x")
from mpi4py import MPI
print(code, MPI.Is_initialized())
"""


@pytest.mark.skipif(not (Path(sys.executable).parent / "mpiexec").exists(), reason="needs the mpich wheel")
def test_a_launcher_of_open_mpi_is_refused_before_mpich_aborts():
    environment = {**os.environ, "OMPI_COMM_WORLD_SIZE": "2"}
    done = subprocess.run([sys.executable, "-c", FOREIGN], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"]
    assert "(MPICH) does not know it" in done.stderr and len(done.stderr.splitlines()) == 2


FLAT = """
import sys
from math import sqrt
from chemnet.runtime.processes import ordered_map

print(*ordered_map(sqrt, [1.0, 4.0, 9.0], n_workers=2), __file__ == sys.argv[0])
"""

GUARDED = """
from chemnet.runtime.processes import ordered_map

def square(x):
    return x * x

if __name__ == "__main__":
    print(*ordered_map(square, [1, 2, 3], n_workers=2))
"""


@pytest.mark.parametrize("script, printed", [(FLAT, "1.0 2.0 3.0 True\n"), (GUARDED, "1 4 9\n")])
def test_workers_do_not_run_a_flat_script_again_and_find_the_functions_of_a_guarded_one(tmp_path, script, printed):
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run([sys.executable, str(tmp_path / "script.py")], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, printed), done.stderr
