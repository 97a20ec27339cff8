"""The shipped cases and the command that runs them: they parse, run small, and fail as a command should."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from flow_states import assert_same_run
from tiny_model import save_tiny_model
from tracked import tracked

from cfd_coupling.__main__ import default_folder, main
from cfd_coupling.compare import read_history
from cfd_coupling.config import load_case, variant_names
from cfd_coupling.gas import Gas
from cfd_coupling.initial import kinematic_viscosity, unburnt
from cfd_coupling.output import read_image, snapshots
from chemnet.gas.mechanism import load_mechanism

CASES = [path.parent for path in tracked("cases/*/case.yaml")]
MPIEXEC = Path(sys.executable).parent / "mpiexec"
needs_mpi = pytest.mark.skipif(not MPIEXEC.exists(), reason="needs mpiexec of the mpich wheel")
SMALL = ("--variant", "demo", "--set", "grid.nx=32", "--set", "grid.ny=24", "--set", "end_time=4e-6",
         "--set", "output.history_every=2")  # fmt: skip


def launch(ranks, *command, timeout=120.0):
    """Run Python on several ranks as a user would, and return the finished process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [str(MPIEXEC), "-n", str(ranks), sys.executable, *command]
    return subprocess.run(words, capture_output=True, text=True, timeout=timeout, env=environment)


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_every_case_and_variant_parses_and_has_a_readme(folder):
    for variant in [None, *variant_names(folder)]:
        assert load_case(folder, variant).n_steps > 0
    assert f"python -m cfd_coupling run cases/{folder.name}" in (folder / "README.md").read_text()


@pytest.fixture(scope="module")
def ignited(tmp_path_factory):
    """Run folders of a few steps of the turbulent ignition, by kind of chemistry."""
    folders = {kind: tmp_path_factory.mktemp("ignited") / kind for kind in ("frozen", "exact", "cvode")}
    for kind, out in folders.items():
        words = ["--set", f"chemistry.kind={kind}", "--out", str(out)]
        assert main(["run", "cases/turbulent_ignition", *SMALL, *words]) == 0
    return folders


@pytest.mark.parametrize("kind", ["frozen", "exact", "cvode"])
def test_turbulent_ignition_runs(ignited, kind):
    history = read_history(ignited[kind] / "history.csv")
    assert history["T_max"][-1] > 1500.0
    assert history["p0"][-1] != history["p0"][0]
    assert history[f"cells_{kind}"][-1] > 0 and history["cells_retried"].max() == 0


def test_both_integrators_give_the_same_flow(ignited):
    T = {kind: last_fields(folder)["T"] for kind, folder in ignited.items()}
    np.testing.assert_allclose(T["exact"], T["cvode"], rtol=0.0, atol=1e-3)
    assert np.abs(T["frozen"] - T["cvode"]).max() > 0.2


def last_fields(folder):
    return read_image(snapshots(folder / "snapshots")[-1]).arrays


FLAME_SPEED = 0.3964  # [m/s] Cantera's FreeFlame extrapolated to an infinitely fine grid: cases/free_flame/reference.py


def flame_speeds(out, *words):
    """Times [s] and consumption speeds [m/s] of a run of the free flame by the exact integrator, at constant p0."""
    assert main(["run", "cases/free_flame", "--set", "chemistry.kind=exact", "--out", str(out), *words]) == 0
    history = read_history(out / "history.csv")
    assert (history["p0"] == 101325.0).all()
    return history["time"], history["consumption_speed"]


def test_the_free_flame_burns_at_cantera_s_flame_speed_to_one_per_cent_after_its_first_steps(tmp_path):
    time, speed = flame_speeds(tmp_path / "a", "--variant", "short")
    assert len(time) == 5
    np.testing.assert_allclose(speed[2:], FLAME_SPEED, rtol=0.01, atol=0.0)  # the first row is that of the first steps


@pytest.mark.slow
def test_the_free_flame_that_has_relaxed_burns_at_cantera_s_flame_speed_to_one_per_cent(tmp_path):
    """A minute: the whole case."""
    time, speed = flame_speeds(tmp_path / "a")
    np.testing.assert_allclose(speed[time > 0.8e-3].mean(), FLAME_SPEED, rtol=0.01, atol=0.0)


