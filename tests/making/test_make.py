"""A make from nothing to a verdict in seconds: what it leaves, how it goes on when interrupted, what it refuses."""

import json
import signal

import cantera as ct
import pytest

from chemnet.cli.main import main
from chemnet.making.run import _begin, make
from chemnet.making.task import MakeTask
from chemnet.runtime.errors import UsageError
from chemnet.runtime.files import read_json
from chemnet.surrogate.model import Surrogate

TASK = MakeTask(mechanism="h2o2.yaml", fuel={"H2": 1.0}, pressure=(ct.one_atm, ct.one_atm), phi=(0.9, 1.1))
TINY = {"budget": 2.0, "workers": 1}


class Stopped(Exception):
    """Ends a make at a line of its report."""


def stop_at(words):
    def report(line):
        if words in line:
            raise Stopped

    return report


def interrupt_at(words):
    def report(line):
        if words in line:
            signal.raise_signal(signal.SIGINT)

    return report


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A make that was stopped before its training, and in it, and then went on; with the times of its files."""
    folder = tmp_path_factory.mktemp("make") / "h2"
    with pytest.raises(Stopped):
        make(TASK, out=folder, **TINY, report=stop_at("training at"))
    times = {name: (folder / name).stat().st_mtime_ns for name in ("survey.json", "recipe.yaml", "states.h5")}
    with pytest.raises(KeyboardInterrupt):
        make(TASK, out=folder, **TINY, report=interrupt_at("validation"))
    assert (folder / "training/last.pt").exists() and not (folder / "training/manifest.json").exists()
    lines: list[str] = []
    tables = make(TASK, out=folder, **TINY, report=lines.append)
    return folder, times, lines, tables


def test_an_interrupted_make_goes_on_and_computes_nothing_twice(made):
    folder, times, lines, _ = made
    assert {name: (folder / name).stat().st_mtime_ns for name in times} == times
    assert not any("states, about" in line or "a look at the gas" in line for line in lines)
    assert any(line.startswith("check: ignition") for line in lines)


def test_a_finished_make_only_tells_its_result_again(made):
    folder, _, _, tables = made
    lines: list[str] = []
    again = make(TASK, out=folder, **TINY, report=lines.append)
    assert lines == [] and again[-1].text() == tables[-1].text()


def test_a_make_leaves_a_model_with_its_figures_a_card_and_a_page_with_pictures(made):
    folder, _, _, tables = made
    model = Surrogate.load(folder)
    assert model.metadata["ladder"]["ignition"]["cases"] >= 1 and model.dt == TASK.dt
    assert model.metadata["verdict"] in tables[-1].title
    low, high = model.domain.limits["P"]
    assert 0.9 * ct.one_atm < low < ct.one_atm < high < 1.1 * ct.one_atm
    card, page = (folder / "README.md").read_text(), (folder / "report.html").read_text()
    assert tables[-1].title.removeprefix("verdict: ") in card and "| ignition | failed cases |" in card
    assert page.count("data:image/png;base64,") == 4 and "src=" not in page.replace('src="data:', "")
    assert {row["phase"] for row in tables[-2].as_json()["rows"]} == {"survey", "states", "training", "checks", "all"}


def test_a_budget_too_small_is_named_and_what_was_not_checked_limits_the_verdict(made):
    *_, tables = made
    title = tables[-1].title
    assert title.startswith(("verdict: passed with limits: ", "verdict: use the exact step"))
    assert "which was too small" in tables[-2].title
    if "limits" in title:
        assert "no flame was checked" in title and "late ignitions were not checked" in title


def test_another_task_in_the_folder_is_refused_by_name_and_nothing_is_touched(made):
    folder, times, *_ = made
    other = TASK.model_copy(update={"pressure": (ct.one_atm, 3 * ct.one_atm)})
    with pytest.raises(UsageError, match=r"make.yaml is of another run: pressure was \[101325.0, 101325.0\]"):
        make(other, out=folder, **TINY, report=lambda line: None)
    assert (folder / "states.h5").stat().st_mtime_ns == times["states.h5"]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("recipe.yaml", "rows: 2000", "rows: 3000", r"states.h5 is of another run: rows was 2000, is 3000"),
        ("config.yaml", "calm_limit: 0.01", "calm_limit: 0.02", r"config.yaml is of another run: calm_limit was 0.01"),
    ],
)
def test_a_plan_that_was_changed_after_its_phase_is_refused(made, file, old, new, message):
    path = made[0] / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    try:
        with pytest.raises(UsageError, match=message):
            make(TASK, out=made[0], **TINY, report=lambda line: None)
    finally:
        path.write_text(text)


def test_a_folder_with_something_else_is_refused_and_overwrite_takes_only_a_make(tmp_path):
    (tmp_path / "thesis.tex").write_text("all my work")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="is not empty and holds no make"):
            _begin(tmp_path, TASK, overwrite)
    assert (tmp_path / "thesis.tex").read_text() == "all my work"


def test_overwrite_begins_anew(tmp_path):
    folder = tmp_path / "h2"
    _begin(folder, TASK, False)
    (folder / "survey.json").write_text("{}")
    _begin(folder, TASK.model_copy(update={"seed": 1}), True)
    assert not (folder / "survey.json").exists() and "seed: 1" in (folder / "make.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mechanism", "h2o2.yaml", "--fuel", "HO3"], "no species HO3 in h2o2.yaml; did you mean HO2"),
        (["--mechanism", "h2o2.yaml", "--fuel", "H2", "--phi", "20", "30"], "not all of these mixtures burn"),
        (["--mechanism", "h2o2.yaml", "--fuel", "H2", "--budget", "30"], "is not a time such as 90s, 30m or 2h"),
        (["--mechanism", "h2o3.yaml", "--fuel", "H2"], "no mechanism h2o3.yaml"),
        (["--mechanism", "h2o2.yaml", "--fuel", "N2"], "N2 does not burn with"),
    ],
)
def test_bad_input_is_refused_in_one_message(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["make", *arguments, "--workers", "1"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_hydrogen_passes_in_twenty_minutes(tmp_path, monkeypatch):
    """chemnet make --mechanism h2o2.yaml --fuel H2 --pressure 0.5 5 --budget 20m"""
    monkeypatch.chdir(tmp_path)
    command = ["make", "--mechanism", "h2o2.yaml", "--fuel", "H2", "--pressure", "0.5", "5", "--budget", "20m"]
    assert main([*command, "--json", "made.json"]) == 0
    verdict = json.loads((tmp_path / "made.json").read_text())["tables"][-1]["title"]
    assert verdict.startswith("verdict: passed with limits: no turbulent flame was checked (")
    assert sum(v for k, v in read_json(tmp_path / "runs/h2o2-H2/seconds.json").items() if k != "origin") < 1500.0
