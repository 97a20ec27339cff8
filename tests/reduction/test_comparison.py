"""The comparison of methods: a rate for each, runs that are made once, tables that agree with the runs."""

import dataclasses
import json
import math

import pytest
from torch import nn

from chemnet.reduction.comparison import Column, Comparison, ComparisonSettings, Trained
from chemnet.runtime.config import parse
from chemnet.runtime.errors import NumericalError, UsageError

RATES = (1e-3, 4e-3, 1.6e-2)


class Toy:
    """A task whose loss grows with the distance of the rate from `best`; `missing` lacks a package."""

    columns = (
        Column("doubled [%]", "size", 2.0),
        Column("validation loss", "loss", spread=True),
        Column("time", "time"),
    )

    def __init__(self, best=4e-3, rates=RATES, diverges=lambda job: False, origin="toy"):
        self.best, self.given, self.diverges, self.origin = best, rates, diverges, origin
        self.trained, self.measured = [], []

    def lacks(self, method):
        return "some-package" if method == "missing" else None

    def rates(self, method):
        return self.given

    def train(self, job):
        self.trained.append(job)
        if self.diverges(job):
            raise NumericalError("the loss is nan at step 3\nUse another rate.")
        loss = 1.0 + abs(math.log(job.rate / self.best)) + 0.1 * job.seed
        return Trained(nn.Identity(), loss, {"size": 10.0 * (1 + job.seed), "time": "retraining"})

    def measure(self, job, trained):
        self.measured.append(job)
        return {"error": 0.5 * trained.loss}


class Settings(ComparisonSettings):
    known_methods = ("one", "two", "missing")


def compare(task, out, methods=("one",), seeds=2, **options):
    settings = Settings(methods=methods, seeds=seeds, rates=RATES)
    return Comparison(task, settings, out, report=lambda line: None, **options).tables(["3-2"])


def rows(tables, number=0):
    return tables[number].as_json()["rows"]


@pytest.mark.parametrize(
    ("best", "beyond", "taken", "remark"),
    [
        (4e-3, [], 4e-3, ""),
        (1e-3, [5e-4], 1e-3, ""),
        (6.4e-2, [3.2e-2, 6.4e-2, 1.28e-1], 6.4e-2, ""),
        (1e-4, [5e-4, 2.5e-4, 1.25e-4], 1.25e-4, "at the end of the range"),
    ],
)
def test_the_rate_with_the_smallest_loss_is_taken_and_the_scan_looks_beyond_those_given(
    tmp_path, best, beyond, taken, remark
):
    task = Toy(best)
    tables = compare(task, tmp_path, scan_share=0.5, beyond=3)
    assert [(job.rate, job.share, job.seed) for job in task.trained] == [
        *((pytest.approx(rate, rel=1e-12, abs=0.0), 0.5, 0) for rate in (*RATES, *beyond)),
        *((pytest.approx(taken, rel=1e-12, abs=0.0), 1.0, seed) for seed in (0, 1)),
    ]
    (row,) = rows(tables, 1)
    assert row["best"] == pytest.approx(taken, rel=1e-12, abs=0.0) and row["remark"] == remark
    assert row["0.004"] == pytest.approx(1.0 + abs(math.log(4e-3 / best)), rel=1e-12, abs=0.0)
    assert [job.share for job in task.measured] == [1.0, 1.0]


def test_a_scan_over_all_steps_is_the_run_of_the_first_seed(tmp_path):
    task = Toy()
    compare(task, tmp_path)
    assert [(job.rate, job.seed) for job in task.trained] == [*((rate, 0) for rate in RATES), (4e-3, 1)]


def test_a_single_rate_is_taken_as_it_is(tmp_path):
    task = Toy(rates=(3e-3,))
    tables = compare(task, tmp_path, scan_share=0.5)
    assert [(job.rate, job.share) for job in task.trained] == [(3e-3, 1.0), (3e-3, 1.0)]
    assert rows(tables, 1) == []


