"""Comparison of run folders: metrics of known differences, equal times, and what is refused."""

import json

import numpy as np
import pytest

from cfd_coupling.compare import compare, load_runs, read_history, temperature_difference
from cfd_coupling.output import write_image
from chemnet.runtime.errors import FileError, UsageError

SHAPE = (8, 10)


def write_run(folder, kind, T, steps=(0, 100), spacing=(1e-4, 2e-4), seconds=(40.0, 10.0), finished=True, more=0.0):
    """A run folder whose snapshots all hold T; heat release, drift and seconds grow with the step.

    more: share by which heat release and p0 are larger than in other runs.
    """
    (folder / "snapshots").mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"kind": "run", "chemistry": kind, "finished": finished}))
    columns = (
        "step,heat_release,drift_mass,drift_energy,cells_neural,cells_fallback,cells_integrated,"
        "seconds_chemistry,seconds_diffusion,seconds_advection"
    )
    (chemistry, flow), model = seconds, int(kind == "neural")
    lines = [
        f"{s},{10 * s * (1.0 + more)},{-1e-15 * s},{2e-16 * s},{9 * model},{model},{2 * model},"
        f"{chemistry * s / 100},{0.25 * flow * s / 100},{0.75 * flow * s / 100}"
        for s in steps
    ]
    (folder / "history.csv").write_text("\n".join([columns, *lines]) + "\n")
    for step in steps:
        clock = {"TimeValue": 1e-6 * step, "step": step, "p0": (1e5 + step) * (1.0 + more)}
        write_image(folder / "snapshots" / f"{step:07d}.vtkhdf", {"T": T}, clock, spacing, {})
    return folder


@pytest.fixture
def T():
    return 300.0 + 2000.0 * np.random.default_rng(3).random(SHAPE)


def column(table, label):
    """What the table says of one run, by name of the quantity."""
    index = list(table.columns).index(label)
    return {row[0]: row[index] for row in table.rows}


def test_a_run_does_not_differ_from_its_copy(tmp_path, T):
    runs = [write_run(tmp_path / name, name, T) for name in ("cvode", "neural")]
    copy = column(compare(runs), "neural")
    assert copy["T, relative L2 difference [%]"] == copy["T, p99.9 of the difference [K]"] == 0.0
    assert copy["burnt area, difference [%]"] == 0.0


def test_speed_ups_and_totals_come_from_the_history_at_the_snapshot(tmp_path, T):
    runs = [
        write_run(tmp_path / "a", "cvode", T, steps=(0, 100, 200), seconds=(40.0, 10.0)),
        write_run(tmp_path / "b", "neural", T, steps=(0, 100), seconds=(2.0, 8.0), more=-2e-3),
    ]
    table = compare(runs)
    reference, neural = column(table, "cvode"), column(table, "neural")
    assert "step 100" in table.title
    assert reference["heat release [kW/m]"] == pytest.approx(1.0, rel=1e-12, abs=0.0)
    assert reference["p0 [kPa]"] == pytest.approx(100.1, rel=1e-12, abs=0.0)
    assert neural["heat release, difference [%]"] == pytest.approx(-0.2, rel=1e-9, abs=0.0)
    assert neural["p0, difference [%]"] == pytest.approx(-0.2, rel=1e-9, abs=0.0)
    assert (reference["chemistry [s]"], reference["flow [s]"]) == pytest.approx((40.0, 10.0), rel=1e-12, abs=0.0)
    assert neural["speed-up of the chemistry"] == pytest.approx(20.0, rel=1e-12, abs=0.0)
    assert neural["speed-up of the run"] == pytest.approx(5.0, rel=1e-12, abs=0.0)
    assert reference["drift of mass, elements, energy"] == pytest.approx(1e-13, rel=1e-12, abs=0.0)
    assert neural["cells left by the model [%]"] == pytest.approx(10.0, rel=1e-12, abs=0.0)
    assert neural["cells that the model integrated [%]"] == pytest.approx(20.0, rel=1e-12, abs=0.0)
    assert reference["cells left by the model [%]"] is None


