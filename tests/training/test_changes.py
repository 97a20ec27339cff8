"""Errors of changes: relative to the exact ones of mass fractions and of heat, and to their mean in states of flows."""

import numpy as np
import pytest
import torch
from burning_gas import burning

from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.thermo import species_enthalpies
from chemnet.kinetics import RosenbrockReactor
from chemnet.runtime.errors import UsageError
from chemnet.surrogate.transform import fit_transform
from chemnet.training.batches import TrainingData, few
from chemnet.training.changes import change_loss, change_weights
from chemnet.training.options import FitOptions

MECHANISM = load_mechanism("h2o2.yaml")
FLOW = np.arange(60) % 3 == 0


@pytest.fixture(scope="module")
def pairs():
    """Burning hydrogen, its states after a step, and the transform of both."""
    states = burning(MECHANISM, 90)[30:]
    after = RosenbrockReactor(MECHANISM).advance(states, 1e-7).states
    return states, after, fit_transform(states, after, MECHANISM)


def weights_of(states, after, transform, flow=FLOW):
    x, y = (torch.from_numpy(a) for a in (transform.inputs(states), transform.labels(states, after)))
    return y, change_weights(x, y, torch.from_numpy(flow), transform, MECHANISM)


def test_the_loss_is_that_of_errors_of_mass_fractions_and_heat_computed_from_the_states(pairs):
    """A network whose changes are 3 % too large, or too small, in turns; exact errors by states and Cantera's NASA7."""
    states, after, transform = pairs
    labels, weights = weights_of(states, after, transform)
    change = (after - states)[:, 2:]
    wrong = 0.03 * change * np.where(np.arange(60) % 2 == 0, 1.0, -1.0)[:, None]
    given = after.copy()
    given[:, 2:] += wrong
    outputs = torch.from_numpy(transform.labels(states, given))
    h = np.empty(MECHANISM.n_species)
    species_enthalpies(1600.0, MECHANISM.nasa, h)
    size, heat = np.abs(change[FLOW]), np.abs(change[FLOW] @ h)
    moves = size.mean(axis=0) > 0.0
    errors = wrong[FLOW][:, moves] / (size + size.mean(axis=0))[:, moves]
    of_heat = wrong[FLOW] @ h / (heat + heat.mean())
    expected = ((errors**2).sum() / MECHANISM.n_species + (of_heat**2).sum()) / FLOW.sum()
    found = change_loss(outputs, labels, weights)
    np.testing.assert_allclose(found.item(), expected, rtol=0.02, atol=0)
    assert change_loss(labels, labels, weights).item() == 0.0


def test_rows_that_are_no_states_of_flows_do_not_count(pairs):
    states, after, transform = pairs
    labels, weights = weights_of(states, after, transform)
    others = labels.clone()
    others[~torch.from_numpy(FLOW)] += 1.0
    assert change_loss(others, labels, weights).item() == 0.0
    _, none = weights_of(states, after, transform, np.zeros(60, np.bool_))
    assert change_loss(others, labels, none).item() == 0.0


def test_a_training_adds_them_by_their_weight_to_the_loss_of_labels(pairs):
    states, after, transform = pairs
    labels, weights = weights_of(states, after, transform)
    x, active = torch.from_numpy(transform.inputs(states)), torch.from_numpy(transform.active)
    data = few(TrainingData(x, labels, x, labels, active, weights), 30).to("cpu")
    rows = torch.arange(30)
    inputs, both = data.batch(rows, torch.Generator())
    outputs = data.y[rows] + 0.1
    assert inputs.shape == (30, 12) and both.shape == (30, 12 + 20)
    plain, with_changes = (data.loss(outputs, both, FitOptions(steps=1, change_loss=w)).item() for w in (0.0, 2.0))
    extra = change_loss(outputs, data.y[rows], data.changes[rows]).item()
    assert plain == pytest.approx(0.1, rel=1e-5, abs=0) and extra > 0.0
    assert with_changes == pytest.approx(plain + 2.0 * extra, rel=1e-5, abs=0)


def test_another_label_is_refused(pairs):
    states, after, _ = pairs
    with pytest.raises(UsageError, match="change_loss is for the label signed_root, not for difference"):
        weights_of(states, after, fit_transform(states, after, MECHANISM, "difference"))
