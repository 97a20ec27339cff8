"""Faults put in: a rank that fails, a field that is no number, a full disk, a read-only folder, a signal."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from cfd_coupling.checkpoint import FOLDER as CHECKPOINTS
from cfd_coupling.fields import Fields, interior
from cfd_coupling.verification import disturbed
from cfd_coupling.verification.disturbed import disturbed_run, goes_on, last_checkpoint
from cfd_coupling.verification.faulty import STEP
from cfd_coupling.verification.jobs import LAUNCHER, NO_LAUNCHER, Ended, begin, end, job, small_run, until_step
from cfd_coupling.verification.scoreboard import Line, at_most, equal, skipped

_LONGEST = 10.0  # [s] from the fault to the end of the job


def one_rank(quick: bool) -> Iterator[Line]:
    """Seconds from the fault of rank 1 of 2 to the end of the job, and whether the exit code is an error."""
    for fault in ("raises",) if quick else ("raises", "exits", "killed"):
        line = f"one rank {fault}"
        if not LAUNCHER.exists():
            yield skipped(line, NO_LAUNCHER)
            continue
        with TemporaryDirectory() as name:
            ended, after = _faulty(fault, Path(name), ranks=2)
        yield at_most(f"{line}: seconds until the job has ended", after, _LONGEST)
        yield equal(f"{line}: exit code", "an error" if ended.code else str(ended.code), "an error")
        if fault == "raises":
            told = f"[rank 1] step {STEP}" in ended.err
            yield equal(f"{line}: message", "names rank and step" if told else ended.err, "names rank and step")


def no_number(quick: bool) -> Iterator[Line]:
    """A mass fraction made NaN in step 3: exit code, message and what is left."""
    with TemporaryDirectory() as name:
        ended, _ = _faulty("nan", Path(name), ranks=1)
        left = [path.stem for path in sorted((Path(name) / "run" / CHECKPOINTS).glob("*.h5"))]
    yield equal("NaN in step 3: exit code", str(ended.code), "3")
    told = all(words in ended.err for words in ("OH", "row 4", "column 5", f"step {STEP}", "rank 0"))
    wanted = "names field, cell, step and rank"
    yield equal("NaN in step 3: message", wanted if told else ended.err.strip(), wanted)
    yield equal("NaN in step 3: last checkpoint", str(int(left[-1].split("_")[-1])) if left else "none", str(STEP - 1))
    fields = ("p",) if quick else ("T", "h", "rho", "u", "v", "p")
    wrong = [found for name in fields if (found := _not_caught(name))]
    line = f"NaN in {', '.join(fields)}: exit 3, field, cell, step, rank named, checkpoint kept, run goes on"
    yield equal(line, "; ".join(wrong) or "all", "all")


def _not_caught(name: str) -> str:
    """What is wrong with the end of a run one of whose fields is NaN in one cell; empty when nothing is."""

    def poison(fields: Fields) -> None:
        interior(getattr(fields, name))[7, 9] = np.nan

    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        # Chemistry changes T and h, and what it returns is looked at by itself.
        code, message = disturbed_run(folder, poison, after=name not in ("T", "h"))
        words = (f"{name} ", "(row 7, column 9)", f"step {disturbed.STEP}, ", "rank 0")
        if code != 3 or len(message.splitlines()) > 3 or not all(word in message for word in words):
            return f"{name}: exit {code}, {' '.join(message.split())[:160]}"
        if last_checkpoint(folder) != disturbed.STEP - 1 or not goes_on(folder):
            return f"{name}: the last checkpoint is of step {last_checkpoint(folder)}, or does not go on"
    return ""


def disk(quick: bool) -> Iterator[Line]:
    """A resumed run whose files may not grow, and one into a folder that is read-only: exit code 4."""
    with TemporaryDirectory() as name:
        out = Path(name) / "run"
        job("cfd_coupling", *small_run(out, 2, "output.checkpoint_every=2"))
        kept = {path.name: path.read_bytes() for path in (out / CHECKPOINTS).glob("*.h5")}
        words = ("run", str(out), "--resume", "--set", "end_time=6e-6")
        yield _code("full disk", job("cfd_coupling", *words, file_bytes=16384))
        whole = bool(kept) and all((out / CHECKPOINTS / file).read_bytes() == kept[file] for file in kept)
        yield equal("full disk: the checkpoint before it", "intact" if whole else "damaged", "intact")
        wrong = [found for file in _FILES if (found := _unprotected(file))]
        yield equal("full disk, each file: exit 4, file named, checkpoint kept", "; ".join(wrong) or "all", "all")
        (Path(name) / "file").write_text("in the way")
        yield _code("folder below a file", job("cfd_coupling", *small_run(Path(name) / "file" / "run", 2)))
        if os.geteuid() == 0:
            yield skipped("read-only folder: exit code", "root may write everywhere")
            return
        locked = Path(name) / "locked"
        locked.mkdir(mode=0o555)
        yield _code("read-only folder", job("cfd_coupling", *small_run(locked / "run", 2)))


# Files of a run, and the path below its folder that is written first.
_FILES = {
    "history.csv": "history.csv",
    "log.txt": "log.txt",
    f"step_{disturbed.STEP:07d}.h5": f"checkpoints/.step_{disturbed.STEP:07d}.h5.{os.getpid()}.tmp",
    f"{disturbed.STEP:07d}.vtkhdf": f"snapshots/.{disturbed.STEP:07d}.vtkhdf.{os.getpid()}.tmp",
}


def _unprotected(file: str) -> str:
    """What is wrong with the end of a run whose disk is full when it comes to a file; empty when nothing is."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"

        def fill(fields: Fields) -> None:
            (folder / _FILES[file]).unlink(missing_ok=True)
            (folder / _FILES[file]).symlink_to("/dev/full")

        code, message = disturbed_run(folder, fill)
        if code != 4 or file not in message or "No space left" not in message or len(message.splitlines()) > 3:
            return f"{file}: exit {code}, {' '.join(message.split())[:160]}"
        if last_checkpoint(folder) != disturbed.STEP - 1:
            return f"{file}: the last checkpoint is of step {last_checkpoint(folder)}"
        left = [path.name for path in folder.rglob("*") if path.suffix == ".tmp" or path.name == "run.lock"]
        return f"{file}: {', '.join(left)} is left" if left else ""