@pytest.mark.parametrize("words", [("--variant", "short"), pytest.param((), marks=pytest.mark.slow)])
def test_a_flame_stands_in_a_stream_of_its_own_speed_and_burns_at_it(tmp_path, words):
    out = tmp_path / "a"
    assert main(["run", "cases/standing_flame", "--out", str(out), *words]) == 0
    history = read_history(out / "history.csv")
    speed = history["consumption_speed"][history["time"] > 0.8 * history["time"][-1]]
    np.testing.assert_allclose(speed.mean(), FLAME_SPEED, rtol=0.01, atol=0.0)
    np.testing.assert_allclose(history["mass_leaving"][-1], history["mass_entering"][-1], rtol=0.02, atol=0.0)
    np.testing.assert_allclose(history["drift_mass"], 0.0, rtol=0.0, atol=1e-13)
    before, after = (front(read_image(path).arrays["T"]) for path in (snapshots(out / "snapshots")[i] for i in (0, -1)))
    assert abs(after - before) < (0.1 if words else 0.5)


def front(T):
    """Row of cells, with its fraction, where a plane flame is at 1200 K."""
    along_y = np.squeeze(T)[:, 0]
    return np.interp(1200.0, along_y, np.arange(len(along_y)))


@pytest.mark.parametrize("words", [("--variant", "short"), pytest.param((), marks=pytest.mark.slow)])
def test_a_jet_keeps_mass_its_symmetry_and_when_settled_its_momentum(tmp_path, words):
    out = tmp_path / "a"
    assert main(["run", "cases/jet", "--out", str(out), *words]) == 0
    history, last = read_history(out / "history.csv"), last_fields(out)
    np.testing.assert_allclose(history["drift_mass"], 0.0, rtol=0.0, atol=1e-13)
    assert history["residual"].max() <= 1e-11
    rho, p, v = (np.squeeze(q) for q in (last["rho"], last["p"], last["velocity"][..., 1]))
    np.testing.assert_allclose(v, v[:, ::-1], rtol=0.0, atol=1e-8)
    if not words:  # long enough to settle
        np.testing.assert_allclose(history["mass_leaving"][-1], history["mass_entering"][-1], rtol=1e-5, atol=0.0)
        momentum = (rho * v**2 + p)[2:-2].mean(axis=1)
        np.testing.assert_allclose(momentum, momentum.mean(), rtol=1e-3, atol=0.0)


def test_kinetic_energy_of_taylor_green_converges_with_second_order(tmp_path):
    """Oracle: exp(-4 nu k^2 t)."""
    errors = []
    for n in (16, 32):
        out = tmp_path / str(n)
        words = [f"--set=grid.nx={n}", f"--set=grid.ny={n}", "--set=dt=1e-5"]
        assert main(["run", "cases/taylor_green", *words, "--out", str(out)]) == 0
        history = read_history(out / "history.csv")
        errors.append(abs(history["kinetic_energy"][-1] / history["kinetic_energy"][0] - taylor_green_decay()))
        assert history["residual"].max() <= 1e-11
    assert np.log2(errors[0] / errors[1]) >= 1.9


def taylor_green_decay() -> float:
    """Kinetic energy at end_time over that at the start, exactly, with the viscosity that the solver uses."""
    case = load_case("cases/taylor_green")
    k = 2.0 * np.pi / case.grid.length_x
    return float(np.exp(-4.0 * case_viscosity(case) * k**2 * case.end_time))


def case_viscosity(case) -> float:
    """Kinematic viscosity [m2/s] of a case's unburnt gas."""
    mechanism, mixture = load_mechanism(case.mechanism), case.mixture
    gas = Gas.from_mechanism(mechanism)
    return kinematic_viscosity(gas, unburnt(mechanism, mixture), mixture.temperature, mixture.pressure)


def test_kinetic_energy_of_the_channel_converges_with_second_order(tmp_path):
    """Oracle: exp(-2 nu (pi/H)^2 t)."""
    case, errors = load_case("cases/channel", "short"), []
    rate = 2.0 * case_viscosity(case) * (np.pi / case.grid.length_y) ** 2
    for n in (8, 16):
        out = tmp_path / str(n)
        assert main(["run", "cases/channel", "--variant", "short", f"--set=grid.ny={n}", "--out", str(out)]) == 0
        history = read_history(out / "history.csv")
        energy = history["kinetic_energy"] / history["kinetic_energy"][0]
        errors.append(np.abs(energy - np.exp(-rate * history["time"])).max())
        drift = [np.abs(history[name]).max() for name in history if name.startswith("drift_")]
        assert len(drift) >= 5 and max(drift) < 1e-13
    assert np.log2(errors[0] / errors[1]) >= 1.9


