"""The step around the network, W cells side by side: it says what the plain formulas and the plain closure say."""

import numpy as np
import pytest
from numba import njit

from chemnet.gas import canonical, state
from chemnet.gas.closure import Closure
from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.status import Status
from chemnet.kinetics import RosenbrockReactor
from chemnet.runtime.compilation import announce_compilation
from chemnet.surrogate.domain import Domain
from chemnet.surrogate.fused_step import FusedStep
from chemnet.surrogate.transform import LABELS, LAMBDA, fit_transform

MECHANISM = load_mechanism("drm19")
BOX = Domain.box(MECHANISM, T=(250.0, 3400.0), P=(5e4, 4e5))
ROWS = 96


@pytest.fixture(scope="module")
def states():
    """From unburnt to burnt gas, and half way through an ignition; (96, 23)."""
    rng, gas = np.random.default_rng(0), MECHANISM.gas()
    rows = []
    for phi in rng.uniform(0.4, 2.0, ROWS):
        cold = np.hstack([rng.uniform(300, 1800), 1e5, canonical.premixed(MECHANISM, phi, {"CH4": 1})])
        share = rng.random()
        rows.append(share * cold + (1 - share) * canonical.burnt(gas, cold))
    return RosenbrockReactor(MECHANISM).advance(np.maximum(rows, 0.0), 1e-5)[0]


@pytest.fixture(scope="module")
def next_states(states):
    return RosenbrockReactor(MECHANISM).advance(states, 1e-6)[0]


@pytest.fixture(scope="module")
def transform(states, next_states):
    return fit_transform(states, next_states, MECHANISM)


@pytest.fixture(scope="module")
def step(transform):
    return FusedStep(transform, MECHANISM, BOX, ROWS)


def advance(step, states, outputs):
    inputs, status = np.empty(states.shape, np.float32), np.empty(len(states), np.int8)
    step.prepare(states, inputs, status)
    after = np.empty_like(states)
    step.finish(states, outputs, after, status)
    return inputs, after, status


@pytest.mark.parametrize("label", ["signed_root", "signed_cube_root", "difference", "a new one"])
def test_predicting_the_labels_gives_the_next_states_back(states, next_states, label, monkeypatch):
    monkeypatch.setitem(LABELS, "a new one", 4)
    transform = fit_transform(states, next_states, MECHANISM, label)
    labels = transform.labels(states, next_states)
    _, after, status = advance(FusedStep(transform, MECHANISM, BOX, ROWS), states, labels)
    assert (status == Status.OK).all()
    np.testing.assert_allclose(after[:, 2:], next_states[:, 2:], rtol=2e-5, atol=1e-12)
    np.testing.assert_allclose(after[:, 0], next_states[:, 0], rtol=1e-6, atol=0)


def test_inputs_are_those_that_the_network_was_trained_with(states, transform, step):
    inputs, _, _ = advance(step, states, np.zeros(states.shape, np.float32))
    np.testing.assert_allclose(inputs, transform.inputs(states), rtol=3e-7, atol=3e-7)


