"""A run as a whole: what its folder holds, what it conserves, what it refuses, and what it leaves when it fails."""

import json

import numpy as np
import pytest

from cfd_coupling import simulation
from cfd_coupling.chemistry import KINDS, Frozen
from cfd_coupling.compare import read_history
from cfd_coupling.config import load_case
from cfd_coupling.fields import interior
from cfd_coupling.output import read_image, snapshots
from cfd_coupling.parallel import Communicator
from chemnet.gas.mechanism import load_mechanism
from chemnet.runtime.errors import NumericalError, UsageError

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
