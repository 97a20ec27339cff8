"""The model that ships: small as said, and as good as said in the cases that are quick to compute."""

import numpy as np
import pytest

from chemnet.network import count
from chemnet.status import Status
from chemnet.surrogate import Surrogate
from chemnet.validation import IgnitionCases, load_cases, validate_ignition


@pytest.fixture(scope="module")
def model():
    return Surrogate.load("drm19-demo")


def test_it_is_condensed_to_at_most_250000_weights_for_steps_of_one_microsecond(model):
    assert count(model.network, biases=True) <= 250_000
    assert model.mechanism.name == "drm19" and model.dt == 1e-6
    assert {"config", "data", "stages"} <= set(model.metadata)


def test_it_knows_its_domain_and_how_well(model):
    measured = model.domain.measured
    assert measured["false_alarms"] <= 1e-3 and measured["held_out_states"] > 5000
    assert min(measured["found"].values()) >= 0.99


def test_it_ignites_when_cvodes_does(model):
    cases = IgnitionCases(temperatures=(1600.0, 1800.0), equivalence_ratios=(0.6, 1.0, 1.4), steps=800)
    report = validate_ignition(model, model.dt, cases)
    assert not report.failed.any() and (report.model.worst_status == Status.OK).all()
    np.testing.assert_allclose(report.delay, report.reference.delay, rtol=0.02, atol=0)
    np.testing.assert_allclose(report.end_temperature_error, 0.0, rtol=0, atol=20.0)


@pytest.mark.slow
def test_it_meets_the_quick_validation():
    """25 ignitions of 5,000 steps: `pytest -m slow tests/test_pretrained.py`, or `chemnet validate --quick`."""
    model = Surrogate.load("drm19-demo")
    report = validate_ignition(model, model.dt, load_cases(quick=True))
    assert not report.failed.any()
    assert np.nanmean(report.delay_error) <= 0.02
