"""Run folders: one process at a time, nothing dear is lost, and what is later than a checkpoint goes."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from cfd_coupling.folder import RunFolder, is_run
from chemnet.runtime.errors import UsageError

HOLDER = """
import sys, time
from pathlib import Path
from cfd_coupling.folder import RunFolder
folder = RunFolder(Path(sys.argv[1]))
folder.lock()
print("locked", flush=True)
time.sleep(60)
"""


@pytest.fixture
def folder():
    """Makes run folders, which are free again after the test."""
    folders = []

    def make(path):
        folders.append(RunFolder(path))
        return folders[-1]

    yield make
    for made in folders:
        made.release()


def make_run(path, *, finished, snapshots=(0,), checkpoints=()):
    """The folder of a run as one that has ended leaves it."""
    (path / "snapshots").mkdir(parents=True)
    (path / "checkpoints").mkdir()
    (path / "manifest.json").write_text(json.dumps({"kind": "run", "finished": finished}))
    for step in snapshots:
        (path / "snapshots" / f"{step:07d}.vtkhdf").write_text("fields")
    for step in checkpoints:
        (path / "checkpoints" / f"step_{step:07d}.h5").write_text("state")
    return path


def content(path):
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"finished": True}, "holds a finished run; add --overwrite"),
        (
            {"finished": False, "snapshots": (0, 50), "checkpoints": (40, 80)},
            "unfinished run with a checkpoint at step 80",
        ),
        ({"finished": False, "snapshots": (0, 50)}, "unfinished run of 50 steps without a checkpoint"),
    ],
)
def test_a_run_that_got_anywhere_is_replaced_only_when_told(folder, tmp_path, run, message):
    path = make_run(tmp_path / "a", **run)
    before = content(path)
    with pytest.raises(UsageError, match=message):
        folder(path).begin(overwrite=False)
    assert content(path) == before
    folder(path).begin(overwrite=True)
    assert list(content(path)) == [(path / "run.lock").relative_to(path)]


def test_a_run_that_got_nowhere_is_replaced(folder, tmp_path):
    folder(make_run(tmp_path / "a", finished=False)).begin(overwrite=False)
    assert not list((tmp_path / "a" / "snapshots").iterdir())


def test_a_start_that_was_killed_before_its_manifest_is_no_obstacle(folder, tmp_path):
    killed = folder(tmp_path / "a")
    killed.begin(overwrite=False)
    (tmp_path / "a" / ".manifest.json.99999999.tmp").write_text("half")
    killed.release()
    folder(tmp_path / "a").begin(overwrite=False)


def test_two_processes_do_not_share_a_folder(folder, tmp_path):
    path = make_run(tmp_path / "a", finished=False)
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"locked\n"
        for overwrite in (False, True):
            with pytest.raises(
                UsageError, match=f"process {holder.pid} on {socket.gethostname()} is running in {path}"
            ):
                folder(path).begin(overwrite)
        os.kill(holder.pid, signal.SIGKILL)
    assert (path / "run.lock").exists()
    folder(path).begin(overwrite=False)  # the lock of a process that is gone
    assert json.loads((path / "run.lock").read_text())["pid"] == os.getpid()


def test_a_lock_of_another_machine_is_respected_and_can_be_removed_by_hand(folder, tmp_path):
    path = make_run(tmp_path / "a", finished=False)
    (path / "run.lock").write_text('{"pid": 1, "host": "node17"}')
    with pytest.raises(UsageError, match="process 1 on node17 is running .*\n.*remove .*run.lock"):
        folder(path).lock()
    (path / "run.lock").unlink()
    mine = folder(path)
    mine.lock()
    mine.release()
    assert not (path / "run.lock").exists()


def test_what_is_later_than_a_checkpoint_goes(folder, tmp_path):
    path = make_run(tmp_path / "a", finished=False, snapshots=(0, 20, 30, 40))
    files = [{"name": f"{step:07d}.vtkhdf", "time": step / 8.0} for step in (0, 20, 30, 40)]
    (path / "snapshots" / "flow.vtkhdf.series").write_text(json.dumps({"files": files}))
    (path / "snapshots" / ".0000050.vtkhdf.99999999.tmp").write_text("half")
    (path / "history.csv").write_text("step,time\n0,0\n20,2.5\n30,3.75\n40,5\n5")
    folder(path).go_back(30, row=True, snapshot=True)
    assert (path / "history.csv").read_text() == "step,time\n0,0\n20,2.5\n30,3.75\n"
    assert sorted(file.name for file in (path / "snapshots").iterdir()) == [
        "0000000.vtkhdf", "0000020.vtkhdf", "0000030.vtkhdf", "flow.vtkhdf.series",
    ]  # fmt: skip
    folder(path).go_back(30, row=False, snapshot=False)
    assert (path / "history.csv").read_text() == "step,time\n0,0\n20,2.5\n"
    series = json.loads((path / "snapshots" / "flow.vtkhdf.series").read_text())
    assert series["files"] == files[:2]


def test_a_run_folder_is_told_from_others(tmp_path):
    assert is_run(make_run(tmp_path / "a", finished=True))
    assert not is_run(tmp_path) and not is_run(tmp_path / "nowhere")
