"""The doctor names what is wrong and what to do; the machine's facts are given, so that each verdict is seen."""

import os
import sys
from pathlib import Path

import pytest

from chemnet.runtime import machine
from chemnet.runtime.machine import (
    Finding,
    check_disk,
    check_folder,
    check_kernel_cache,
    check_launcher,
    check_launchers,
    check_shared_memory,
    check_threads,
    check_versions,
    exit_code,
    report,
)

REQUIREMENTS = ["numpy>=1.26", "torch>=2.6", 'matplotlib>=3.8; extra == "plot"', 'pytest>=8.2; extra == "test"']
TESTED = {"numpy": "2.4.6", "torch": "2.13.0", "matplotlib": "3.11.2"}


def verdicts(findings):
    return {finding.subject: finding.verdict for finding in findings}


def test_the_tested_versions_are_ok_and_tools_of_developers_are_not_asked_for():
    installed = {"numpy": "2.4.6", "torch": "2.13.0+cpu", "matplotlib": "3.11.2"}
    findings = check_versions(REQUIREMENTS, installed, TESTED)
    assert verdicts(findings) == {"numpy": "ok", "torch": "ok", "matplotlib": "ok"}


@pytest.mark.parametrize(
    "installed, expected, advice",
    [
        ({"numpy": "1.25.9", "torch": "2.13.0"}, {"numpy": "problem", "torch": "ok"}, "needs >= 1.26"),
        ({"numpy": "2.4.6"}, {"numpy": "ok", "torch": "problem"}, "pip install"),
        ({"numpy": "2.4.7", "torch": "2.13"}, {"numpy": "note", "torch": "ok"}, "numpy==2.4.6"),
        ({"numpy": "2.4.6", "torch": "2.10.0"}, {"numpy": "ok", "torch": "note"}, "torch==2.13.0"),
    ],
)
def test_an_old_or_missing_package_is_a_problem_and_an_untested_one_a_note(installed, expected, advice):
    findings = check_versions(REQUIREMENTS[:2], installed, TESTED)
    assert verdicts(findings) == expected
    assert advice in " ".join(finding.advice for finding in findings)


def test_a_missing_extra_is_a_note_with_the_command_that_installs_it():
    (finding,) = check_versions(REQUIREMENTS[2:3], {}, TESTED)
    assert finding.verdict == "note" and finding.advice == "for pictures: pip install 'matplotlib==3.11.2'"


def test_advice_names_packages_of_the_index_in_their_tested_versions():
    findings = check_versions([*REQUIREMENTS, 'mpich>=4.2; extra == "mpich"'], {"numpy": "1.2"}, TESTED)
    assert all("chemnet" not in finding.advice for finding in [*findings, *check_launchers([], Path(sys.executable))])
    assert findings[0].advice.endswith("pip install 'numpy==2.4.6'")


@pytest.mark.parametrize(
    ("installed", "told"), [({}, ["mpich"]), ({"mpi4py": "4.1.2"}, []), ({"mpich": "5.0"}, ["mpich"])]
)
def test_mpich_is_not_missed_where_mpi4py_may_have_another_library(installed, told):
    findings = check_versions(['mpich>=4.2; extra == "mpich"'], installed, {})
    assert [finding.subject for finding in findings] == told


def launcher(tmp_path, lines):
    path = tmp_path / "mpiexec"
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    path.chmod(0o755)
    return path


DASHES = "-" * 74
ROOT_BOX = f"""{DASHES}
mpiexec has detected an attempt to run as root.

Running as root is *strongly* discouraged as any mistake can damage the system.
{DASHES}"""
SLOTS_BOX = f"""{DASHES}
There are not enough slots available in the system to satisfy the 2
slots that were requested by the application:

  python
{DASHES}"""
EXIT_BOX = f"""{DASHES}
prterun detected that one or more processes exited with non-zero status,
thus causing the job to be terminated.
{DASHES}"""
PMIX = "Abort(1): Fatal error in internal_Init_thread\nRuntime environment uses unsupported PMI version PMIx.\n"


