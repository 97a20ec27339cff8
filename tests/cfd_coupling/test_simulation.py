"""A run as a whole: what its folder holds, what it conserves, what it refuses, and what it leaves when it fails."""

import json
import re

import numpy as np
import pytest
from flow_states import assert_same_run

from cfd_coupling import simulation
from cfd_coupling.checkpoint import checkpoints
from cfd_coupling.chemistry import KINDS, Frozen
from cfd_coupling.compare import read_history
from cfd_coupling.config import load_case
from cfd_coupling.fields import interior
from cfd_coupling.output import read_image, snapshots
from cfd_coupling.parallel import Communicator
from cfd_coupling.simulation import RunOptions
from chemnet.gas.mechanism import load_mechanism
from chemnet.runtime.errors import FileError, NumericalError, UsageError

SMALL = (
    "grid.nx=32",
    "grid.ny=24",
    "grid.length_x=1.5e-3",
    "grid.length_y=1.125e-3",
    "initial.kernel_radius=2e-4",
    "initial.integral_length=5e-4",
    "end_time=5e-6",
    "output.history_every=2",
    "output.snapshot_every=2",
    "output.log_every=2",
    "output.fields=[T, rho, CH4]",
)


def run(folder, *assignments, overwrite=False):
    case = load_case("turbulent_ignition", assignments=[*SMALL, *assignments])
    return simulation.run(case, folder, Communicator(), overwrite)


@pytest.fixture(scope="module")
def reacting(tmp_path_factory):
    """Five steps of a small kernel with CVODE."""
    return run(tmp_path_factory.mktemp("runs") / "reacting")


def test_the_run_folder_holds_everything_that_was_asked_for(reacting):
    manifest = json.loads((reacting / "manifest.json").read_text())
    assert (manifest["kind"], manifest["finished"], manifest["steps"]) == ("run", True, 5)
    assert [path.stem for path in snapshots(reacting / "snapshots")] == ["0000000", "0000002", "0000004", "0000005"]
    assert read_history(reacting / "history.csv")["step"].tolist() == [0.0, 2.0, 4.0, 5.0]
    log = (reacting / "log.txt").read_text().splitlines()
    assert "32 x 24 cells" in log[0] and "drm19" in log[1] and "1 rank on" in log[2] and str(reacting) in log[2]
    assert [line.split()[1] for line in log[3:6]] == ["2/5", "4/5", "5/5"]
    assert log[6].startswith("finished: 5 steps") and "paraview" in log[7] and len(log) == 8
    assert manifest["history_units"]["T_max"] == "K"
    assert load_case(reacting / "case.yaml") == load_case("turbulent_ignition", assignments=SMALL)


def test_the_last_snapshot_is_at_end_time(reacting):
    last = read_image(snapshots(reacting / "snapshots")[-1])
    assert last.time == pytest.approx(5e-6, rel=1e-12, abs=0.0)
    assert last.arrays["T"].shape == (24, 32)


def test_a_closed_box_keeps_mass_elements_and_energy(reacting):
    history = read_history(reacting / "history.csv")
    drifts = {name: np.abs(values).max() for name, values in history.items() if name.startswith("drift_")}
    assert set(drifts) == {"drift_mass", "drift_energy", *(f"drift_mass_{e}" for e in ("O", "H", "C", "N", "Ar"))}
    assert max(drifts.values()) <= 1e-12


def test_heat_release_is_what_the_enthalpies_of_formation_lose(reacting):
    """Oracle: Cantera's enthalpies at 298.15 K times the fuel and product masses between the first and last row."""
    history = read_history(reacting / "history.csv")
    released = np.sum(history["heat_release"][1:] * np.diff(history["time"]))
    gas = load_mechanism("drm19").gas()
    gas.TP = 298.15, 101325.0
    formation = gas.standard_enthalpies_RT * 8314.462618 * 298.15 / gas.molecular_weights
    case = load_case("turbulent_ignition", assignments=[*SMALL, f"output.fields={[*gas.species_names, 'rho']}"])
    folder = simulation.run(case, reacting.parent / "species", Communicator())
    first, last = (read_image(snapshots(folder / "snapshots")[k]) for k in (0, -1))
    lost = sum(
        formation[k] * ((s.arrays["rho"] * s.arrays[name]).sum() * s.dx * s.dy * sign)
        for s, sign in ((first, 1.0), (last, -1.0))
        for k, name in enumerate(gas.species_names)
    )
    assert released == pytest.approx(lost, rel=1e-6, abs=0.0)


