"""Runs that are interrupted, killed or starved from outside: they end on all ranks, and what they leave can go on.

The quick tests interrupt a run in its steps; the slow ones do it at random times, in the set-up too.
"""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from flow_states import assert_same_run, run_ranks

from cfd_coupling.__main__ import main
from cfd_coupling.checkpoint import checkpoints, read_header
from cfd_coupling.verification.jobs import LAUNCHER, begin, end, until_step

needs_mpi = pytest.mark.skipif(not LAUNCHER.exists(), reason="needs mpiexec of the mpich wheel")
CASE = (
    "cases/turbulent_ignition", "--variant", "demo", "--set", "grid.nx=32", "--set", "grid.ny=24",
    "--set", "grid.length_x=1.875e-3", "--set", "grid.length_y=1.40625e-3", "--set", "chemistry.kind=exact",
    "--set", "output.history_every=4", "--set", "output.snapshot_every=7",
)  # fmt: skip
LONG = ("--set", "end_time=1")  # longer than any test


def descendants(process):
    """Processes below one, the process itself not counted."""
    children = [int(n) for n in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return children + [below for child in children for below in descendants(child)]


def until_started(process, ranks):
    """Wait until the launcher has started its processes: a signal before that it loses, whatever it launches."""
    latest = time.monotonic() + 10.0
    while ranks > 1 and len(descendants(process.pid)) <= ranks and time.monotonic() < latest:
        time.sleep(0.002)


def last_step(folder):
    return read_header(checkpoints(folder / "checkpoints")[-1]).step


def finish(folder, step):
    """Let a run go on to a step, on one rank."""
    assert main(["run", str(folder), "--resume", "--set", f"end_time={step}e-6"]) == 0


@needs_mpi
def test_a_terminated_run_on_two_ranks_goes_on_with_the_same_bits_on_one(tmp_path):
    process = begin(2, "run", *CASE, *LONG, "--out", tmp_path / "parts")
    until_step(process, 10)
    process.send_signal(signal.SIGTERM)
    output, seconds = end(process, 30.0)
    step = last_step(tmp_path / "parts")
    assert process.returncode == 143 and seconds < 5.0
    assert f"stopped by SIGTERM with a checkpoint at step {step}/" in output
    finish(tmp_path / "parts", step + 9)
    assert main(["run", *CASE, "--set", f"end_time={step + 9}e-6", "--out", str(tmp_path / "whole")]) == 0
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.slow
@needs_mpi
def test_a_run_goes_on_with_the_same_bits_from_2_to_3_to_1_ranks(tmp_path):
    parts = tmp_path / "parts"
    for ranks, words in ((2, (*CASE, *LONG, "--out", parts)), (3, (parts, "--resume"))):
        process = begin(ranks, "run", *words, "--max-minutes", "0.1")
        output, _ = end(process, 60.0)
        assert process.returncode == 75 and "stopped by --max-minutes" in output, output
    step = last_step(parts)
    assert step > 20
    finish(parts, step + 9)
    assert main(["run", *CASE, "--set", f"end_time={step + 9}e-6", "--out", str(tmp_path / "whole")]) == 0
    assert_same_run(tmp_path / "whole", parts)


def test_ctrl_c_ends_a_run_with_a_checkpoint_and_a_second_run_in_its_folder_is_refused(tmp_path, capfd):
    process = begin(1, "run", *CASE, *LONG, "--out", tmp_path / "a")
    until_step(process, 10)
    assert main(["run", *CASE, "--out", str(tmp_path / "a"), "--overwrite"]) == 2
    assert f"process {process.pid} on" in capfd.readouterr().err
    process.send_signal(signal.SIGINT)
    output, seconds = end(process, 30.0)
    assert process.returncode == 130 and seconds < 5.0, output
    assert f"stopped by Ctrl-C with a checkpoint at step {last_step(tmp_path / 'a')}/" in output
    assert main(["run", *CASE, "--out", str(tmp_path / "a")]) == 2
    assert "go on with --resume" in capfd.readouterr().err


@needs_mpi
def test_a_killed_rank_ends_the_job_and_costs_one_interval(tmp_path):
    process = begin(2, "run", *CASE, *LONG, "--set", "output.checkpoint_every=5", "--out", tmp_path / "a")
    until_step(process, 10)
    os.kill(descendants(process.pid)[-1], signal.SIGKILL)
    output, seconds = end(process, 30.0)
    assert process.returncode != 0 and seconds < 10.0, output
    assert last_step(tmp_path / "a") >= 5
    finish(tmp_path / "a", last_step(tmp_path / "a") + 3)


@pytest.mark.slow
@needs_mpi
@pytest.mark.parametrize("kernels", ["in the cache", "to be compiled"])
def test_interrupts_at_random_times_end_within_5_s_and_leave_a_run_or_nothing(tmp_path, kernels, capsys):
    """50 signals on 1, 2, 4 ranks from the start of the process on. Minutes."""
    chance, folder = random.Random(kernels), tmp_path / "a"
    slowest = resumed = absent = 0
    for trial in range(50):
        ranks, number = (1, 2, 4)[trial % 3], chance.choice((signal.SIGINT, signal.SIGTERM, signal.SIGUSR1))
        shutil.rmtree(folder, ignore_errors=True)
        options = {"NUMBA_CACHE_DIR": str(tmp_path / f"cache-{trial}")} if kernels == "to be compiled" else {}
        case = ("cases/free_flame", "--variant", "short", "--set", "chemistry.kind=exact") if trial % 2 else CASE
        process = begin(ranks, "run", *case, *LONG, "--out", folder, **options)
        until_started(process, ranks)
        time.sleep(chance.uniform(0.0, 15.0 if options else 9.0))
        process.send_signal(number)
        output, seconds = end(process, 20.0)
        shutil.rmtree(tmp_path / f"cache-{trial}", ignore_errors=True)
        slowest = max(slowest, seconds)
        assert process.returncode != 0 and seconds < 5.0, f"{ranks} ranks, {number}: {seconds:.1f} s\n{output}"
        if (folder / "checkpoints").exists() and checkpoints(folder / "checkpoints"):
            assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 75}[number]
            finish(folder, last_step(folder) + 1)
            resumed += 1
        else:
            assert main(["run", *CASE, "--set", "end_time=1e-6", "--out", str(folder)]) == 0
            absent += 1
    with capsys.disabled():
        print(f"\n{kernels}: 0 hangs, slowest end {slowest:.2f} s, {resumed} resumed, {absent} without a trace")


