"""The learned step: conservation, independence of company, one file that refuses what does not belong to it."""

import numpy as np
import pytest
import torch

from chemnet.gas import state
from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.status import Status
from chemnet.runtime.errors import UsageError
from chemnet.surrogate import inference
from chemnet.surrogate.inference import available_engines
from chemnet.surrogate.model import Surrogate

MECHANISM = load_mechanism("drm19")


def test_elements_and_enthalpy_hold_whatever_the_network_says(surrogate, states):
    before = states.copy()
    next_states, status = surrogate.advance(states)
    assert (status == Status.OK).all() and np.abs(next_states[:, 0] - states[:, 0]).max() > 1.0
    lost = state.elements(next_states, MECHANISM) - state.elements(states, MECHANISM)
    scale = state.heat_capacity(states, MECHANISM) * states[:, 0]
    gained = (state.enthalpy(next_states, MECHANISM) - state.enthalpy(states, MECHANISM)) / scale
    np.testing.assert_allclose(lost, 0.0, rtol=0, atol=1e-12)
    np.testing.assert_allclose(gained, 0.0, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(states, before)


@pytest.mark.parametrize("engine", available_engines())
def test_a_row_is_bitwise_the_same_alone_in_any_order_and_among_thousands(surrogate, states, engine):
    model = surrogate.with_engine(engine)
    together, _ = model.advance(states)
    alone = np.vstack([model.advance(row[None])[0] for row in states[:40]])
    np.testing.assert_array_equal(alone, together[:40])
    np.testing.assert_array_equal(model.advance(states[::-1])[0][::-1], together)
    many = np.tile(states, (9, 1))
    np.testing.assert_array_equal(model.advance(many)[0][-300:], together)
    parts = np.split(many, np.cumsum([7, 16, 17, 63, 250, 511, 600]))
    np.testing.assert_array_equal(np.vstack([model.advance(part)[0] for part in parts])[:300], together)


def test_engines_differ_by_the_precision_of_their_numbers_only(surrogate, states):
    """bf16 has eight bits; its error is that of the network's outputs and not of the states."""
    exact, _ = surrogate.advance(states)
    change = np.abs(exact - states)[:, 2:].max()
    for engine, tolerance in (("bf16", 0.05), ("onnx", 1e-5)):
        if engine in available_engines():
            found, status = surrogate.with_engine(engine).advance(states)
            assert (status == Status.OK).all()
            np.testing.assert_allclose(found[:, 2:], exact[:, 2:], rtol=0, atol=tolerance * change)


def test_an_engine_is_stored_with_the_model_and_another_may_be_asked_for(surrogate, tmp_path, monkeypatch):
    monkeypatch.setattr(inference, "has_bf16_instructions", lambda: True)
    surrogate.with_engine("bf16").save(tmp_path / "model.safetensors")
    assert Surrogate.load(tmp_path).engine == "bf16"
    assert Surrogate.load(tmp_path, engine="fp32").engine == "fp32"
    monkeypatch.setattr(inference, "has_bf16_instructions", lambda: False)
    assert Surrogate.load(tmp_path).engine == "fp32"
    with pytest.raises(UsageError, match="no engine fp64; there are fp32, bf16"):
        Surrogate.load(tmp_path, engine="fp64")


def test_rows_outside_the_domain_and_invalid_ones_come_back_as_they_were(surrogate, states):
    rows = states[:4].copy()
    rows[0, 0], rows[1, 1], rows[2, 5] = 3300.0, 5e5, np.nan
    next_states, status = surrogate.advance(rows)
    assert status.tolist() == [Status.OUTSIDE, Status.OUTSIDE, Status.INVALID, Status.OK]
    np.testing.assert_array_equal(next_states[:3], rows[:3])
    assert surrogate.advance(rows[:0])[0].shape == (0, 23)


def test_cold_and_calm_gas_is_refused_and_alone_as_in_company(surrogate, states):
    """Calm is what changes by less than the limit in units of the label, which is the root of a change."""
    with torch.no_grad():
        outputs = surrogate.network(torch.from_numpy(surrogate.transform.inputs(states))).numpy()
    changes = np.abs(outputs[:, surrogate.transform.active[1:]]).max(axis=1) ** 2
    rows = np.vstack([states, states[:4]])
    rows[-4:, 0] = 400.0, 400.0, 1500.0, 1500.0
    rows[[-3, -1], 5], rows[[-4, -2], 1] = np.nan, 5e5  # invalid; outside the domain, which cold gas may be
    model = surrogate.with_limits(900.0, limit := float(np.median(changes)))
    next_states, status = model.advance(rows)
    assert (model.cold_limit, model.calm_limit) == (900.0, limit)
    assert status[-4:].tolist() == [Status.SLOW, Status.INVALID, Status.OUTSIDE, Status.INVALID]
    slow = (states[:, 0] < 900.0) | (changes < limit)
    np.testing.assert_array_equal(status[:-4], np.where(slow, Status.SLOW, Status.OK))
    np.testing.assert_array_equal(next_states[:-4][slow], states[slow])
    np.testing.assert_array_equal(next_states[:-4][~slow], surrogate.advance(states[~slow])[0])
    np.testing.assert_array_equal([model.advance(row[None])[1][0] for row in rows[:20]], status[:20])


@pytest.mark.parametrize("limits", [(-1.0, 0.0), (0.0, float("nan"))])
def test_limits_that_are_none_are_refused(surrogate, limits):
    with pytest.raises(UsageError, match="begin at 0"):
        surrogate.with_limits(*limits)


def test_another_mechanism_or_time_step_is_refused(surrogate, states, tmp_path):
    surrogate.save(tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match="made for a mechanism named drm19"):
        Surrogate.load(tmp_path, load_mechanism("h2o2.yaml"))
    with pytest.raises(UsageError, match="dt = 1e-06 s"):
        surrogate.advance(states, 2e-6)
    with pytest.raises(UsageError, match=r"\(n, 23\)"):
        surrogate.advance(states[:, :20])