def test_cells_of_all_kinds_add_up_to_the_box(reacting):
    history = read_history(reacting / "history.csv")
    total = sum(history[f"cells_{kind}"] for kind in KINDS)
    assert total[1:].tolist() == [24 * 32] * 3
    assert history["cells_cvode"][-1] > 0


def test_a_finished_run_is_not_overwritten_unless_told(reacting):
    before = {path: path.read_bytes() for path in reacting.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="holds a finished run; add --overwrite"):
        run(reacting, "chemistry.kind=frozen")
    assert {path: path.read_bytes() for path in reacting.rglob("*") if path.is_file()} == before


def test_a_finished_run_is_replaced_when_told(tmp_path):
    run(tmp_path / "a", "chemistry.kind=frozen", "end_time=3e-6")
    run(tmp_path / "a", "chemistry.kind=frozen", "end_time=1e-6", overwrite=True)
    assert json.loads((tmp_path / "a" / "manifest.json").read_text())["steps"] == 1
    assert len(snapshots(tmp_path / "a" / "snapshots")) == 2


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="holds no run"):
        run(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("assignment", ["grid.ny=2", "output.fields=[Temperature]", "mechanism=drm20"])
def test_a_set_up_that_fails_writes_nothing(tmp_path, assignment):
    with pytest.raises(UsageError):
        run(tmp_path / "a", assignment)
    assert list(tmp_path.iterdir()) == []


def test_a_value_that_is_not_finite_stops_the_run_in_its_step(tmp_path, monkeypatch):
    unbroken = Frozen.apply

    def poisoned(self, fields, dt):
        if fields.step == 2:
            interior(fields.T)[3, 4] = np.nan
            interior(fields.h)[3, 4] = np.nan
        return unbroken(self, fields, dt)

    monkeypatch.setattr(Frozen, "apply", poisoned)
    with pytest.raises(NumericalError):
        run(tmp_path / "a", "chemistry.kind=frozen")
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert manifest["finished"] is False
    assert read_image(snapshots(tmp_path / "a" / "snapshots")[-1]).step == 2


def test_an_unfinished_run_is_replaced(tmp_path):
    (tmp_path / "a" / "snapshots").mkdir(parents=True)
    (tmp_path / "a" / "manifest.json").write_text('{"kind": "run", "finished": false}')
    run(tmp_path / "a", "chemistry.kind=frozen", "end_time=1e-6")
    assert json.loads((tmp_path / "a" / "manifest.json").read_text())["finished"] is True


def resume(folder, *assignments):
    case = load_case(folder, assignments=assignments)
    return simulation.set_up(case, folder, Communicator(), RunOptions(resume=True)).run()


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


FROZEN = "chemistry.kind=frozen"


@pytest.mark.parametrize("kind", ["exact", "frozen"])
def test_two_halves_are_the_whole_bit_for_bit(tmp_path, kind):
    """The first half ends between two rows and two snapshots of the whole."""
    chemistry = f"chemistry.kind={kind}"
    whole = run(tmp_path / "whole", chemistry, "end_time=8e-6")
    parts = run(tmp_path / "parts", chemistry, "end_time=3e-6")
    assert read_history(parts / "history.csv")["step"].tolist() == [0.0, 2.0, 3.0]
    assert resume(parts, "end_time=8e-6").finished
    assert_same_run(whole, parts)
    assert manifest(parts)["finished"] is True and manifest(parts)["steps"] == 8
    assert load_case(parts / "case.yaml") == load_case(whole / "case.yaml")


def test_a_run_stops_by_a_file_and_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    whole = run(tmp_path / "whole", FROZEN)
    unbroken = Frozen.apply

    def touch(self, fields, dt):
        if fields.step == 2:
            (tmp_path / "parts" / "STOP").touch()
        return unbroken(self, fields, dt)

    monkeypatch.setattr(Frozen, "apply", touch)
    case = load_case("turbulent_ignition", assignments=[*SMALL, FROZEN])
    summary = simulation.set_up(case, tmp_path / "parts", Communicator()).run()
    assert (summary.step, summary.finished, summary.exit_code) == (3, False, 75)
    assert "--resume" in summary.text() and str(tmp_path / "parts") in summary.text()
    assert manifest(tmp_path / "parts")["finished"] is False and not (tmp_path / "parts" / "run.lock").exists()
    with pytest.raises(UsageError, match="unfinished run with a checkpoint at step 3;\ngo on with --resume"):
        run(tmp_path / "parts", FROZEN)
    monkeypatch.setattr(Frozen, "apply", unbroken)
    assert resume(tmp_path / "parts").exit_code == 0
    assert_same_run(whole, tmp_path / "parts")


def test_a_damaged_last_checkpoint_costs_one_interval_and_no_bit(tmp_path, capsys):
    whole = run(tmp_path / "whole", FROZEN)
    folder = run(tmp_path / "a", FROZEN, "output.checkpoint_every=2", "output.keep_checkpoints=3")
    assert [path.stem[-1] for path in checkpoints(folder / "checkpoints")] == ["2", "4", "5"]
    assert "checkpoint at step 2\n" in (folder / "log.txt").read_text()
    for path in checkpoints(folder / "checkpoints")[1:]:
        path.write_bytes(path.read_bytes()[:1000])
    capsys.readouterr()
    resume(folder)
    assert_same_run(whole, folder)
    shown = capsys.readouterr().out
    assert shown.count("warning: ") == 2 and "going on from" in shown and "step_0000002.h5" in shown


def test_a_finished_run_says_so_and_stays_as_it_is(tmp_path, capsys):
    folder = run(tmp_path / "a", FROZEN)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "log.txt"}
    assert resume(folder).exit_code == 0
    assert "is finished at step 5; to go on, add --set end_time=" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("dt=5e-7", "of another run: case.dt was 1e-06, is 5e-07"),
        ("grid.nx=36", "case.grid.nx was 32, is 36"),
        ("chemistry.kind=exact", "case.chemistry.kind was frozen, is exact"),
        ("mixture.phi=0.8", "case.mixture.phi was 1.0, is 0.8"),
        ("end_time=2e-6", "is of step 5, end_time is at step 2"),
    ],
)
def test_a_checkpoint_of_another_case_is_refused_with_the_first_difference(tmp_path, change, message):
    folder = run(tmp_path / "a", FROZEN)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=re.escape(message)):
        resume(folder, change)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_checkpoint_of_another_mechanism_or_model_is_refused(tmp_path, monkeypatch):
    folder = run(tmp_path / "a", FROZEN)
    for facts in ({"mechanism_sha256": "0" * 64}, {"model_sha256": "1" * 64}):
        with monkeypatch.context() as patch:
            patch.setattr(simulation, "chemistry_facts", lambda config, facts=facts: facts)
            with pytest.raises(UsageError, match=f"of another run: {next(iter(facts))} was"):
                resume(folder)


