"""Sampling: the content follows from the recipe alone, rows are valid and lawful, damage is noticed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cantera as ct
import h5py
import numpy as np
import pytest
from small_recipe import SMALL, assert_same_content, small_recipe

from chemnet.cli import main as cli
from chemnet.data import dataset, sampling
from chemnet.data.augmentation import Drawer, perturb, set_temperatures
from chemnet.data.recipe import KINDS, SOURCES, load_recipe, stored_recipe
from chemnet.gas import canonical, state
from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.status import Status
from chemnet.kinetics import RosenbrockReactor
from chemnet.kinetics.cvodes import CvodesReactor
from chemnet.runtime.config import dump_yaml
from chemnet.runtime.errors import ChemnetError, FileError, UsageError
from chemnet.runtime.files import write_text
from chemnet.runtime.processes import ordered_map


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    path = tmp_path_factory.mktemp("sampled") / "states.h5"
    sampling.sample(small_recipe(), path, report=lambda line: None)
    return path


def test_rows_are_valid_states_and_none_is_lost(sampled):
    pairs, facts = dataset.read(sampled), dataset.read_attributes(sampled)
    assert len(pairs) == facts["rows"] == 240 and facts["lost"] == facts["retried"] == 0
    assert 0.0 <= facts["raw_drift"] < 1e-5
    assert state.valid_rows(pairs.states).all() and state.valid_rows(pairs.next_states).all()
    assert len(np.unique(pairs.states, axis=0)) > 230  # a sampler that repeats one row would have few


def test_every_kind_is_there_and_both_sides_of_the_split_share_no_path(sampled):
    pairs = dataset.read(sampled)
    assert set(pairs.kind) == set(range(len(KINDS)))
    assert not set(pairs.group[pairs.split == 0]) & set(pairs.group[pairs.split == 1])
    assert 0.02 < pairs.split.mean() < 0.5


def test_paths_flames_and_burnt_gas_have_one_of_the_oxidizers_and_mixtures_what_lies_between(sampled):
    """Argon per nitrogen [kg/kg] by Cantera's weights: none, or that of air; the recipe halves the rows."""
    pairs, mechanism = dataset.read(sampled), load_mechanism("h2o2.yaml")
    weight, index = mechanism.molecular_weights, mechanism.index
    ratio = pairs.states[:, 2 + index("AR")] / pairs.states[:, 2 + index("N2")]
    air = 0.0093 * weight[index("AR")] / (0.7812 * weight[index("N2")])
    plain = pairs.kind < len(SOURCES)
    with_argon = np.isclose(ratio[plain], air, rtol=1e-5, atol=0)
    assert (with_argon | (ratio[plain] < 1e-12)).all() and 0.05 < with_argon.mean() < 0.95
    mixed = ratio[pairs.kind == KINDS.index("mixed")]
    assert ((mixed > 0.1 * air) & (mixed < 0.9 * air)).any() and mixed.max() < 1.0001 * air


@pytest.mark.parametrize(("kind", "reactor"), [("exact", RosenbrockReactor), ("cvode", CvodesReactor)])
def test_labels_are_those_of_the_integrator_at_the_recipes_tolerances(sampled, tmp_path, kind, reactor):
    recipe = small_recipe(f"integrator.kind={kind}", "integrator.audit=0")
    if kind == "cvode":
        sampled = tmp_path / "states.h5"
        sampling.sample(recipe, sampled, report=lambda line: None)
        assert len(dataset.read_audit(sampled).row) == dataset.read_attributes(sampled)["audit_rows"] == 0
    pairs = dataset.read(sampled)
    assert dataset.read_attributes(sampled)["integrator"] == kind
    step = reactor(load_mechanism("h2o2.yaml"), rtol=recipe.integrator.rtol, atol=recipe.integrator.atol)
    some = slice(0, 240, 10)
    expected, _ = step.advance(pairs.states[some], recipe.dt)
    np.testing.assert_array_equal(pairs.next_states[some], expected)
    lost = state.elements(pairs.next_states, step.mechanism) - state.elements(pairs.states, step.mechanism)
    np.testing.assert_allclose(lost, 0.0, rtol=0, atol=1e-12)


