"""The folder for DeepFlame, called as DeepFlame calls it: from the case folder, flat rows in, rates back."""

import ast
import atexit
import copy
import importlib
import json
import re
import shutil
import sys

import cantera as ct
import numpy as np
import pytest
import torch
from tiny_model import save_tiny_model

from chemnet.gas.canonical import AIR, premixed
from chemnet.gas.state import ONE_ATM, densities
from chemnet.gas.status import Status
from chemnet.kinetics import RosenbrockReactor
from chemnet.surrogate.deepflame.folder import FILES
from chemnet.surrogate.export import export
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.network import ACTIVATIONS

MODULES = ("inference", "chemnet_step")
STANDARD = {"__future__", "atexit", "json", "math", "os", "re", "typing"}


class DeepFlame:
    """Calls `inference` of a case folder as the C++ of DeepFlame does, for states (n, 2 + K) in the case's order.

    `interface`: `flat` rows with p in atm; `three` of these arrays, two of them empty; `step`, p in Pa and the time
    step and the rank as further arguments. Rates come back (n, K) [kg/m3/s].
    """

    def __init__(self, folder, monkeypatch, interface="flat"):
        self.folder, self.interface = folder, interface
        self.gas = ct.Solution(str(folder / "mechanism.yaml"))
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setattr(atexit, "register", lambda close: close)
        for name in MODULES:
            monkeypatch.delitem(sys.modules, name, raising=False)
        self.module = importlib.import_module("inference")
        for name in MODULES:
            monkeypatch.delitem(sys.modules, name)

    def rates(self, states, density, dt=1e-6):
        rows = np.column_stack([states, density])
        rows[:, 1] /= 1.0 if self.interface == "step" else 101325.0
        empty = np.empty(0)
        further = {"flat": (), "three": (empty, empty), "step": (dt, 0)}[self.interface]
        found = np.ascontiguousarray(self.module.inference(rows.ravel(), *further), np.float64)
        return found.ravel()[: len(states) * self.gas.n_species].reshape(len(states), self.gas.n_species)

    def log(self):
        """Rows of the log, each a number of cells by column, and its remarks."""
        lines = (self.folder / "log.chemnet").read_text(encoding="utf-8").splitlines()
        names, *rows = (line.split("\t") for line in lines if not line.startswith("#"))
        return [dict(zip(names, map(int, row), strict=True)) for row in rows], [x for x in lines if x.startswith("#")]


def set_in(path, key, value):
    """Another value of a key in a dictionary of a case."""
    text, found = re.subn(rf"(\b{key}\s+)[^;]+;", rf"\g<1>{value};", path.read_text(encoding="utf-8"))
    assert found
    path.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def model():
    return Surrogate.load("drm19-small")


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("deepflame") / "case"
    export(model, "deepflame", folder)
    return folder


@pytest.fixture
def case(exported, tmp_path):
    """A copy of the folder, so that a test may change it."""
    return shutil.copytree(exported, tmp_path / "case")


@pytest.fixture(scope="module")
def states(model):
    """Gas on its way through ignitions (400, 23), of which calm and cold gas is a part, in the model's order."""
    mechanism, exact, rows = model.mechanism, RosenbrockReactor(model.mechanism), []
    T0 = np.array([600.0, 1100.0, *np.linspace(1500.0, 1900.0, 18)])
    phi = np.linspace(0.5, 1.6, len(T0))
    Y = np.array([premixed(mechanism, one, {"CH4": 1.0}, AIR) for one in phi])
    now = np.column_stack([T0, np.full(len(T0), ONE_ATM), Y])
    for _ in range(20):
        rows.append(now)
        now = exact.advance(now, 2e-5).states
    return np.vstack(rows)


@pytest.fixture(scope="module")
def order(model, exported):
    """Places in the model's order of the species of the case."""
    gas = ct.Solution(str(exported / "mechanism.yaml"))
    return [model.mechanism.index(name) for name in gas.species_names]