def test_a_resume_without_a_checkpoint_is_a_file_error(tmp_path):
    folder = run(tmp_path / "a", FROZEN)
    for path in checkpoints(folder / "checkpoints"):
        path.unlink()
    with pytest.raises(FileError, match="no checkpoint in .* to resume from\nGive the folder of the run"):
        resume(folder)


def test_after_a_numerical_failure_the_last_good_checkpoint_is_there(tmp_path, monkeypatch):
    unbroken = Frozen.apply

    def poisoned(self, fields, dt):
        if fields.step == 3:
            interior(fields.scalars)[5, 7, 9] = np.nan
        return unbroken(self, fields, dt)

    monkeypatch.setattr(Frozen, "apply", poisoned)
    names = load_mechanism("drm19").species_names
    where = re.escape(f"{names[5]} is no number in cell (row 7, column 9), step 4, rank 0")
    with pytest.raises(NumericalError, match=where):
        run(tmp_path / "a", FROZEN, "output.checkpoint_every=1")
    monkeypatch.setattr(Frozen, "apply", unbroken)
    assert [path.stem[-1] for path in checkpoints(tmp_path / "a" / "checkpoints")] == ["2", "3"]
    resume(tmp_path / "a")
    assert_same_run(run(tmp_path / "whole", FROZEN), tmp_path / "a")