def test_audited_rows_are_kept_with_their_difference_from_cvodes_and_info_tells_them(sampled, capsys):
    pairs, found, facts = dataset.read(sampled), dataset.read_audit(sampled), dataset.read_attributes(sampled)
    assert len(found.row) == facts["audit_rows"] == len(set(found.row)) == 12  # 5 % of 240
    oracle, _ = CvodesReactor(load_mechanism("h2o2.yaml"), 1e-10, 1e-16).advance(pairs.states[found.row], 1e-6)
    np.testing.assert_array_equal(found.difference, pairs.next_states[found.row] - oracle)
    error = np.abs(found.difference)
    assert facts["audit_T_max"] == error[:, 0].max() <= 0.01
    assert facts["audit_Y_max"] == error[:, 2:].max() <= 1e-6
    assert facts["audit_T_p50"] == np.median(error[:, 0]) and facts["audit_Y_p50"] <= facts["audit_Y_p99"]
    cli.main(["info", str(sampled), "--all"])
    shown = capsys.readouterr().out
    assert all(f"audit_{name}_{word}" in shown for name in "TY" for word in ("p50", "p99", "max"))


def test_transported_rows_are_flame_states_moved_against_the_chemistry_at_constant_enthalpy():
    """One step by the production rates of Cantera; in the second, the exact chemistry goes before."""
    mechanism, dt = load_mechanism("h2o2.yaml"), 1e-6
    gas = mechanism.gas()
    gas.set_equivalence_ratio(0.6, "H2", "O2:1, N2:3.76")
    times, path = canonical.ignition_path(gas, np.hstack([1100.0, 1e5, gas.Y]), 1e-2, 1e-4)
    rows = np.maximum(path[np.searchsorted(times, np.interp([0.4, 0.6, 0.8], path[:, 0] / path[-1, 0], times))], 0.0)
    flames = dataset.Pairs(rows, rows, *np.zeros((2, 3), np.int8), np.full(3, KINDS.index("flames"), np.int8))

    def transported(steps, step):
        drawer = Drawer(small_recipe(f"transported.steps={steps}", "transported.factor=[1, 1]"), flames, step)
        return drawer.draw("transported", 60, 0, np.random.default_rng(1)), drawer

    def picked(steps):
        drawer = Drawer(small_recipe(f"transported.steps={steps}", "transported.factor=[1, 1]"), flames, exact)
        drawn = drawer.draw("transported", 60, 0, np.random.default_rng(1)).states
        return drawn, drawer.pick(60, ("flames",), 0, np.random.default_rng(1)).states

    def moved(states):
        Y = np.maximum(states[:, 2:] + change, 0.0)
        result = np.column_stack([states[:, :2], Y / Y.sum(axis=1, keepdims=True)])
        set_temperatures(result, state.enthalpy(states, mechanism), mechanism)
        return result

    exact = RosenbrockReactor(mechanism)
    drawn, origin = picked(1)
    change = -dt * canonical.production_rates(gas, origin)
    np.testing.assert_allclose(drawn, moved(origin), rtol=1e-9, atol=1e-15)
    heat = state.enthalpy(drawn, mechanism) - state.enthalpy(origin, mechanism)
    np.testing.assert_allclose(heat, 0.0, rtol=0, atol=1e-3)  # [J/kg]
    twice = moved(exact.advance(drawn, dt)[0])
    again, _ = picked(2)
    first, second = (np.isclose(again, way, rtol=1e-9, atol=1e-15).all(axis=1) for way in (drawn, twice))
    assert (first | second).all() and 15 < second.sum() < 45 and not (first & second).any()


