"""Faults put in: a rank that fails, a field that is no number, a full disk, a read-only folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from cfd_coupling.checkpoint import FOLDER as CHECKPOINTS
from cfd_coupling.verification.faulty import STEP
from cfd_coupling.verification.jobs import LAUNCHER, NO_LAUNCHER, Ended, job, small_run
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
        if os.geteuid() == 0:
            yield skipped("read-only folder: exit code", "root may write everywhere")
            return
        locked = Path(name) / "locked"
        locked.mkdir(mode=0o555)
        yield _code("read-only folder", job("cfd_coupling", *small_run(locked / "run", 2)))


def _code(fault: str, ended: Ended) -> Line:
    return equal(f"{fault}: exit code", "4" if ended.code == 4 else f"{ended.code}: {ended.err.strip()[-200:]}", "4")


def _faulty(fault: str, folder: Path, ranks: int) -> tuple[Ended, float]:
    """How a run with a fault in its last rank ends, and the seconds from the fault to its end."""
    clock = folder / "clock"
    words = small_run(folder / "run", 6, "output.checkpoint_every=1")
    faulty = "cfd_coupling.verification.faulty"
    ended = job(faulty, fault, str(ranks - 1), str(clock), *words, ranks=ranks)
    return ended, ended.at - float(clock.read_text()) if clock.exists() else float("nan")
