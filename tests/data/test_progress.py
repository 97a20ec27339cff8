"""Progress of a sampling: every kind of task has its own time, and nobody waits without a word."""

from chemnet.data import progress
from chemnet.data.progress import Progress

TASKS = [*(("flow", i) for i in range(4)), *(("burnt", i) for i in range(2)), *(("rows", i) for i in range(3))]
SECONDS = {"flow": 60.0, "burnt": 0.5, "rows": 2.0}


def run(tasks, monkeypatch, done=()):
    """Lines of a sampling that reports after every task."""
    monkeypatch.setattr(progress, "_EVERY", -1.0)
    lines: list[str] = []
    followed = Progress(TASKS, lambda task: task in done, lines.append)
    followed.begin("states.h5: 9 states", 1)
    followed.run(lambda task: SECONDS[task[0]], tasks, 1)
    return lines, followed


def test_what_there_is_to_do_is_told_before_anything_is_computed(monkeypatch):
    lines, _ = run([], monkeypatch, done=TASKS[:2])
    assert lines == [
        "states.h5: 9 states, by 1 process (2 parts are there): 2 turbulent flames, each of a minute or so, "
        "2 sets of burnt gas, 3 shards of labelled rows"
    ]
    assert run([], monkeypatch, done=TASKS)[0][0].endswith("(9 parts are there): all parts are there")


def test_the_time_left_is_that_of_the_kind_in_work_and_what_follows_is_named(monkeypatch):
    lines, followed = run(TASKS, monkeypatch)
    assert lines[1:] == [
        "turbulent flames: 1 of 4, 180 s left; then 2 sets of burnt gas, 3 shards of labelled rows",
        "turbulent flames: 2 of 4, 120 s left; then 2 sets of burnt gas, 3 shards of labelled rows",
        "turbulent flames: 3 of 4, 60 s left; then 2 sets of burnt gas, 3 shards of labelled rows",
        "turbulent flames: 4 of 4; then 2 sets of burnt gas, 3 shards of labelled rows",
        "sets of burnt gas: 1 of 2, 0 s left; then 3 shards of labelled rows",
        "sets of burnt gas: 2 of 2; then 3 shards of labelled rows",
        "shards of labelled rows: 1 of 3, 4 s left",
        "shards of labelled rows: 2 of 3, 2 s left",
        "shards of labelled rows: 3 of 3",
    ]
    assert followed.kept() == "9 of 9 parts"


def test_several_processes_share_the_time_and_a_quiet_kind_tells_only_its_end(monkeypatch):
    followed = Progress(TASKS, lambda task: False)
    followed.seconds["flow"] = [50.0, 70.0]
    assert followed.line("flow", 2, workers=2).startswith("turbulent flames: 2 of 4, 60 s left; then ")
    lines: list[str] = []
    quiet = Progress(TASKS, lambda task: False, lines.append)
    quiet.run(lambda task: 0.0, TASKS, 1)
    assert [line.partition(";")[0] for line in lines] == [
        "turbulent flames: 4 of 4",
        "sets of burnt gas: 2 of 2",
        "shards of labelled rows: 3 of 3",
    ]