@pytest.mark.parametrize(
    "out, err, code, verdict, found, advice",
    [
        ("<library Some 1.0>\n<size 2>\n" * 2, "", 0, "ok", "2 ranks, Some 1.0", ""),
        ("<library Some 1.0><library Some 1.0>\n\n<size 2><size 2>\n\n", "", 0, "ok", "2 ranks, Some 1.0", ""),
        ("<library Other 4.1>\n<size 1>\n" * 2, "", 0, "problem", "mpi4py's library, Other 4.1", "mpiexec of that"),
        ("<library MPICH>\n" * 2, PMIX + EXIT_BOX, 16, "problem", "mpi4py's library, MPICH", "mpiexec of that"),
        ("", "cannot find libmpi\n" + EXIT_BOX, 1, "problem", "cannot find libmpi", "pip install mpi4py mpich"),
        ("", ROOT_BOX, 1, "note", "mpiexec has detected an attempt to run as root.", "OMPI_ALLOW_RUN_AS_ROOT=1"),
        (
            "",
            ROOT_BOX.removeprefix(DASHES),
            1,
            "note",
            "mpiexec has detected an attempt to run as root.",
            "not as root",
        ),
        ("", SLOTS_BOX, 1, "note", "There are not enough slots", "--oversubscribe"),
        ("<library MPICH>\n" * 2, "Shared memory error\n", 15, "problem", "Shared memory error", "/dev/shm"),
        ("", "", 1, "problem", "no output", "pip install mpi4py mpich"),
    ],
)
def test_ranks_of_a_launcher_find_each_other_or_the_way_out_is_named(tmp_path, out, err, code, verdict, found, advice):
    (tmp_path / "out").write_text(out)
    (tmp_path / "err").write_text(err)
    path = launcher(tmp_path, [f"cat '{tmp_path}/out'", f"cat '{tmp_path}/err' >&2", f"exit {code}"])
    finding = check_launcher(path, Path("/venv/bin/python"))
    assert (finding.subject, finding.verdict) == (f"MPI launcher {path}", verdict)
    assert found in finding.found and advice in finding.advice and bool(advice) == bool(finding.advice)


@pytest.mark.skipif(not (Path(sys.executable).parent / "mpiexec").exists(), reason="needs mpiexec of the mpich wheel")
def test_ranks_that_write_at_once_without_a_buffer_are_understood(monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    path = Path(sys.executable).parent / "mpiexec"
    for _ in range(3):
        finding = check_launcher(path, Path(sys.executable))
        assert finding.verdict == "ok", finding


def test_no_launcher_is_only_a_note():
    (finding,) = check_launchers([], Path(sys.executable))
    assert finding.verdict == "note" and "serial runs need none" in finding.advice


def test_small_shared_memory_and_little_free_disk_are_reported():
    sizes = [None, 0.0, 16e6, 64e6, 1e9]
    verdicts = [check_shared_memory(size, "linux").verdict for size in sizes]
    assert verdicts == ["problem", "problem", "problem", "note", "ok"]
    assert check_shared_memory(None, "darwin").verdict == "ok"
    assert [check_disk("free disk", free).verdict for free in (0.1e9, 1e9, 5e9)] == ["problem", "note", "ok"]


def test_a_folder_that_cannot_be_written_to_is_a_note_with_the_way_out(tmp_path):
    assert check_folder("current folder", tmp_path, "go").found.endswith(" GB")
    file = tmp_path / "file"
    file.touch()
    for folder in (file, None):
        finding = check_folder("current folder", folder, "go elsewhere")
        assert (finding.verdict, finding.advice) == ("note", "go elsewhere")


def test_kernels_that_are_kept_for_a_time_or_not_at_all_are_a_note():
    assert check_kernel_cache(Path("/home/me/.cache"), False).verdict == "ok"
    for folder in (Path("/scratch/chemnet-7"), None):
        finding = check_kernel_cache(folder, True)
        assert finding.verdict == "note" and "NUMBA_CACHE_DIR" in finding.advice


def test_more_threads_than_cores_are_reported_with_the_setting_to_use():
    assert check_threads({}, 2).verdict == "ok"
    assert check_threads({"OMP_NUM_THREADS": "2"}, 2).verdict == "ok"
    finding = check_threads({"OMP_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "8"}, 2)
    assert finding.verdict == "note" and "export NUMBA_NUM_THREADS=2" in finding.advice


def test_only_problems_make_the_exit_code_nonzero():
    note, problem = Finding("a", "b", "note", "c"), Finding("a", "b", "problem", "c")
    assert (exit_code([note]), exit_code([note, problem])) == (0, 1)
    assert report([note, problem]).rows == [("a", "note", "b", "c"), ("a", "problem", "b", "c")]


def test_the_examination_of_this_machine_covers_every_subject(monkeypatch):
    monkeypatch.setattr(machine, "_launchers", lambda: [])  # starting ranks is tested above
    subjects = " ".join(finding.subject for finding in machine.examine())
    for subject in ("torch", "cantera", "MPI launcher", "/dev/shm", "threads", "kernels", "free disk"):
        assert subject in subjects


def test_each_launcher_is_tried_once(monkeypatch, tmp_path):
    path = launcher(tmp_path, ["exit 0"])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])
    assert machine._launchers() == [path]