def test_a_rate_that_diverges_is_not_taken_and_a_run_that_diverges_is_reported(tmp_path):
    task = Toy(diverges=lambda job: job.rate > 5e-3 or job.seed == 1)
    (row,) = rows(compare(task, tmp_path / "one"))
    assert row["rate"] == 4e-3 and row["remark"] == "1 of 2 diverged" and row["validation loss"] == 1.0
    with pytest.raises(NumericalError, match="diverges at all of the rates"):
        compare(Toy(diverges=lambda job: True), tmp_path / "two")


def test_a_network_that_cannot_be_measured_ends_the_comparison_and_its_run_is_not_finished(tmp_path):
    task = Toy()
    task.measure = lambda job, trained: task.train(dataclasses.replace(job, rate=1.0)) and None
    task.diverges = lambda job: job.rate == 1.0
    with pytest.raises(NumericalError, match="nan at step 3"):
        compare(task, tmp_path, scan_share=0.5)
    assert list(tmp_path.glob("one-*")) == [] and len(list(tmp_path.glob("scan/*/result.json"))) == len(RATES)


def test_counts_stay_whole_numbers_where_all_seeds_agree(tmp_path):
    task = Toy()
    task.measure = lambda job, trained: {"size": 384}
    (row,) = rows(compare(task, tmp_path))
    assert row["doubled [%]"] == 768.0
    assert '"size": 384,' in (tmp_path / "comparison.json").read_text()


def test_finished_runs_are_taken_as_they_are_until_the_task_is_another(tmp_path):
    tables = compare(Toy(), tmp_path)
    again = Toy()
    assert [t.as_json() for t in compare(again, tmp_path)] == [t.as_json() for t in tables] and again.trained == []
    compare(again, tmp_path, methods=("one", "two"), seeds=1)
    assert {job.method for job in again.trained} == {"two"}
    third = Toy()
    compare(third, tmp_path, seeds=3)
    assert [job.seed for job in third.trained] == [2]
    other = Toy(origin="another")
    with pytest.raises(UsageError, match="is there already\nIt is of another model"):
        compare(other, tmp_path)
    compare(other, tmp_path, overwrite=True)
    assert len(other.trained) == len(RATES) + 1


def test_a_run_that_was_interrupted_is_made_again_and_the_others_are_not(tmp_path):
    compare(Toy(), tmp_path)
    (tmp_path / "one-3-2-seed1-rate0.004" / "result.json").unlink()
    again = Toy()
    compare(again, tmp_path)
    assert [job.folder.name for job in again.trained] == ["one-3-2-seed1-rate0.004"]


def test_the_table_has_means_and_ranges_over_the_seeds_and_names_a_missing_package(tmp_path):
    first, second = rows(compare(Toy(), tmp_path, methods=("one", "missing"), seeds=3))
    assert first["doubled [%]"] == pytest.approx(40.0, rel=1e-12, abs=0.0) and first["time"] == "retraining"
    assert first["validation loss"] == pytest.approx(1.1, rel=1e-12, abs=0.0)
    assert first["validation loss, from - to"] == [1.0, 1.2]
    assert second["remark"] == "skipped: pip install some-package" and second["validation loss"] is None


def test_all_runs_and_tables_are_left_in_one_file(tmp_path):
    tables = compare(Toy(), tmp_path)
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert content["tables"] == [table.as_json() for table in tables]
    assert content["settings"]["methods"] == ["one"] and content["settings"]["seeds"] == 2
    assert [run["seed"] for run in content["runs"]] == [0, 1]
    assert all(run["figures"]["error"] == 0.5 * run["loss"] for run in content["runs"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["eno"]}, "no method eno; there are one, two, missing"),
        ({"methods": ["one", "one"]}, "name each method once"),
        ({"method": ["one"]}, "did you mean methods"),
        ({"rates": []}, "rates"),
        ({"seeds": 0}, "seeds"),
    ],
)
def test_a_bad_setting_says_what_is_wrong(changes, message):
    with pytest.raises(UsageError, match=message) as error:
        parse(Settings, {"methods": ["one"], "rates": [1e-3], **changes}, "comparison")
    assert len(str(error.value).splitlines()) <= 3
