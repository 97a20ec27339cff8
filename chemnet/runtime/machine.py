"""Examination of the machine for `chemnet doctor`: what was found and what to do about it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from chemnet.runtime.errors import FileError
from chemnet.runtime.files import shipped
from chemnet.runtime.processes import available_cores
from chemnet.runtime.tables import Table

MEGABYTE = 1e6
GIGABYTE = 1e9

SHARED_MEMORY_CRASH = 16 * MEGABYTE  # at this size and below MPI ranks die without a message
SHARED_MEMORY_TIGHT = 64 * MEGABYTE  # what a container gets by default
DISK_FULL_SOON = 0.2 * GIGABYTE
DISK_TIGHT = 2 * GIGABYTE  # the full data set with its shards, some trainings and a run with snapshots

_LAUNCHER_SECONDS = 60
Verdict = Literal["ok", "note", "problem"]
_SIZE_PROBE = """
from mpi4py import MPI
print("size", MPI.COMM_WORLD.size, " ".join(MPI.Get_library_version().split()[:3]))
"""


@dataclass(frozen=True)
class Finding:
    """Finding of one check; a `problem` stops some command, a `note` may cost time or surprise."""

    subject: str
    found: str
    verdict: Verdict = "ok"
    advice: str = ""


def examine() -> list[Finding]:
    """Findings of all checks of this machine and environment."""
    return [
        *check_versions(metadata.requires("chemnet") or [], _installed_versions(), _tested_versions()),
        *check_launchers(_launchers(), Path(sys.executable)),
        check_shared_memory(_size_of_filesystem(Path("/dev/shm"))),
        check_threads(os.environ, available_cores()),
        check_disk("free disk, current folder", shutil.disk_usage(Path.cwd()).free),
        check_disk("free disk, temporary folder", shutil.disk_usage(tempfile.gettempdir()).free),
    ]


def report(findings: Iterable[Finding]) -> Table:
    """Table of the findings."""
    rows = [(f.subject, f.verdict, f.found, f.advice) for f in findings]
    return Table("chemnet doctor", ("subject", "verdict", "found", "what to do"), rows)


def exit_code(findings: Iterable[Finding]) -> int:
    """Exit code of a command: 1 if there is any problem, otherwise 0."""
    return int(any(finding.verdict == "problem" for finding in findings))


# ---- versions

_REQUIREMENT = re.compile(r"(?P<name>[\w.\-]+)\s*(?:>=\s*(?P<least>[\w.]+))?[^;]*(?:;.*extra\s*==\s*.(?P<extra>\w+))?")


def check_versions(
    requirements: Iterable[str], installed: Mapping[str, str], tested: Mapping[str, str]
) -> list[Finding]:
    """Finding per package of `requirements` (as in the package's metadata), without those of the extra `test`.

    Names of the packages are in lower case.
    """
    findings: dict[str, Finding] = {}
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement)
        if match and match["extra"] != "test":
            name = match["name"].lower()
            finding = _check_version(name, match["least"], match["extra"], installed.get(name), tested.get(name))
            findings.setdefault(name, finding)
    return list(findings.values())


def _check_version(name: str, least: str | None, extra: str | None, found: str | None, tested: str | None) -> Finding:
    install = f"pip install 'chemnet[{extra}]'" if extra else "pip install --upgrade chemnet"
    if found is None:
        purpose = {"mpi": "for parallel runs: ", "mpich": "for parallel runs: ", "plot": "for pictures: "}
        return Finding(name, "not installed", "note" if extra else "problem", purpose.get(extra or "", "") + install)
    if least and _numbers(found) < _numbers(least):
        return Finding(name, found, "problem", f"needs >= {least}: {install}")
    if tested and _numbers(found) != _numbers(tested):
        return Finding(name, found, "note", f"tested with {tested}: pip install '{name}=={tested}'")
    return Finding(name, found)


def _numbers(version: str) -> tuple[int, ...]:
    """The release part of a version, without trailing zeros: `2.13.0+cpu` -> (2, 13)."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(part) for part in match.group().split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _installed_versions() -> dict[str, str]:
    return {d.metadata["Name"].lower(): d.version for d in metadata.distributions() if d.metadata["Name"]}


def _tested_versions() -> dict[str, str]:
    """Pins of `constraints.txt`; empty where the file is missing."""
    try:
        lines = shipped("constraints.txt").read_text(encoding="utf-8").splitlines()
    except FileError:
        return {}
    pins = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {name.strip().lower(): version.strip() for name, version in pins}


# ---- MPI launcher


def _launchers() -> list[Path]:
    """The mpiexec beside this Python and the one that a bare `mpiexec` starts, each once."""
    on_path = shutil.which("mpiexec")
    candidates = [Path(sys.executable).parent / "mpiexec", *([Path(on_path)] if on_path else [])]
    return list(dict.fromkeys(path for path in candidates if path.exists()))


def check_launchers(launchers: Iterable[Path], python: Path) -> list[Finding]:
    """Findings of all launchers, or a note that there is none."""
    findings = [check_launcher(launcher, python) for launcher in launchers]
    advice = "serial runs need none; else pip install 'chemnet[mpich]', or load the cluster's MPI"
    return findings or [Finding("MPI launcher", "no mpiexec", "note", advice)]


def check_launcher(launcher: Path, python: Path) -> Finding:
    """Finding of a launcher: two ranks that it starts must report a communicator of size 2."""
    subject = f"MPI launcher {launcher}"
    command = [str(launcher), "-n", "2", str(python), "-c", _SIZE_PROBE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LAUNCHER_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        advice = "it starts no programs here; on a cluster, run this inside a job"
        return Finding(subject, type(error).__name__, "problem", advice)
    answers = re.findall(r"^size (\d+) (.*)$", done.stdout, flags=re.MULTILINE)
    if done.returncode != 0 or not answers:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return Finding(subject, last[:80], "problem", "pip install 'chemnet[mpich]', or load the cluster's MPI")
    if any(size != "2" for size, _ in answers):
        other = f"start runs with the mpiexec of that library, such as {python.parent / 'mpiexec'}"
        return Finding(subject, f"does not match mpi4py's library, {answers[0][1]}", "problem", other)
    return Finding(subject, f"2 ranks, {answers[0][1]}")


# ---- memory, threads, disk


def _size_of_filesystem(folder: Path) -> float | None:
    """Total bytes of the file system at `folder`; None where there is none."""
    return float(shutil.disk_usage(folder).total) if folder.is_dir() else None


def check_shared_memory(size: float | None) -> Finding:
    """Finding of /dev/shm, the memory between MPI ranks and workers, of `size` bytes (None: there is none)."""
    if size is None:
        return Finding("/dev/shm", "not used on this system")
    advice = "parallel runs may die silently; start the container with --shm-size=1g"
    amount = f"{size / MEGABYTE:.0f} MB"
    return _room("/dev/shm", amount, size <= SHARED_MEMORY_CRASH, size <= SHARED_MEMORY_TIGHT, advice)


def _room(subject: str, found: str, is_problem: bool, is_tight: bool, advice: str) -> Finding:
    if not is_tight:
        return Finding(subject, found)
    return Finding(subject, found, "problem" if is_problem else "note", advice)


def check_threads(environment: Mapping[str, str], cores: int) -> Finding:
    """Finding of thread numbers: more threads than cores make every command slower, most of all under MPI."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    given = {name: environment[name] for name in names if environment.get(name, "").isdigit()}
    found = ", ".join([f"{cores} cores", *(f"{name}={value}" for name, value in given.items())])
    too_many = [name for name, value in given.items() if int(value) > cores]
    if too_many:
        return Finding("threads", found, "note", f"export {too_many[0]}={cores} (under MPI: cores / ranks)")
    return Finding("threads", found)


def check_disk(subject: str, free: float) -> Finding:
    """Finding of `free` bytes of a disk, for a data set, trainings and snapshots."""
    advice = f"keep {DISK_TIGHT / GIGABYTE:.0f} GB for data sets and runs"
    return _room(subject, f"{free / GIGABYTE:.1f} GB", free < DISK_FULL_SOON, free < DISK_TIGHT, advice)