def test_burnt_area_and_core_are_those_of_the_gas_above_1500_K(tmp_path):
    T = np.full(SHAPE, 1300.0)
    T[2:5, :] = 1700.0  # the contour runs half-way between the rows: a band of three rows
    more = T.copy()
    more[5, :] = 2100.0  # and one of 3.5 and 3/8 of a row beyond it
    runs = [write_run(tmp_path / name, name, field) for name, field in (("cvode", T), ("neural", more))]
    table = compare(runs)
    row = 10 * 0.02
    assert column(table, "cvode")["burnt area, T > 1500 K [mm2]"] == pytest.approx(3 * row, rel=1e-12, abs=0.0)
    assert column(table, "neural")["burnt area, T > 1500 K [mm2]"] == pytest.approx(4.25 * row, rel=1e-12, abs=0.0)
    assert column(table, "neural")["burnt area, difference [%]"] == pytest.approx(125 / 3, rel=1e-12, abs=0.0)
    core = "mean T of the gas above 1500 K [K]"
    assert [column(table, name)[core] for name in ("cvode", "neural")] == [1700.0, 1800.0]


def test_temperature_difference_of_known_fields():
    reference = np.full((100, 100), 1000.0)
    T = reference.copy()
    T[0, :20] += 50.0
    relative, p999 = temperature_difference(T, reference)
    assert relative == pytest.approx(np.sqrt(20 * 50.0**2 / (1e4 * 1e6)), rel=1e-12, abs=0.0)
    assert p999 == pytest.approx(50.0, rel=1e-12, abs=0.0)
    T[0, 5:20] -= 50.0
    assert temperature_difference(T, reference)[1] == pytest.approx(0.0, abs=1e-12, rel=0.0)


def test_runs_of_one_kind_are_told_apart_by_their_folders(tmp_path, T):
    runs = [write_run(tmp_path / name, "neural", T) for name in ("large", "small")]
    assert [run.label for run in load_runs(runs)] == ["large", "small"]


def test_the_picture_is_drawn_for_two_and_for_three_runs(tmp_path, T):
    pytest.importorskip("matplotlib")
    runs = [write_run(tmp_path / name, name, T + k) for k, name in enumerate(("cvode", "neural", "frozen"))]
    for count in (2, 3):
        picture = tmp_path / f"{count}.png"
        compare(runs[:count], picture)
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_table_without_chemistry_has_no_speed_up(tmp_path, T):
    runs = [write_run(tmp_path / k, k, T, seconds=(s, 1.0)) for k, s in (("cvode", 5.0), ("frozen", 0.0))]
    assert column(compare(runs), "frozen")["speed-up of the chemistry"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spacing": (1e-4, 1e-4)}, "differ in grid, box or time"),
        ({"steps": (0, 50)}, "differ in grid, box or time|no snapshot of the same step"),
        ({"T": np.ones((8, 8))}, "differ in grid, box or time"),
    ],
)
def test_runs_of_other_boxes_or_times_are_refused(tmp_path, T, change, message):
    options = {"T": T, "steps": (100,)} | change
    runs = [
        write_run(tmp_path / "a", "cvode", T, steps=(100,)),
        write_run(tmp_path / "b", "neural", **options),
    ]
    with pytest.raises(UsageError, match=message):
        compare(runs)


def test_an_unfinished_run_is_compared_at_the_last_common_snapshot_and_the_title_says_so(tmp_path, T):
    runs = [
        write_run(tmp_path / "a", "cvode", T, steps=(0, 100, 200)),
        write_run(tmp_path / "b", "neural", T, steps=(0, 100), finished=False),
    ]
    assert compare(runs).title == "Runs at step 100, t = 0.1 ms; unfinished: neural"


@pytest.mark.parametrize("finished", [True, False])
def test_initial_states_are_not_compared(tmp_path, T, finished):
    runs = [
        write_run(tmp_path / "a", "cvode", T, steps=(0, 100)),
        write_run(tmp_path / "b", "neural", T, steps=(0,), finished=finished),
    ]
    reason = "another snapshot_every" if finished else f"{runs[1]} is not finished"
    with pytest.raises(UsageError, match=f"only their initial states in common: .*{reason}"):
        compare(runs)


def test_one_run_alone_is_refused(tmp_path, T):
    with pytest.raises(UsageError, match="two run folders"):
        compare([write_run(tmp_path / "a", "cvode", T)])


def test_a_folder_without_a_run_is_a_file_error(tmp_path, T):
    with pytest.raises(FileError, match="holds no run"):
        compare([write_run(tmp_path / "a", "cvode", T), tmp_path])


def test_a_damaged_history_is_a_file_error(tmp_path):
    (tmp_path / "history.csv").write_text("step,time\n1,0.5\n2,0.")
    assert read_history(tmp_path / "history.csv")["time"].tolist() == [0.5]  # a run that was killed while it wrote
    (tmp_path / "history.csv").write_text("step,time\n1\n")
    with pytest.raises(FileError, match="damaged"):
        read_history(tmp_path / "history.csv")
