"""The models that ship: as small as said, and as good as said in the cases that are quick to compute."""

import re

import numpy as np
import pytest

from chemnet.cli.arguments import DEFAULT_MODEL
from chemnet.gas.status import Status
from chemnet.surrogate.hybrid import HybridStep
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.model_file import PRETRAINED, shipped_models
from chemnet.surrogate.network import count
from chemnet.validation import IgnitionCases, load_cases, validate_ignition

WEIGHTS = {
    "drm19-original": 6_802_800,
    "drm19-stage3": 2_848_260,
    "drm19-condensed": 199_456,
    "drm19-small": 82_560,
}
SHELF = {  # made by `chemnet make`; what ignites within 400 steps:
    "h2": 35_840,
    "drm19-wide": 38_656,
    "gri30-methane": 159_232,
    "c2h4": 159_232,
    "n-dodecane": 183_296,
    "nh3-h2": 153_600,
}
_SOON = IgnitionCases(equivalence_ratios=(0.6, 1.0, 1.4), steps=400)
IGNITIONS = {
    "h2": _SOON.model_copy(update={"temperatures": (1250.0,), "fuel": {"H2": 1.0}}),
    "drm19-wide": _SOON.model_copy(update={"temperatures": (1700.0,), "pressures": (1e6,)}),
    "gri30-methane": _SOON.model_copy(update={"temperatures": (1800.0,)}),
    "c2h4": _SOON.model_copy(update={"temperatures": (1450.0,), "fuel": {"C2H4": 1.0}}),
    "nh3-h2": _SOON.model_copy(update={"temperatures": (1420.0,), "fuel": {"NH3": 0.6, "H2": 0.4}}),
    "n-dodecane": _SOON.model_copy(
        update={"temperatures": (1330.0,), "fuel": {"c12h26": 1.0}, "oxidizer": {"o2": 1.0, "n2": 3.76}}
    ),
}


@pytest.fixture(scope="module", params=WEIGHTS)
def model(request):
    return Surrogate.load(request.param)


def test_what_ships_is_known_and_has_the_weights_that_are_told():
    known = {**WEIGHTS, **SHELF}
    assert DEFAULT_MODEL in WEIGHTS and shipped_models() == sorted(known)
    assert {name: count(Surrogate.load(name).network, biases=False) for name in known} == known


def test_a_model_tells_its_training_and_is_for_steps_of_one_microsecond(model):
    assert model.mechanism.name == "drm19" and model.dt == 1e-6
    assert {"config", "data", "seed", "steps", "validation_loss"} <= set(model.metadata)


def test_it_knows_its_domain_and_how_well(model):
    measured = model.domain.measured
    assert measured["false_alarms"] <= 1e-3 and measured["held_out_states"] > 5000
    assert min(measured["found"].values()) >= 0.99


def test_it_ignites_when_cvodes_does(model):
    cases = IgnitionCases(temperatures=(1800.0,), equivalence_ratios=(0.6, 1.0, 1.4), steps=400)
    report = validate_ignition(HybridStep(model, outside="error"), model.dt, cases)
    assert not report.failed.any() and (report.model.worst_status == Status.OK).all()
    np.testing.assert_allclose(report.delay, report.reference.delay, rtol=0.02, atol=0)
    np.testing.assert_allclose(report.end_temperature_error, 0.0, rtol=0, atol=20.0)


@pytest.mark.parametrize("name", SHELF)
def test_a_model_of_the_shelf_ignites_when_cvodes_does_and_tells_its_verdict(name):
    model = Surrogate.load(name)
    assert model.metadata["verdict"] in (PRETRAINED / f"{name}.md").read_text(encoding="utf-8")
    report = validate_ignition(HybridStep(model, outside="error"), model.dt, IGNITIONS[name])
    assert not report.failed.any() and (report.model.worst_status == Status.OK).all()
    np.testing.assert_allclose(report.delay, report.reference.delay, rtol=0.02, atol=0)
    np.testing.assert_allclose(report.end_temperature_error, 0.0, rtol=0, atol=20.0)


@pytest.mark.parametrize("name", [*WEIGHTS, *SHELF])
def test_its_card_shows_the_figures_that_it_keeps(name):
    """Rows `| check | figure | value | target |`; values are rounded to three digits."""
    text = (PRETRAINED / f"{name}.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([a-z]+) \| (.+?) \| ([\d.e+-]+) \|", text, re.MULTILINE)
    kept = Surrogate.load(name).metadata["ladder"]
    assert len(rows) >= 10
    for check, figure, value in rows:
        np.testing.assert_allclose(float(value), kept[check][figure], rtol=6e-3, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", WEIGHTS)
def test_it_meets_the_quick_validation(name):
    """25 ignitions of 5,000 steps: `pytest -m slow tests/surrogate`, or `chemnet validate --quick`."""
    step = HybridStep.load(name, outside="error")
    report = validate_ignition(step, step.dt, load_cases(quick=True))
    assert not report.failed.any()
    assert np.nanmean(report.delay_error) <= 0.02
