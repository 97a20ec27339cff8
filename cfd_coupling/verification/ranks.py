"""Bits: the same fields on 1 to 4 ranks, twice with one seed, and from a run that was stopped and resumed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from cfd_coupling.compare import read_history
from cfd_coupling.output import read_image, snapshots
from cfd_coupling.verification.jobs import LAUNCHER, NO_LAUNCHER, Ended, job, small_run
from cfd_coupling.verification.scoreboard import Line, equal, skipped
from cfd_coupling.verification.states import drm19

_CLOCKS = ("seconds_", "cells_moved", "memory")  # columns of history.csv that depend on the machine


def same_bits(quick: bool) -> Iterator[Line]:
    """SHA-256 of the last snapshot (all species) and of the history after 50 steps of a burning kernel."""
    steps, most = (4, 2) if quick else (50, 4)
    with TemporaryDirectory() as name:
        folder = Path(name)
        one = _digest(_run(folder / "one", steps), folder / "one")
        again = _digest(_run(folder / "again", steps), folder / "again")
        yield equal(f"same seed twice, {steps} steps, SHA of all fields", again, one)
        for ranks in range(2, most + 1):
            line = f"1 and {ranks} ranks, {steps} steps, SHA of all fields"
            if not LAUNCHER.exists():
                yield skipped(line, NO_LAUNCHER)
                continue
            out = folder / str(ranks)
            yield equal(line, _digest(_run(out, steps, ranks), out), one)


def resumed_bits(quick: bool) -> Iterator[Line]:
    """N = N/2 + N/2 on one rank and, where there is a launcher, 2 -> 3 -> 1 ranks in three parts."""
    steps, ladders = (4, ((1, 1),)) if quick else (48, ((1, 1), (2, 2), (2, 3, 1)))
    with TemporaryDirectory() as name:
        whole = Path(name) / "whole"
        wanted = _digest(_run(whole, steps), whole)
        for ladder in ladders:
            line = f"restart on {' -> '.join(map(str, ladder))} ranks, {steps} steps, SHA of all fields"
            if max(ladder) > 1 and not LAUNCHER.exists():
                yield skipped(line, NO_LAUNCHER)
                continue
            out, part = Path(name) / "-".join(map(str, ladder)), steps // len(ladder)
            ended = _run(out, part, ladder[0])
            for count, ranks in enumerate(ladder[1:], start=2):
                if ended.code == 0:
                    words = ("run", str(out), "--resume", "--set", f"end_time={count * part * 1e-6!r}")
                    ended = job("cfd_coupling", *words, ranks=ranks)
            yield equal(line, _digest(ended, out), wanted)


def _run(out: Path, steps: int, ranks: int = 1) -> Ended:
    fields = ", ".join(("T", "p", "rho", "velocity", *drm19().mechanism.species_names))
    changes = (f"output.fields=[{fields}]", "output.checkpoint_every=2")
    return job("cfd_coupling", *small_run(out, steps, *changes, kind="exact"), ranks=ranks)


def _digest(ended: Ended, folder: Path) -> str:
    """The first digits of the hash of a run's last snapshot and last row of history; a failure in words."""
    if ended.code != 0:
        return f"exit {ended.code}: {' '.join(ended.err.split())[:80]}"
    image = read_image(snapshots(folder / "snapshots")[-1])
    digest = hashlib.sha256(np.array([image.time, image.step]).tobytes())
    for name in sorted(image.arrays):
        digest.update(name.encode() + np.ascontiguousarray(image.arrays[name]).tobytes())
    history = read_history(folder / "history.csv")
    for name in sorted(history):
        if not name.startswith(_CLOCKS):
            digest.update(np.float64(history[name][-1]).tobytes())
    return digest.hexdigest()[:12]
