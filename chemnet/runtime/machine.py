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

from chemnet.runtime.caches import writable
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
_LONGEST = 100  # of what a launcher says, in a table
_GET_MPI = "pip install mpi4py mpich, or load the cluster's MPI"
Verdict = Literal["ok", "note", "problem"]
# Written in one piece each: the outputs of ranks may come in between one another.
_SIZE_PROBE = """
import os
import mpi4py
mpi4py.rc.initialize, mpi4py.rc.finalize = False, True
from mpi4py import MPI
os.write(1, f"<library {' '.join(MPI.Get_library_version().split()[:3])}>\\n".encode())
MPI.Init()
os.write(1, f"<size {MPI.COMM_WORLD.size}>\\n".encode())
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
        check_shared_memory(_size_of_filesystem(Path("/dev/shm")), sys.platform),
        check_threads(os.environ, available_cores()),
        check_kernel_cache(*_kernel_cache()),
        check_folder("current folder", Path.cwd(), "work in another folder, or say --out: results go to runs/ here"),
        check_folder("temporary folder", _temporary_folder(), "export TMPDIR=FOLDER, one that can be written to"),
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
    """Finding per package of `requirements` (as in the package's metadata), without those of `test` and `docs`.

    Names of the packages are in lower case.
    """
    findings: dict[str, Finding] = {}
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement)
        if match and match["extra"] not in ("test", "docs"):
            name = match["name"].lower()
            if name == "mpich" and "mpi4py" in installed and name not in installed:
                continue  # it may have another MPI library, which the findings of launchers tell
            finding = _check_version(name, match["least"], match["extra"], installed.get(name), tested.get(name))
            findings.setdefault(name, finding)
    return list(findings.values())


def _check_version(name: str, least: str | None, extra: str | None, found: str | None, tested: str | None) -> Finding:
    install = f"pip install '{name}=={tested}'" if tested else f"pip install --upgrade {name}"
    if found is None:
        purpose = {"mpi": "for parallel runs: ", "mpich": "for parallel runs: ", "plot": "for pictures: "}
        return Finding(name, "not installed", "note" if extra else "problem", purpose.get(extra or "", "") + install)
    if least and _numbers(found) < _numbers(least):
        return Finding(name, found, "problem", f"needs >= {least}: {install}")
    if tested and _numbers(found) != _numbers(tested):
        return Finding(name, found, "note", f"tested with {tested}: {install}")
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
    return findings or [Finding("MPI launcher", "no mpiexec", "note", f"serial runs need none; else {_GET_MPI}")]


def check_launcher(launcher: Path, python: Path) -> Finding:
    """Finding of a launcher: two ranks that it starts must report a communicator of size 2."""
    subject = f"MPI launcher {launcher}"
    command = [str(launcher), "-n", "2", str(python), "-c", _SIZE_PROBE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LAUNCHER_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        advice = "it starts no programs here; on a cluster, run this inside a job"
        return Finding(subject, type(error).__name__, "problem", advice)
    libraries = re.findall(r"<library ([^<>]*)>", done.stdout)
    sizes = re.findall(r"<size (\d+)>", done.stdout)
    if not libraries:
        return _failed_launch(subject, complaint(done.stderr))
    reason = complaint(done.stderr)
    if done.returncode != 0 and not sizes and "PMI" not in reason:
        return Finding(subject, reason[:_LONGEST], "problem", f"{libraries[0]} fails by itself: see /dev/shm below")
    if set(sizes) != {"2"}:
        own = python.parent / "mpiexec"
        such = f", such as {own}" if own.exists() and own != launcher else ""
        advice = f"start runs with the mpiexec of that library{such}"
        return Finding(subject, f"does not match mpi4py's library, {libraries[0]}", "problem", advice)
    return Finding(subject, f"2 ranks, {libraries[0]}")


def _failed_launch(subject: str, reason: str) -> Finding:
    """Finding of a launcher that started no rank which could load mpi4py."""
    if "run as root" in reason:
        advice = "in a container: export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"
        return Finding(subject, reason[:_LONGEST], "note", f"not as root; {advice}")
    if "slots" in reason:
        return Finding(subject, reason[:_LONGEST], "note", "mpiexec --oversubscribe, or fewer ranks")
    return Finding(subject, reason[:_LONGEST], "problem", _GET_MPI)


def complaint(output: str) -> str:
    """What a launcher's standard error says: its last line, or the first sentence in a box of Open MPI's dashes.

    Such a box follows the words of a program that failed, or stands alone, at times without its first row.
    """
    parts = re.split(r"^-{10,}$", output, flags=re.MULTILINE)
    if len(parts) % 2 == 0:
        parts.insert(0, "")
    said = [line.strip() for part in parts[::2] for line in part.splitlines() if line.strip()]
    boxes = [" ".join(part.split()) for part in parts[1::2]]
    if said:
        return said[-1]
    return re.split(r"(?<=[.:!]) ", boxes[0])[0] if boxes else "no output"


# ---- memory, threads, disk


def _size_of_filesystem(folder: Path) -> float | None:
    """Total bytes of the file system at `folder`, 0 if it cannot be written to; None where there is none."""
    if not folder.is_dir():
        return None
    return float(shutil.disk_usage(folder).total) if writable(folder) else 0.0


def check_shared_memory(size: float | None, platform: str) -> Finding:
    """Finding of /dev/shm, Linux's memory between MPI ranks and workers, of `size` bytes (None: there is none).

    A size of 0 stands for one that cannot be written to.
    """
    if size is None and platform != "linux":
        return Finding("/dev/shm", "not used on this system")
    if not size:
        found = "there is none" if size is None else "cannot be written to"
        return Finding("/dev/shm", found, "problem", "ranks and workers need it: docker run --shm-size=1g")
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


def check_folder(name: str, folder: Path | None, elsewhere: str) -> Finding:
    """Finding of a folder (None: there is none) that data sets, trainings and snapshots go to, or of what to do.

    It must be one that can be written to; `elsewhere` says what to do if it is not.
    """
    if folder is None or not writable(folder):
        return Finding(name, "there is none" if folder is None else f"{folder} cannot be written to", "note", elsewhere)
    return check_disk(f"free disk, {name}", shutil.disk_usage(folder).free)


def check_disk(subject: str, free: float) -> Finding:
    """Finding of `free` bytes of a disk, for a data set, trainings and snapshots."""
    advice = f"keep {DISK_TIGHT / GIGABYTE:.0f} GB for data sets and runs"
    return _room(subject, f"{free / GIGABYTE:.1f} GB", free < DISK_FULL_SOON, free < DISK_TIGHT, advice)


# ---- compiled kernels


def check_kernel_cache(folder: Path | None, is_temporary: bool) -> Finding:
    """Finding of the folder in which compiled kernels are kept (None: nowhere), perhaps a temporary one."""
    subject, advice = "compiled kernels", "export NUMBA_CACHE_DIR=FOLDER, one that can be written to"
    if folder is None:
        return Finding(subject, "compiled anew, for minutes, by each process", "note", advice)
    if is_temporary:
        return Finding(subject, f"kept in {folder} for a time", "note", advice)
    return Finding(subject, f"kept in {folder}")


def _kernel_cache() -> tuple[Path | None, bool]:
    try:
        from chemnet.runtime.compilation import cache_folder
    except ImportError:  # numba is missing, which is another finding
        return None, True
    return cache_folder()


def _temporary_folder() -> Path | None:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return None
