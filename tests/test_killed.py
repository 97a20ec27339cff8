"""Kill -9: what was finished stays, nothing is half written, the next start goes on and comes to the same content."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from small_recipe import SMALL, assert_same_content, small_recipe

from chemnet.cli import main as cli
from chemnet.data import dataset, sampling
from chemnet.data.dataset import Pairs
from chemnet.runtime.files import write_text

LARGER = ("rows=18000", "integrator.audit=0.002")
CHANGES = [word for change in (*SMALL, *LARGER) for word in ("--set", change)]


def children(process: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def alive(process: int) -> bool:
    """Whether a process runs; one that is dead and not yet reaped does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    path = tmp_path_factory.mktemp("killed") / "whole.h5"
    assert cli.main(["sample", *CHANGES, "--out", str(path), "--workers", "1"]) == 0
    return path


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_sampling_goes_on_after_kill_9_with_one_shard_lost_per_worker(uninterrupted, tmp_path, workers):
    path = tmp_path / "states.h5"
    parts = tmp_path / "states.h5.parts"
    command = ["sample", *CHANGES, "--out", str(path), "--workers", str(workers)]
    process = subprocess.Popen([sys.executable, "-m", "chemnet", *command], stdout=subprocess.DEVNULL)
    until(lambda: list(parts.glob("rows-*.h5")))
    started = children(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    until(lambda: not any(alive(child) for child in started), 10.0)
    finished = {shard: shard.stat().st_mtime_ns for shard in parts.glob("rows-*.h5")}
    assert finished and not path.exists()
    for shard in finished:
        assert len(dataset.read(shard)) in (5000, 3000)
    seen = {}

    def look(line):
        seen.update({shard: shard.stat().st_mtime_ns for shard in finished if shard.exists()})

    sampling.sample(small_recipe(*LARGER), path, workers=workers, report=look)
    assert {shard: seen[shard] for shard in finished} == finished  # not one of them was computed again
    assert_same_content(path, uninterrupted)
    assert [file.name for file in tmp_path.iterdir()] == ["states.h5"]


WRITER = """
import sys, numpy as np
from chemnet.data import dataset
n = 20_000
print("ready", flush=True)
for value in range(1, 1000):
    ones = np.full((n, 12), float(value))
    flags = np.zeros(n, np.int8)
    dataset.write(sys.argv[1], [dataset.Pairs(ones, ones, flags, flags.astype(np.int32), flags)], {"value": value})
"""


def kill_while_writing(path: Path, delay: float) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    process.stdout.readline()
    time.sleep(delay)
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_a_training_set_is_whole_after_kill_9_at_any_moment_of_writing(tmp_path):
    path, rng, values = tmp_path / "states.h5", np.random.default_rng(0), []
    for _ in range(20):
        kill_while_writing(path, rng.uniform(0.0, 0.15))
        if path.exists():
            pairs = dataset.read(path)
            assert (pairs.states == dataset.read_attributes(path)["value"]).all()
            values.append(pairs.states[0, 0])
    assert len(set(values)) > 3
    flags = np.zeros(1, np.int8)
    dataset.write(path, [Pairs(np.ones((1, 3)), np.ones((1, 3)), flags, flags.astype(np.int32), flags)], {})
    assert list(tmp_path.iterdir()) == [path]  # the temporary files of those that were killed are gone


def test_temporary_files_of_processes_that_are_gone_are_removed_and_those_of_others_stay(tmp_path):
    path = tmp_path / "a.txt"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    stale, others, foreign = (tmp_path / f".a.txt.{n}.tmp" for n in (gone.pid, 1, "x"))
    for file in (stale, others, foreign, tmp_path / f".b.txt.{gone.pid}.tmp"):
        file.write_text("half")
    write_text(path, "whole")
    assert not stale.exists() and not foreign.exists() and others.exists()
    assert (tmp_path / f".b.txt.{gone.pid}.tmp").exists() and path.read_text() == "whole"