@needs_mpi
@pytest.mark.parametrize("kind", ["exact", "cvode"])
def test_two_ranks_give_the_history_and_the_fields_of_one(tmp_path, ignited, kind):
    """Both from the cache of kernels, which `ignited` has filled: a process that compiles one itself may inline and
    fuse it differently, in the last bit."""
    words = ["-m", "cfd_coupling", "run", "cases/turbulent_ignition", *SMALL, "--set", f"chemistry.kind={kind}"]
    folders = [tmp_path / "one", tmp_path / "two"]
    for ranks, folder in enumerate(folders, start=1):
        finished = launch(ranks, *words, "--out", str(folder))
        assert finished.returncode == 0, finished.stderr
        assert "step     4/4" in finished.stdout
    assert_same_run(*folders)
    assert json.loads((tmp_path / "two" / "manifest.json").read_text())["ranks"] == 2


POISONED = """
import os, sys
from cfd_coupling import chemistry
from cfd_coupling.__main__ import default_folder, main

unbroken = chemistry.Frozen.apply

def apply(self, fields, dt):
    if fields.step == 2 and os.environ["PMI_RANK"] == "1":
        raise ValueError("broken on purpose")
    return unbroken(self, fields, dt)

chemistry.Frozen.apply = apply
sys.exit(main(sys.argv[1:]))
"""


@needs_mpi
def test_an_error_on_one_rank_ends_the_job_and_names_rank_and_step(tmp_path):
    script = tmp_path / "poisoned.py"
    script.write_text(POISONED)
    words = ["run", "cases/turbulent_ignition", *SMALL, "--set", "chemistry.kind=frozen", "--out", str(tmp_path / "a")]
    finished = launch(2, str(script), *words)
    assert finished.returncode != 0
    assert "[rank 1] step 3: broken on purpose" in finished.stderr


BAD_INPUT = {
    "unknown key": (["--set", "chemisty.kind=cvode"], 2, "did you mean chemistry?"),
    "unknown variant": (["--variant", "dmo"], 2, "did you mean demo?"),
    "unknown mechanism": (["--set", "mechanism=drm20"], 2, "no mechanism drm20"),
    "unknown field": (["--set", "output.fields=[Temperature]"], 2, "no field Temperature"),
    "unknown fuel": (["--set", "mixture.fuel={C9H20: 1}"], 2, "C9H20"),
    "too few rows": (["--set", "grid.ny=2"], 2, "rows"),
    "negative step": (["--set", "dt=-1"], 2, "dt"),
    "missing model": (["--set", "chemistry.kind=neural", "--set", "chemistry.model=no-such-model"], 4, "no-such-model"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_told_in_three_lines_with_its_exit_code_and_writes_nothing(name, tmp_path, capfd):
    words, code, expected = BAD_INPUT[name]
    out = tmp_path / "out"
    assert main(["run", "cases/turbulent_ignition", *words, "--out", str(out)]) == code
    message = capfd.readouterr().err
    assert expected in message
    assert 1 <= len(message.strip().splitlines()) <= 3
    assert not out.exists()


def test_a_model_of_another_time_step_is_told_in_three_lines(tmp_path, capfd):
    model, out = save_tiny_model(tmp_path / "tiny.safetensors", dt=3e-6), tmp_path / "out"
    words = ["--set", "chemistry.kind=neural", "--set", f"chemistry.model={model}", "--out", str(out)]
    assert main(["run", "cases/turbulent_ignition", *words]) == 2
    message = capfd.readouterr().err
    assert "dt = 1e-06 s is no multiple of the model's time step, 3e-06 s" in message
    assert len(message.strip().splitlines()) <= 3
    assert not out.exists()


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ([], "case-exact"),
        (["chemistry.kind=cvode", "output.log_every=7"], "case-cvode"),
        (["mixture.phi=0.8"], "case-exact-mixture.phi=0.8"),
        (["mixture.phi=0.7", "grid.nx=64", "mixture.phi=0.8"], "case-exact-grid.nx=64-mixture.phi=0.8"),
        (["mixture.fuel={CH4: 1, H2: 0.5}"], "case-exact-mixture.fuel=_CH4_1_H2_0.5"),
        (["chemistry.model=a/b.safetensors"], "case-exact-chemistry.model=a_b.safetensors"),
    ],
)
def test_the_default_folder_tells_runs_of_other_settings_apart(changes, name):
    kind = "cvode" if "chemistry.kind=cvode" in changes else "exact"
    case = SimpleNamespace(name="case", chemistry=SimpleNamespace(kind=kind))
    assert default_folder(case, changes) == Path("runs") / name