def test_production_rates_are_those_of_a_short_exact_step():
    mechanism = load_mechanism("h2o2.yaml")
    gas = mechanism.gas()
    gas.set_equivalence_ratio(1.0, "H2", "O2:1, N2:3.76")
    start = np.hstack([1300.0, 1e5, gas.Y])[None]
    burning = np.vstack([RosenbrockReactor(mechanism, 1e-9, 1e-15).advance(start, t)[0] for t in (2e-5, 4e-5, 1e-4)])
    change = RosenbrockReactor(mechanism, 1e-10, 1e-18).advance(burning, 1e-11)[0] - burning
    rates = canonical.production_rates(gas, burning)
    np.testing.assert_allclose(change[:, 2:] / 1e-11, rates, rtol=1e-3, atol=1e-4 * np.abs(rates).max())


def test_an_audit_finds_labels_that_are_wrong_and_rows_of_later_shards(tmp_path, monkeypatch):
    """Labels of states above 1500 K are spoilt by half a kelvin; a shard has 50 rows."""

    class Spoilt(RosenbrockReactor):
        def advance(self, states, dt):
            result = super().advance(states, dt)
            result.states[states[:, 0] > 1500.0, 0] += 0.5
            return result

    monkeypatch.setattr(sampling, "RosenbrockReactor", Spoilt)
    monkeypatch.setattr(sampling, "ROWS_PER_SHARD", 50)
    path = tmp_path / "states.h5"
    sampling.sample(small_recipe("integrator.audit=0.1"), path, report=lambda line: None)
    pairs, found = dataset.read(path), dataset.read_audit(path)
    assert (np.bincount(found.row // 50, minlength=5) == [5, 5, 5, 5, 4]).all()
    wrong = np.where(pairs.states[found.row, 0] > 1500.0, 0.5, 0.0)
    assert 0 < np.count_nonzero(wrong) < 24
    np.testing.assert_allclose(found.difference[:, 0], wrong, rtol=0, atol=0.01)


def test_lost_and_retried_labels_are_counted_and_the_lost_ones_left_out(tmp_path, monkeypatch):
    """Rows below 1000 K are lost, those above 2000 K take a second attempt."""

    class Weak(RosenbrockReactor):
        def advance(self, states, dt):
            result = super().advance(states, dt)
            result.status[states[:, 0] < 1000.0] = Status.FAILED
            result.status[states[:, 0] > 2000.0] = Status.RETRIED
            return result

    monkeypatch.setattr(sampling, "RosenbrockReactor", Weak)
    path, lines = tmp_path / "states.h5", []
    sampling.sample(small_recipe(), path, report=lines.append)
    pairs, facts = dataset.read(path), dataset.read_attributes(path)
    assert facts["rows"] + facts["lost"] == 240 and pairs.states[:, 0].min() >= 1000.0 and facts["lost"] > 0
    assert facts["retried"] == np.count_nonzero(pairs.states[:, 0] > 2000.0) > 0
    assert f"{facts['lost']} labels lost, {facts['retried']} found at the second attempt" in "".join(lines)
    assert dataset.read_audit(path).row.max() < len(pairs)


def test_two_workers_after_an_interruption_give_the_content_of_one(sampled, tmp_path, monkeypatch):
    again = tmp_path / "states.h5"
    lines: list[str] = []
    monkeypatch.setattr(dataset, "write", _interrupted_after(3, dataset.write))
    with pytest.raises(KeyboardInterrupt):
        sampling.sample(small_recipe(), again, report=lines.append)
    monkeypatch.undo()
    assert lines[0].startswith(f"{again}: 240 states of h2o2.yaml, by 1 process: 2 turbulent flames")
    assert lines[-1].startswith(f"stopped; 3 of 7 parts are kept in {again}.parts, and the same command goes on")
    assert list((tmp_path / "states.h5.parts").glob("*.h5")) and not again.exists()
    sampling.sample(small_recipe(), again, workers=2, report=lines.append)
    assert any(", by 2 processes (3 parts are there): " in line for line in lines)
    assert not (tmp_path / "states.h5.parts").exists()
    assert_same_content(again, sampled)


def test_another_recipe_at_the_same_place_is_drawn_from_its_own_sources(sampled, tmp_path):
    path = tmp_path / "states.h5"
    sampling.sample(small_recipe("seed=5"), path, report=lambda line: None)
    assert not np.array_equal(dataset.read(path).states, dataset.read(sampled).states)
    with pytest.raises(UsageError, match="is there already"):
        sampling.sample(small_recipe(), path)
    write_text(tmp_path / "states.h5.parts" / "recipe.yaml", dump_yaml(small_recipe("seed=6")))
    sampling.sample(small_recipe(), path, overwrite=True, report=lambda line: None)
    assert_same_content(path, sampled)


def test_a_worker_that_is_killed_is_told_in_short():
    with pytest.raises(ChemnetError, match="a worker process was killed"):
        list(ordered_map(_die, range(3), 2))


def _die(number):
    os.kill(os.getpid(), signal.SIGKILL)


def test_ranks_of_a_launcher_give_the_content_of_one_process(sampled, tmp_path):
    """Three ranks; the first hands out the tasks and merges."""
    mpiexec, path = Path(sys.executable).parent / "mpiexec", tmp_path / "states.h5"
    if not mpiexec.exists():
        pytest.skip("needs mpiexec of the mpich wheel")
    changes = [word for change in SMALL for word in ("--set", change)]
    command = [mpiexec, "-n", "3", sys.executable, "-m", "chemnet", "sample", "--out", path, *changes]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.count("240 pairs, 0 labels lost") == 1, done.stderr
    assert_same_content(path, sampled)


def _interrupted_after(calls, write):
    left = [calls]

    def interrupted(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return write(*arguments)

    return interrupted


def test_shards_of_another_recipe_are_not_mixed_in(tmp_path):
    path = tmp_path / "states.h5"
    write_text(tmp_path / "states.h5.parts" / "recipe.yaml", dump_yaml(small_recipe()))
    with pytest.raises(UsageError, match="another recipe"):
        sampling.sample(small_recipe("seed=2"), path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("mechanism=nope", "no mechanism nope"),
        ("fuel={XX: 1}", "no species XX"),
        ("oxidizers=[{share: 1, moles: {O3: 1}}]", "no species O3"),
        ("oxidizers=[{share: 0, moles: {O2: 1}}]", "oxidizers.0.share: "),
        ("phi=[2, 1]", "phi: .*smaller one first"),
        ("ignition.T0=[-3, 1000]", "T0: .*two positive numbers"),
        ("rows=0", "rows: "),
        ("dt=-1e-6", "dt: "),
        ("integrator.kind=euler", "'exact' or 'cvode'"),
        ("integrator.audit=2", "integrator.audit: "),
        ("paths.onset=0.3", "paths: .*sum to 1"),
        ("mixed.burnt=0.8", "mixed: .*sum of at most 1"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_before_anything_is_written(tmp_path, change, words):
    with pytest.raises(UsageError, match=words):
        sampling.sample(small_recipe(change), tmp_path / "states.h5")
    assert not list(tmp_path.iterdir())


def test_a_users_mechanism_without_argon_and_transport_data_is_sampled_by_flags(tmp_path, capsys):
    """Hydrogen and oxygen alone of Cantera's h2o2.yaml; the recipe's oxidizer with argon is left out."""
    gas = ct.Solution("h2o2.yaml")
    facts = [s.input_data for s in gas.species() if s.name != "AR"]
    species = [ct.Species.from_dict({k: v for k, v in one.items() if k != "transport"}) for one in facts]
    reactions = [
        r for r in gas.reactions() if not set(r.input_data.get("efficiencies", {})) - {s.name for s in species}
    ]
    reactions = [r for r in reactions if "AR" not in {**r.reactants, **r.products}]
    path, out = tmp_path / "own.yaml", tmp_path / "own.h5"
    ct.Solution(thermo="ideal-gas", kinetics="gas", species=species, reactions=reactions).write_yaml(path)
    flags = ["--mechanism", str(path), "--fuel", "H2", "--out", str(out), "--workers", "1", "--set", "rows=100"]
    flags += [word for change in SMALL[3:5] + SMALL[6:7] for word in ("--set", change)]
    assert cli.main(["sample", *flags]) == 2
    assert "no transport data for flames\nSample without: --set flames=null" in capsys.readouterr().err
    assert cli.main(["sample", *flags, "--set", "flames=null", "--set", "flow=null"]) == 0
    pairs, facts = dataset.read(out), dataset.read_attributes(out)
    assert len(pairs) == 100 and facts["mechanism"] == str(path) and "AR" not in facts["recipe"]
    assert set(pairs.kind) == set(range(len(KINDS))) - {KINDS.index(kind) for kind in ("flames", "transported", "flow")}


def test_states_of_a_flow_are_rows_of_a_run_each_and_the_run_has_the_gas_of_the_recipe(tmp_path):
    """A flow solver that notes its case and returns states of marked temperatures, one beyond the recipe's pressure."""
    mechanism, cases = load_mechanism("h2o2.yaml"), []

    def visit(case, variant, changes, rows, rng):
        values = dict(change.split("=", 1) for change in changes)
        cases.append((case, variant, values))
        row = np.hstack([1000.0, 1e5, canonical.premixed(mechanism, 1.0, {"H2": 1})])
        states = np.tile(row, (rows, 1))
        states[:, 0] += float(values["seed"])
        states[0, 1] = 9e5
        return states

    only = small_recipe("flow.runs=3", "rows=90").of_flows({"chemistry.model": "a.b"}, 3, 90, 100)
    assert only.sources() == {"flow"}
    sampling.sample(only, tmp_path / "flows.h5", visit=visit, report=lambda line: None)
    pairs = dataset.read(tmp_path / "flows.h5")
    assert set(pairs.kind) == {KINDS.index("flow")} and len(pairs) == 90
    assert set(pairs.states[:, 0]) == {1100.0, 1101.0, 1102.0} and (pairs.states[:, 1] == 1e5).all()
    np.testing.assert_array_equal(pairs.group, pairs.states[:, 0] - 1100.0)
    assert not set(pairs.group[pairs.split == 0]) & set(pairs.group[pairs.split == 1])
    assert [case[:2] for case in cases] == [("turbulent_ignition", "demo")] * 3
    for _, _, values in cases:
        assert values["mechanism"] == '"h2o2.yaml"' and json.loads(values["mixture.fuel"]) == {"H2": 1.0}
        assert values["chemistry.kind"] == '"exact"' and values["chemistry.model"] == '"a.b"'
        assert 0.3 <= float(values["mixture.phi"]) <= 2.2 and float(values["dt"]) == 1e-6
        assert 1200.0 <= float(values["initial.kernel_temperature"]) <= 1600.0
    with pytest.raises(UsageError, match="no flow"):
        small_recipe("flow=null").of_flows({}, 3, 90, 100)


def test_a_recipe_with_a_flow_asks_for_a_flow_solver(tmp_path, monkeypatch):
    monkeypatch.setattr(sampling, "entry_points", lambda group: ())
    with pytest.raises(UsageError, match="install cfd_coupling, or leave it out by --set flow=null"):
        sampling.sample(small_recipe(), tmp_path / "states.h5")
    assert not list(tmp_path.iterdir())


def test_only_the_sources_of_rows_are_computed():
    none = ("perturbed", "strongly_perturbed", "mixed", "transported", "burnt", "kernel", "flow")
    without = [f"{kind}.share=0" for kind in none]
    assert small_recipe().sources() == {*SOURCES, "flow"}
    assert small_recipe(*without).sources() == {"ignition", "flames"}
    assert small_recipe(*without, "ignition.share=0", "flames.share=0", "transported.share=1").sources() == {"flames"}
    assert small_recipe(*without, "mixed.share=0.2").sources() == set(SOURCES)


def test_a_mechanism_that_the_integrator_does_not_cover_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    def refuse(mechanism, **tolerances):
        raise UsageError("reaction 7 is of a kind that is not covered")

    monkeypatch.setattr(sampling, "RosenbrockReactor", refuse)
    with pytest.raises(UsageError, match="not covered"):
        sampling.sample(small_recipe(), tmp_path / "states.h5")
    assert not list(tmp_path.iterdir())


def test_a_damaged_or_foreign_file_is_noticed(sampled, tmp_path):
    content = sampled.read_bytes()
    with h5py.File(sampled) as file:
        offset = file["states"].id.get_chunk_info(0).byte_offset
    flipped = bytearray(content)
    flipped[offset + 40] ^= 1
    for name, data in {"cut.h5": content[: len(content) // 2], "flipped.h5": flipped, "text.h5": b"hello"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(FileError, match=name):
            dataset.read(tmp_path / name)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(FileError, match="no training set"):
        dataset.read(tmp_path / "other.h5")
    with pytest.raises(FileError, match="chemnet sample"):
        dataset.read(tmp_path / "nowhere.h5")


def test_recipes_with_wrong_keys_variants_or_species_are_refused():
    with pytest.raises(UsageError, match="did you mean rows"):
        load_recipe(changes=("row=3",))
    with pytest.raises(UsageError, match="no variant fast; it has quick"):
        load_recipe(variant="fast")
    with pytest.raises(UsageError, match="no species XX"):
        canonical.premixed(load_mechanism("drm19"), 1.0, {"XX": 1})
    with pytest.raises(UsageError, match="phi"):
        canonical.premixed(load_mechanism("drm19"), 0.0, {"CH4": 1})
    with pytest.raises(UsageError, match="at least two flames"):
        small_recipe("flames.phi=[1.0]")
    assert load_recipe().rows == 1_250_000
    assert load_recipe(variant="quick").rows == 40_000


def test_a_recipe_text_without_the_keys_that_came_later_is_the_same_recipe():
    data = load_recipe().model_dump(mode="json")
    for key in ("rows_per_source", "paths", "probes"):
        del data[key]
    for part in ("perturbed", "strongly_perturbed", "mixed"):
        older = {"share", "amplitude", "evolved_share", "evolution", "T_unburnt"}
        data[part] = {key: value for key, value in data[part].items() if key in older}
    assert stored_recipe({"recipe": json.dumps(data)}) == load_recipe()
    assert stored_recipe({"recipe": "by hand"}) is stored_recipe({}) is None


@pytest.mark.parametrize(
    ("part", "key", "low", "high"),
    [
        ("steps", {}, 0.0, 1.0),
        ("induction", {"induction_end": 0.4}, 0.0, 0.2),
        ("onset", {"first_time": 0.1}, 0.1, 0.5),
        ("relaxation", {"first_time": 0.1}, 0.6, 1.0),
    ],
)
def test_states_along_a_path_lie_where_the_recipe_says(part, key, low, high):
    """A path of 1 s that ignites after 0.5 s; its second column is the time."""
    times = np.linspace(0.0, 1.0, 1001)
    states = np.column_stack([np.where(times < 0.5, 1000.0, 2000.0), times])
    shares = {name: float(name == part) for name in ("steps", "induction", "onset", "relaxation")}
    drawn = canonical.states_along(times, states, 500, np.random.default_rng(0), canonical.PathPlaces(**shares, **key))
    assert drawn[0, 1] == 0.0 and drawn[1:, 1].min() >= low and drawn[:, 1].max() <= high + 1e-9
    assert np.ptp(drawn[1:, 1]) > 0.9 * (high - low)


def test_perturbed_states_are_normalised_and_stay_near_for_small_amplitudes():
    rng = np.random.default_rng(0)
    settings = load_recipe().perturbed.model_copy(update={"amplitude": (0.01, 0.01)})
    row = np.hstack([1500.0, 1e5, canonical.premixed(load_mechanism("drm19"), 1.0, {"CH4": 1})])
    near = perturb(np.tile(row, (500, 1)), settings, rng)
    np.testing.assert_allclose(near[:, 2:].sum(axis=1), 1.0, rtol=1e-12, atol=0)
    np.testing.assert_allclose(near, np.tile(row, (500, 1)), rtol=0.06, atol=0)
    assert near[:, 0].std() > 0.5