@pytest.mark.slow
def test_kill_9_while_checkpoints_are_written_costs_one_interval_at_most(tmp_path, capsys):
    """100 kills of one run that writes a checkpoint after every step, resumed each time. Minutes."""
    chance, folder, step, halves = random.Random(1), tmp_path / "a", 0, 0
    words = (*CASE, "--set", "grid.nx=64", "--set", "grid.ny=64", "--set", "output.checkpoint_every=1", "--out", folder)
    for trial in range(100):
        process = begin(1, "run", *words, *LONG, *(("--resume",) if trial else ()))
        written = until_checkpoint(process, folder, step + 1)
        while not list((folder / "checkpoints").glob(".*.tmp")):
            assert process.poll() is None
        time.sleep(chance.uniform(0.0, 0.02))
        process.kill()
        process.communicate()
        halves += len(list((folder / "checkpoints").glob(".*.tmp")))
        step = last_step(folder)
        whole = [path for path in checkpoints(folder / "checkpoints") if read_header(path)]  # none is unreadable
        assert len(whole) >= min(2, written) and step >= written
    finish(folder, step + 1)
    assert not list(folder.rglob(".*.tmp"))
    with capsys.disabled():
        print(f"\n100 kills until step {step}, {halves} of them in a file: every checkpoint was whole")


def until_checkpoint(process, folder, step):
    """Wait until a run has written the checkpoint of a step; returns the last one."""
    latest = time.monotonic() + 60.0
    while time.monotonic() < latest:
        steps = [int(path.stem[5:]) for path in checkpoints(folder / "checkpoints")]
        if steps and steps[-1] >= step:
            return steps[-1]
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)
    raise AssertionError("no checkpoint")


FULL = """
import resource, sys
from cfd_coupling import parallel
from cfd_coupling.__main__ import main

started = parallel.connect

def connect():
    comm = started()  # MPI makes large files of its own, in shared memory
    resource.setrlimit(resource.RLIMIT_FSIZE, (160_000, 160_000))
    return comm

parallel.connect = connect
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@needs_mpi
def test_a_full_file_system_ends_two_ranks_with_4_and_one_message(tmp_path):
    """A limit on the size of files, which a checkpoint exceeds."""
    script, folder = tmp_path / "full.py", tmp_path / "a"
    script.write_text(FULL)
    done = run_ranks(2, script, "run", *CASE, *LONG, "--set", "output.checkpoint_every=3", "--out", folder)
    assert done.returncode == 4, done.stderr
    message = f"[rank 0] step 3: File too large: {folder / 'checkpoints' / 'step_0000003.h5'}"
    assert message in done.stderr and "Traceback" not in done.stderr
    assert not list((folder / "checkpoints").iterdir())