def in_order(states, order):
    return np.hstack([states[:, :2], states[:, 2:][:, order]])


def expected_rates(model, states, density, order):
    after = model.advance(states).states
    return density[:, None] * (after - states)[:, 2:][:, order] / model.dt


@pytest.mark.parametrize("interface", ["flat", "three", "step"])
def test_the_rates_are_those_of_the_model_and_add_up_to_zero(interface, model, states, order, case, monkeypatch):
    set_in(case / "constant" / "CanteraTorchProperties", "calmCells", "zero")
    flow = DeepFlame(case, monkeypatch, interface)
    assert flow.gas.species_names[-1] == "N2" and flow.gas.n_reactions == 84
    density = densities(states, model.mechanism)
    rates, wanted = flow.rates(in_order(states, order), density), expected_rates(model, states, density, order)
    assert (model.advance(states).status == Status.OK).sum() > 100
    largest = np.abs(wanted).max()
    np.testing.assert_allclose(rates, wanted, rtol=0, atol=1e-3 * largest)  # 1e-2 is allowed; a cell may be just calm
    np.testing.assert_allclose(rates.sum(axis=1), 0.0, rtol=0, atol=1e-10 * largest)


def test_numpy_alone_gives_the_rates_that_torch_gives(model, states, order, case, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of it fails
    flow = DeepFlame(case, monkeypatch)
    set_in(case / "constant" / "CanteraTorchProperties", "calmCells", "zero")
    density = densities(states, model.mechanism)
    rates, wanted = flow.rates(in_order(states, order), density), expected_rates(model, states, density, order)
    np.testing.assert_allclose(rates, wanted, rtol=0, atol=1e-3 * np.abs(wanted).max())
    assert "computed by numpy" in flow.log()[1][0]


def test_no_cell_is_answered_silently(model, states, order, case, monkeypatch):
    flow = DeepFlame(case, monkeypatch)
    given = in_order(states, order)[:80]
    given[1, 1], given[2, 0], given[3, 0] = 9e5, 3499.0, 150.0  # too much pressure, too hot for its gas, invalid
    given[4, 2:] = given[4, 2:][::-1]  # a gas that no data have
    rates = flow.rates(given, np.ones(80))
    (counts,), remarks = flow.log()
    kinds = ("network", "calm", "cold", "frozen", "outside", "failed", "invalid")
    assert counts["cells"] == 80 == sum(counts[kind] for kind in kinds)
    assert (counts["outside"], counts["invalid"], counts["integrated"]) == (3, 1, 0)
    silent = (~rates.any(axis=1)).sum() - sum(counts[kind] for kind in kinds[2:])
    assert silent == 0
    assert any("3 of 80 cells are outside" in remark and "p is 900000," in remark for remark in remarks)
    flow.module._loaded[0].log.close()
    assert "outside 3" in flow.log()[1][-1]


def test_calm_gas_is_answered_by_the_network_unless_the_case_says_zero(model, states, order, case, monkeypatch):
    calm = states[model.advance(states).status == Status.SLOW]
    calm = calm[calm[:, 0] > model.cold_limit]
    assert len(calm) > 5
    flow = DeepFlame(case, monkeypatch)
    rates = flow.rates(in_order(calm, order), np.ones(len(calm)))
    wanted = expected_rates(model.with_limits(calm_limit=0.0), calm, np.ones(len(calm)), order)
    np.testing.assert_allclose(rates, wanted, rtol=0, atol=1e-3 * np.abs(wanted).max())
    assert flow.log()[0][0]["calm"] == len(calm)


def test_cells_that_the_network_refuses_can_be_left_to_cantera(model, states, order, case, monkeypatch):
    set_in(case / "constant" / "CanteraTorchProperties", "refusedCells", "cantera")
    flow = DeepFlame(case, monkeypatch)
    hot = states[-3:].copy()
    hot[:, 1] = 10 * ONE_ATM  # beyond the domain
    rates = flow.rates(in_order(hot, order), np.ones(3))
    exact = RosenbrockReactor(model.mechanism).advance(hot, model.dt).states
    wanted = (exact - hot)[:, 2:][:, order] / model.dt
    np.testing.assert_allclose(rates, wanted, rtol=0, atol=1e-3 * np.abs(wanted).max())
    assert flow.log()[0][0]["integrated"] == 3


def test_cells_that_cannot_be_closed_do_not_react_and_are_counted(model, states, order, tmp_path, monkeypatch):
    network = copy.deepcopy(model.network)
    network[-1].bias.data[5] = np.inf
    export(model.with_network(network), "deepflame", tmp_path / "broken")
    flow = DeepFlame(tmp_path / "broken", monkeypatch)
    warm = states[states[:, 0] > model.cold_limit]
    assert not flow.rates(in_order(warm, order), np.ones(len(warm))).any()
    assert flow.log()[0][0]["failed"] == len(warm)


@pytest.mark.parametrize("name", ["gelu", "silu", "relu", "tanh"])
def test_activations_of_numpy_are_those_of_torch(name, case, monkeypatch):
    DeepFlame(case, monkeypatch)
    step = importlib.import_module("chemnet_step")
    monkeypatch.delitem(sys.modules, "chemnet_step")
    x = np.linspace(-9.0, 9.0, 100_001, dtype=np.float32)
    wanted = ACTIVATIONS[name]()(torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(step.ACTIVATIONS[name](x), wanted, rtol=2e-7, atol=2e-8)


def test_a_process_without_cells_gets_no_rates(case, monkeypatch):
    assert DeepFlame(case, monkeypatch).rates(np.empty((0, 23)), np.empty(0)).shape == (0, 21)


def test_frozen_gas_does_not_react_and_is_counted(states, order, case, monkeypatch):
    set_in(case / "constant" / "CanteraTorchProperties", "frozenTemperature", "5000")
    flow = DeepFlame(case, monkeypatch)
    assert not flow.rates(in_order(states, order), np.ones(len(states))).any()
    assert flow.log()[0][0]["frozen"] == len(states)


def test_a_number_that_is_not_finite_is_named(states, order, case, monkeypatch):
    flow = DeepFlame(case, monkeypatch)
    given = in_order(states, order)
    given[7, 2 + flow.gas.species_index("CO")] = np.nan
    with pytest.raises(ValueError, match=rf"Y of CO of cell 7 .* nan \(1 of {len(given)} cells"):
        flow.rates(given, np.ones(len(given)))


@pytest.mark.parametrize(
    "file, key, value, message",
    [
        ("constant/CanteraTorchProperties", "inferenceDeltaTime", "2e-06", "inferenceDeltaTime .* is 2e-06 s"),
        ("system/controlDict", "deltaT", "5e-07", "deltaT in system/controlDict is 5e-07 s"),
        ("system/controlDict", "adjustTimeStep", "on", "adjustTimeStep is on"),
        ("constant/CanteraTorchProperties", "calmCells", "exact", "calmCells exact; there are network, zero, cantera"),
    ],
)
def test_a_case_that_does_not_fit_the_network_is_refused(file, key, value, message, states, order, case, monkeypatch):
    set_in(case / file, key, value)
    with pytest.raises(ValueError, match=message):
        DeepFlame(case, monkeypatch).rates(in_order(states[:1], order), np.ones(1))


def test_another_time_step_of_the_flow_is_refused(states, order, case, monkeypatch):
    flow = DeepFlame(case, monkeypatch, "step")
    with pytest.raises(ValueError, match="the time step of DeepFlame is 2e-06 s, but this network"):
        flow.rates(in_order(states[:1], order), np.ones(1), dt=2e-6)


def test_a_mechanism_of_another_order_is_refused(model, states, order, case, monkeypatch):
    flow = DeepFlame(case, monkeypatch)
    model.mechanism.gas().write_yaml(case / "mechanism.yaml")
    with pytest.raises(ValueError, match=r"has the species H2 .*\nbut the network has"):
        flow.rates(in_order(states[:1], order), np.ones(1))


def test_the_small_case_ignites_as_by_the_hybrid_step(model, exported, tmp_path, monkeypatch):
    """As df0DFoam: explicit rates, nitrogen by what is left, T from the enthalpy, at constant pressure."""
    folder = shutil.copytree(exported, tmp_path / "case")
    flow = DeepFlame(folder, monkeypatch)
    fields = {path.name: path.read_text(encoding="utf-8") for path in (folder / "0").iterdir()}
    value = {name: float(re.search(r"uniform ([^;(]+);", text)[1]) for name, text in fields.items() if name != "U"}
    gas = flow.gas
    gas.TPY = 1800.0, value["p"], {name: value[name] for name in gas.species_names if name in value}
    h, T, steps = gas.enthalpy_mass, [gas.T], 250
    for _ in range(steps):
        rates = flow.rates(np.hstack([gas.T, gas.P, gas.Y])[None], np.array([gas.density]))[0]
        Y = np.maximum(gas.Y + rates * model.dt / gas.density, 0.0)
        Y[-1] = 1.0 - Y[:-1].sum()
        gas.HPY = h, value["p"], Y
        T.append(gas.T)
    start = np.hstack([1800.0, value["p"], [value.get(name, 0.0) for name in model.mechanism.species_names]])
    now, reference = start[None], [1800.0]
    for _ in range(steps):
        now = RosenbrockReactor(model.mechanism).advance(now, model.dt).states
        reference.append(now[0, 0])
    delay, exact = np.diff(T).argmax(), np.diff(reference).argmax()
    assert abs(delay - exact) <= 2 and exact > 100
    assert abs(T[-1] - reference[-1]) < 10.0


@pytest.mark.parametrize("name", MODULES)
def test_the_files_for_deepflame_are_python_3_8_and_need_numpy_alone(name):
    tree = ast.parse((FILES / f"{name}.py").read_text(encoding="utf-8"), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported - STANDARD <= {"numpy", "chemnet_step", "torch", "cantera"}
    needed = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    assert needed - STANDARD == {"numpy"}


def test_the_mechanism_has_the_form_of_cantera_2_6(exported):
    text = (exported / "mechanism.yaml").read_text(encoding="utf-8")
    assert re.search(r"^\s+kinetics: gas$", text, flags=re.MULTILINE) and "bulk" not in text


def test_the_folder_says_whether_the_network_is_sound_alone(model, exported, tmp_path, capsys):
    assert "the network is sound without its integrator: error of T" in (exported / "README.md").read_text("utf-8")
    export(model.with_calm_first("widest"), "deepflame", tmp_path / "wide")
    assert "the network is NOT SOUND without its integrator" in (tmp_path / "wide" / "README.md").read_text("utf-8")
    with np.load(tmp_path / "wide" / "model.npz") as file:
        assert "NOT SOUND" in json.loads(str(file["facts"]))["remarks"][-1]
    assert "NOT SOUND" in capsys.readouterr().err


@pytest.mark.parametrize("mechanism, bath", [("h2o2.yaml", "N2"), ("gri30.yaml", "N2")])
def test_a_model_that_does_not_say_what_it_burns_is_exported_without_fields(mechanism, bath, tmp_path):
    model = Surrogate.load(save_tiny_model(tmp_path / "tiny.safetensors", 1e-6, mechanism))
    files = export(model, "deepflame", tmp_path / "case")
    assert not (tmp_path / "case" / "0").exists() and tmp_path / "case" / "Allrun" in files
    assert ct.Solution(str(tmp_path / "case" / "mechanism.yaml")).species_names[-1] == bath
    assert "not measured" in (tmp_path / "case" / "README.md").read_text("utf-8")
    left = [path for path in (tmp_path / "case").rglob("*") if path.is_file() and b"@name" in path.read_bytes()]
    assert not left