@pytest.mark.parametrize("noise", [1e-3, 0.3, 3.0, 10.0])
def test_the_closure_is_that_of_one_row_at_a_time(states, next_states, transform, step, noise):
    """Whatever the network answers; the larger the noise, the more rows the lanes leave to the plain closure."""
    rng = np.random.default_rng(1)
    outputs = (transform.labels(states, next_states) + noise * rng.standard_normal(states.shape)).astype(np.float32)
    _, after, status = advance(step, states, outputs)
    change = (outputs[:, 2:].astype(float) * transform.output_scale[2:]) * LAMBDA
    change *= np.abs(outputs[:, 2:] * transform.output_scale[2:])
    raw = np.maximum(np.maximum(states[:, 2:], 0.0) ** LAMBDA + change, 0.0) ** 8
    closed = np.empty_like(states)
    ok, _ = Closure(MECHANISM).close(states, raw, closed)
    np.testing.assert_array_equal(status == Status.OK, ok)
    assert ok.mean() > 0.8 and (ok.all() or noise == 10.0)
    np.testing.assert_allclose(after, closed, rtol=1e-8, atol=1e-13)
    lost = state.elements(after, MECHANISM) - state.elements(states, MECHANISM)
    gained = state.enthalpy(after, MECHANISM) - state.enthalpy(states, MECHANISM)
    heat = state.heat_capacity(states, MECHANISM) * states[:, 0]
    np.testing.assert_allclose(lost, 0.0, rtol=0, atol=5e-16)
    np.testing.assert_allclose(gained / heat, 0.0, rtol=0, atol=1e-12)
    assert after[:, 2:].min() >= 0.0
    np.testing.assert_array_equal(after[:, 1], states[:, 1])
    np.testing.assert_array_equal(after[:, 2 + MECHANISM.index("N2")], states[:, 2 + MECHANISM.index("N2")])


def test_traces_of_radicals_in_fuel_and_air_do_not_spoil_the_elements(step):
    """Carbon and hydrogen are then in fixed proportion but for the traces; see the test of the closure."""
    rng = np.random.default_rng(5)
    rows = np.tile(np.hstack([1100.0, 1e5, canonical.premixed(MECHANISM, 1.0, {"CH4": 1})]), (ROWS, 1))
    rows[:, 2:] += (10.0 ** rng.uniform(-14, -7, (ROWS, 21))) * ~MECHANISM.inert
    outputs = rng.standard_normal(rows.shape).astype(np.float32)
    _, after, status = advance(step, rows, outputs)
    assert (status == Status.OK).all() and (after != rows).any(axis=1).all()
    lost = state.elements(after, MECHANISM) - state.elements(rows, MECHANISM)
    np.testing.assert_allclose(lost, 0.0, rtol=0, atol=5e-16)


def test_a_rows_result_does_not_depend_on_its_lane_or_on_the_other_rows(states, next_states, transform, step):
    outputs = (2.0 * transform.labels(states, next_states)).astype(np.float32)
    together = advance(step, states, outputs)
    for rows in (slice(0, 1), slice(5, 26), slice(90, None)):
        alone = advance(step, states[rows], outputs[rows])
        for a, b in zip(alone, together, strict=True):
            np.testing.assert_array_equal(a, b[rows])


def test_an_answer_of_nan_fails_its_own_row_only(states, next_states, transform, step):
    outputs = transform.labels(states, next_states)
    _, expected, _ = advance(step, states, outputs)
    outputs[7, 4] = np.nan
    _, after, status = advance(step, states, outputs)
    assert np.flatnonzero(status).tolist() == [7] and status[7] == Status.FAILED
    np.testing.assert_array_equal(after[7], states[7])
    np.testing.assert_array_equal(np.delete(after, 7, 0), np.delete(expected, 7, 0))


def test_invalid_rows_and_those_outside_are_told_apart(states, step):
    rows = states[:8].copy()
    rows[0, 0], rows[1, 0], rows[2, 1], rows[3, 5] = 3450.0, 3600.0, 5e5, np.nan
    rows[4, 2 + MECHANISM.index("N2")] += 2e-3
    rows[5, -1], rows[6, -1] = -2e-6, -5e-7  # argon, of which there is none
    _, after, status = advance(step, rows, np.zeros(rows.shape, np.float32))
    outside, invalid = Status.OUTSIDE, Status.INVALID
    assert status.tolist() == [outside, invalid, outside, invalid, invalid, invalid, Status.OK, Status.OK]
    np.testing.assert_array_equal(after[:6], rows[:6])


def test_compilation_is_said_once_and_not_when_there_is_nothing_to_compile(capsys):
    @njit
    def twice(x):
        return 2 * x

    announce_compilation(twice, "a test", 1)
    assert twice(3) == 6 and twice(4) == 8
    assert capsys.readouterr().err == "compiling a test for this machine, once (some 1 s)\n"