def signals(quick: bool) -> Iterator[Line]:
    """Signals to runs on 1 and 2 ranks in their steps (SIGUSR1 to one rank when quick)."""
    codes = {signal.SIGUSR1: 75} if quick else {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 75}
    for ranks in (1,) if quick or not LAUNCHER.exists() else (1, 2):
        for number, code in codes.items():
            line = f"{number.name} to {ranks} rank{'s' * (ranks > 1)}"
            with TemporaryDirectory() as name:
                process = begin(ranks, *small_run(Path(name) / "run", 1_000_000, "output.log_every=2"))
                until_step(process, 4)
                process.send_signal(number)
                output, seconds = end(process, 30.0)
                told = f"with a checkpoint at step {last_checkpoint(Path(name) / 'run')}/" in output
            yield equal(f"{line}: exit code", str(process.returncode), str(code))
            wanted = "names the checkpoint"
            yield equal(f"{line}: message", wanted if told else output[-200:], wanted)
            yield at_most(f"{line}: seconds until the job has ended", seconds, 5.0)


def _code(fault: str, ended: Ended) -> Line:
    return equal(f"{fault}: exit code", "4" if ended.code == 4 else f"{ended.code}: {ended.err.strip()[-200:]}", "4")


def _faulty(fault: str, folder: Path, ranks: int) -> tuple[Ended, float]:
    """How a run with a fault in its last rank ends, and the seconds from the fault to its end."""
    clock = folder / "clock"
    words = small_run(folder / "run", 6, "output.checkpoint_every=1")
    faulty = "cfd_coupling.verification.faulty"
    ended = job(faulty, fault, str(ranks - 1), str(clock), *words, ranks=ranks)
    return ended, ended.at - float(clock.read_text()) if clock.exists() else float("nan")
