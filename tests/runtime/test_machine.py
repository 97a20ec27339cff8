"""The doctor names what is wrong and what to do; the machine's facts are given, so that each verdict is seen."""

import os
import sys
from pathlib import Path

import pytest

from chemnet.runtime import machine
from chemnet.runtime.machine import (
    Finding,
    check_disk,
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


def test_a_missing_extra_is_a_note_that_names_the_extra():
    (finding,) = check_versions(REQUIREMENTS[2:3], {}, TESTED)
    assert finding.verdict == "note" and "chemnet[plot]" in finding.advice


def launcher(tmp_path, lines):
    path = tmp_path / "mpiexec"
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    "lines, verdict, found, advice",
    [
        (["echo size 2 Some MPI 1.0"] * 2, "ok", "2 ranks, Some MPI 1.0", ""),
        (
            ["echo size 1 Other MPI 4.1"] * 2,
            "problem",
            "not match mpi4py's library, Other MPI 4.1",
            "/venv/bin/mpiexec",
        ),
        (["echo cannot find libmpi >&2", "exit 3"], "problem", "cannot find libmpi", "chemnet[mpich]"),
    ],
)
def test_ranks_of_a_launcher_find_each_other_or_the_way_out_is_named(tmp_path, lines, verdict, found, advice):
    path = launcher(tmp_path, lines)
    finding = check_launcher(path, Path("/venv/bin/python"))
    assert (finding.subject, finding.verdict) == (f"MPI launcher {path}", verdict)
    assert found in finding.found and advice in finding.advice and bool(advice) == bool(finding.advice)


def test_no_launcher_is_only_a_note():
    (finding,) = check_launchers([], Path(sys.executable))
    assert finding.verdict == "note" and "serial runs need none" in finding.advice


def test_small_shared_memory_and_little_free_disk_are_reported():
    sizes = [None, 16e6, 64e6, 1e9]
    assert [check_shared_memory(size).verdict for size in sizes] == ["ok", "problem", "note", "ok"]
    assert [check_disk("free disk", free).verdict for free in (0.1e9, 1e9, 5e9)] == ["problem", "note", "ok"]


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
    for subject in ("torch", "cantera", "MPI launcher", "/dev/shm", "threads", "free disk"):
        assert subject in subjects


def test_each_launcher_is_tried_once(monkeypatch, tmp_path):
    path = launcher(tmp_path, ["exit 0"])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])
    assert machine._launchers() == [path]
