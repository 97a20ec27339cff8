"""The bench: cells of a real flame, turns that alternate, and medians."""

import cantera as ct
import numpy as np
import pytest

from chemnet.benchmark import timing
from chemnet.benchmark.model import (
    ALONE,
    AROUND,
    COLDEST,
    IGNITION,
    INTEGRATOR,
    SINGLE,
    BenchTask,
    FlameCells,
    cost_table,
    engine_table,
    flame_cells,
    ignition_cells,
)
from chemnet.benchmark.timing import Timing, machine_table, take_turns
from chemnet.data.burning import Burning
from chemnet.gas import canonical
from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.state import elements, enthalpy
from chemnet.gas.status import Status
from chemnet.kinetics import StepResult, StepStats
from chemnet.runtime.errors import UsageError
from chemnet.surrogate.inference import available_engines


class Clock:
    """Seconds that pass only where a step takes them."""

    now = 0.0

    def perf_counter(self):
        return self.now


class Slow:
    """A step that takes `seconds` of a clock and notes when it was called; it integrates as many rows as it refuses."""

    def __init__(self, seconds, calls, clock, refused=0):
        self.mechanism = load_mechanism("drm19")
        self.seconds, self.calls, self.clock, self.refused = seconds, calls, clock, refused

    def advance(self, states, dt):
        self.calls.append(self)
        self.clock.now += self.seconds
        status = np.full(len(states), Status.OK)
        status[: self.refused] = Status.OUTSIDE
        return StepResult(states, status, StepStats(slow=status == Status.OUTSIDE))


def test_steps_take_turns_and_refused_and_integrated_cells_are_counted(monkeypatch):
    calls, clock = [], Clock()
    monkeypatch.setattr(timing, "time", clock)
    slow, fast = Slow(0.06, calls, clock), Slow(0.02, calls, clock, refused=2)
    found = take_turns({"slow": slow, "fast": fast}, np.zeros((5, 23)), 1e-6, turns=3)
    order = ["s" if step is slow else "f" for step in calls[2:]]  # the first two are not counted
    assert "".join(order) == 3 * "sfff"
    assert (found.refused, found.integrated) == (2, 2)
    assert found.per_cell("slow")[0] == pytest.approx(0.06 / 5, rel=1e-9, abs=0.0)
    assert found.per_cell("fast")[0] == pytest.approx(0.02 / 5, rel=1e-9, abs=0.0)


def test_what_the_model_refuses_is_left_out_for_all_and_does_not_count_as_fast(monkeypatch):
    calls, clock = [], Clock()
    monkeypatch.setattr(timing, "time", clock)
    steps = {"exact": Slow(0.06, calls, clock), "model": Slow(0.02, calls, clock, refused=2)}
    found = take_turns(steps, np.zeros((5, 23)), 1e-6, turns=1, asked="model")
    assert (found.cells, found.refused) == (3, 2)
    assert found.per_cell("exact")[0] == pytest.approx(0.06 / 3, rel=1e-9, abs=0.0)
    steps["model"].refused = 5
    with pytest.raises(UsageError, match="the model refuses all 5 cells"):
        take_turns(steps, np.zeros((5, 23)), 1e-6, turns=1, asked="model")


def test_a_flame_is_of_what_the_model_burns_unless_it_is_told():
    burning = Burning({"H2": 1.0}, {"O2": 1.0, "AR": 4.0}, (5e5, 2e6), (0.2, 0.6))
    flame = FlameCells(fuel={"H2": 0.5, "CH4": 0.5}).of(burning)
    assert (flame.phi, flame.P, flame.T) == (0.6, 5e5, 300.0)
    assert flame.fuel == {"H2": 0.5, "CH4": 0.5} and flame.oxidizer == {"O2": 1.0, "AR": 4.0}


def test_the_ratios_are_those_of_the_medians():
    seconds = {"CVODES": [3e-3, 9e-3, 4e-3], "exact": [5e-4, 3e-4, 4e-4], "model": [1e-4, 2e-4, 8e-4]}
    (row,) = (table := cost_table(BenchTask("some-model"), {"flame front": Timing(10, 0, seconds, 3)})).rows
    figures = dict(zip(table.columns, row, strict=True))
    assert figures["CVODES / model"] == pytest.approx(20.0, rel=1e-12, abs=0.0)
    assert figures["exact / model"] == pytest.approx(2.0, rel=1e-12, abs=0.0)
    assert figures["CVODES [us]"] == pytest.approx(400.0, rel=1e-12, abs=0.0)
    assert figures["integrated by the model [%]"] == 30.0
    assert figures["CVODES, from - to"] == pytest.approx((300.0, 900.0), rel=1e-12, abs=0.0)
    assert figures["exact, from - to"] == pytest.approx((30.0, 50.0), rel=1e-12, abs=0.0)


def test_every_engine_has_a_row_beside_both_rivals():
    steps = (*available_engines(), ALONE, INTEGRATOR, SINGLE, AROUND)
    names = ("CVODES", "exact", *steps)
    timing = Timing(10, 0, {name: [1e-3 / (1 + i)] for i, name in enumerate(names)})
    table = engine_table(BenchTask("some-model"), {"flame front": timing})
    assert [row[1] for row in table.rows] == list(steps)
    figures = dict(zip(table.columns, table.rows[0], strict=True))
    assert figures["CVODES / engine"] == pytest.approx(3.0, rel=1e-12, abs=0.0)
    assert figures["cost [us]"] == pytest.approx(1e2 / 3.0, rel=1e-12, abs=0.0)


def test_the_spread_is_that_of_the_turns_without_powers_of_ten():
    assert Timing(2, 0, {"step": [2.4686e-3, 6.1e-6, 3e-4]}).spread("step") == pytest.approx(
        (3.05, 1234.3), rel=1e-12, abs=0.0
    )


def test_cells_of_an_ignition_are_on_its_way_from_fresh_to_burnt_gas():
    mechanism = load_mechanism("drm19")
    (states,) = ignition_cells(mechanism, FlameCells(), 50).values()
    fresh = np.hstack([IGNITION, ct.one_atm, canonical.premixed(mechanism, 1.0, {"CH4": 1.0})])[None]
    hottest = canonical.burnt(mechanism.gas(), fresh[0])[0]
    assert IGNITION < states[0, 0] < IGNITION + 20.0 and hottest - 60.0 < states[-1, 0] <= hottest + 1.0
    assert (np.diff(states[:, 0]) > 0.0).all()
    np.testing.assert_allclose(enthalpy(states, mechanism), enthalpy(fresh, mechanism)[0], rtol=1e-4, atol=0.0)


def test_flame_cells_are_hot_states_of_a_flame_with_its_elements_and_enthalpy():
    mechanism = load_mechanism("drm19")
    for states in flame_cells(mechanism, FlameCells(), 50).values():
        assert states.shape == (50, 23)
        assert states[:, 0].min() > COLDEST and states[:, 0].max() > 2000.0
        np.testing.assert_allclose(states[:, 2:].sum(axis=1), 1.0, rtol=1e-9, atol=0.0)
        carbon = elements(states, mechanism)[:, mechanism.element_names.index("C")]
        assert np.ptp(carbon) < 0.2 * carbon.mean()  # differential diffusion moves some of it
        assert np.isfinite(enthalpy(states, mechanism)).all()


def test_the_machine_table_names_processor_and_versions():
    parts = dict(machine_table().rows)
    assert parts["processor"] and parts["torch"].startswith("2.")
