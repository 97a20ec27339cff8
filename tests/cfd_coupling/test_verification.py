"""The quick scoreboard: every check meets its targets; what the command prints, writes and refuses."""

import dataclasses
import json

import pytest

from cfd_coupling.__main__ import main
from cfd_coupling.stepping import Stepper
from cfd_coupling.verification import manufactured, runner, scoreboard, states
from cfd_coupling.verification.jobs import job

# Held case by case in test_config.
CHECKS = [check for check in runner.CHECKS if check.name != "bad-input"]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_the_quick_check_meets_its_targets(check):
    lines = list(check.lines(True))
    assert lines
    assert not [line for line in lines if line.ok is False]


@pytest.mark.parametrize(("fit", "variable"), [("conductivity", "T"), ("pairs", "Y(CH4)"), ("viscosity", "u")])
def test_the_manufactured_flow_notices_a_wrong_transport_coefficient(monkeypatch, fit, variable):
    def order():
        errors = [manufactured._errors(n, n * n // 32) for n in (16, 32)]
        return dict(zip((*manufactured._NAMES, "p"), states.orders(errors)[0], strict=True))[variable]

    assert order() > 1.85
    gas = dataclasses.replace(states.drm19(), **{fit: 1.3 * getattr(states.drm19(), fit)})
    monkeypatch.setattr(manufactured, "Stepper", lambda grid, comm, _, *others: Stepper(grid, comm, gas, *others))
    assert order() < 1.5


def test_a_figure_that_is_no_number_fails_both_ways():
    assert scoreboard.at_least("a", float("nan"), 1.0).ok is False
    assert scoreboard.at_most("a", float("nan"), 1.0).ok is False


@pytest.mark.parametrize(("figure", "code"), [(2.0, 0), (1.0, 1)])
def test_a_missed_target_ends_with_1_and_is_in_the_table_and_the_file(tmp_path, monkeypatch, capsys, figure, code):
    lines = (scoreboard.at_least("order", figure, 1.85), scoreboard.skipped("ranks", "no launcher"))
    monkeypatch.setattr(runner, "CHECKS", (scoreboard.Check("mine", "nothing", lambda quick: lines),))
    assert main(["verify", "--json", str(tmp_path / "board.json")]) == code
    printed = capsys.readouterr().out
    assert ("NO" in printed) == bool(code) and "skipped: no launcher" in printed
    first, second = json.loads((tmp_path / "board.json").read_text())["rows"]
    assert first == {"line": "order", "measured": figure, "target": ">= 1.85", "ok": "NO" if code else "yes"}
    assert second["ok"] == "-"


def test_an_unknown_check_is_named_with_those_that_exist(capsys):
    assert main(["verify", "--only", "taylor"]) == 2
    assert "no check taylor\nThere are: taylor-green" in capsys.readouterr().err


def test_a_job_that_does_not_end_is_ended():
    ended = job("timeit", "-n1", "-r1", "import time; time.sleep(60)", seconds=0.5)
    assert ended.code is None