def test_a_run_of_another_mixture_goes_beside_the_demo(tmp_path, monkeypatch, capsys):
    cases = CASES[0].parent
    monkeypatch.chdir(tmp_path)
    for words in ([], ["--set", "mixture.phi=0.8"]):
        case = ["run", str(cases / "turbulent_ignition"), *SMALL, "--set", "chemistry.kind=frozen", *words]
        assert main(case) == 0
    assert sorted(path.name.partition("frozen")[2].count("phi=0.8") for path in (tmp_path / "runs").iterdir()) == [0, 1]
    assert main(case) == 2
    assert "holds a finished run" in capsys.readouterr().err


def test_totals_are_written_as_json_and_to_standard_output(tmp_path, capsys):
    case = ["run", "cases/turbulent_ignition", *SMALL, "--set", "chemistry.kind=frozen", "--overwrite"]
    for file in (str(tmp_path / "totals.json"), "-"):
        assert main([*case, "--out", str(tmp_path / "a"), "--json", file]) == 0
        shown = capsys.readouterr()
    for content in (json.loads((tmp_path / "totals.json").read_text()), json.loads(shown.out)):
        assert content["command"].startswith("python -m cfd_coupling run cases/turbulent_ignition")
        totals = {row["quantity"]: row["value"] for row in content["tables"][0]["rows"]}
        assert (totals["steps"], totals["ended by"], totals["ranks"]) == (4, "end_time", 1)
        assert totals["largest drift of mass, elements, energy"] < 1e-12
    assert "finished: 4 steps" in shown.err


def test_a_folder_that_cannot_be_made_is_told_in_two_lines_with_4(tmp_path, capfd):
    (tmp_path / "file").write_text("in the way")
    assert main(["run", "cases/turbulent_ignition", *SMALL, "--out", str(tmp_path / "file" / "run")]) == 4
    message = capfd.readouterr().err
    assert message.startswith(f"cfd_coupling: Not a directory: {tmp_path / 'file' / 'run'}")
    assert len(message.splitlines()) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_told_with_4_and_stays_as_it_is(tmp_path, capfd):
    out = tmp_path / "a"
    case = ["run", "cases/turbulent_ignition", *SMALL, "--set", "chemistry.kind=frozen", "--out", str(out)]
    assert main(case) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    out.chmod(0o555)
    try:
        for words in (["--overwrite"], ["--resume", "--set", "end_time=5e-6"]):
            assert main([*case, *words]) == 4
            assert f"Permission denied: {out}" in capfd.readouterr().err
    finally:
        out.chmod(0o755)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


BAD_COMMANDS = {
    "minutes": (["--max-minutes", "-3"], 2, "positive number of minutes"),
    "both": (["--resume", "--overwrite"], 2, "not allowed with argument"),
    "nothing to resume": (["--resume"], 4, "no checkpoint in"),
    "misspelled field": (["--set", "output.fields=[vortcity]"], 2, "did you mean vorticity"),
    "misspelled key": (["--set", "output.checkpoint_evry=3"], 2, "did you mean checkpoint_every"),
    "none kept": (["--set", "output.keep_checkpoints=0"], 2, "greater than 0"),
}


@pytest.mark.parametrize("name", BAD_COMMANDS)
def test_bad_requests_are_told_in_three_lines_with_their_exit_code(name, tmp_path, capfd):
    words, code, expected = BAD_COMMANDS[name]
    assert main(["run", "cases/turbulent_ignition", *words, "--out", str(tmp_path / "out")]) == code
    message = capfd.readouterr().err
    assert expected in message and len(message.strip().splitlines()) <= 3
    assert not list(tmp_path.iterdir())


def test_a_missing_case_is_a_file_error(capfd):
    assert main(["run", "cases/no_such_case"]) == 4
    assert "no case cases/no_such_case" in capfd.readouterr().err


@needs_mpi
def test_too_few_rows_for_the_ranks_is_told_once(tmp_path):
    out = tmp_path / "out"
    finished = launch(
        2, "-m", "cfd_coupling", "run", "cases/turbulent_ignition", "--set", "grid.ny=5", "--out", str(out)
    )
    assert finished.returncode == 2
    assert len(finished.stderr.strip().splitlines()) <= 3
    assert finished.stderr.count("on 2 ranks") == 1


def test_help_loads_nothing_heavy():
    check = (
        "import sys, cfd_coupling.__main__ as m; m.parser().format_help(); "
        "print(sorted({'numpy', 'numba', 'cantera', 'torch', 'pydantic', 'h5py', 'mpi4py'} & set(sys.modules)))"
    )
    finished = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


def test_info_prints_a_case_that_reads_back(tmp_path, capsys):
    assert main(["info", "cases/turbulent_ignition", "--variant", "demo"]) == 0
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    assert load_case(tmp_path / "printed.yaml") == load_case("cases/turbulent_ignition", "demo")
