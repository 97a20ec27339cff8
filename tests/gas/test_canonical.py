"""Series of flames go on where one is not found, if they may."""

import numpy as np
import pytest

from chemnet.gas import canonical
from chemnet.gas.mechanism import load_mechanism
from chemnet.runtime.errors import NumericalError

MECHANISM, FUEL = load_mechanism("h2o2.yaml"), {"H2": 1.0}


class Profile:
    """What a series takes of Cantera's flame: two points of gas at rest."""

    def __init__(self, state):
        self.grid, self.T = np.array([0.0, 1.0]), np.array([state[0], 2000.0])
        self.Y = np.tile(state[2:, None], 2)


@pytest.fixture
def lean_only(monkeypatch):
    """A solver that finds no flame of rich gas: waiting for Cantera to give up takes half a minute."""
    rich = canonical.premixed(MECHANISM, 1.0, FUEL)[MECHANISM.index("H2")]

    def solve(gas, state, start=None):
        if state[2 + MECHANISM.index("H2")] > rich * 1.01:
            raise NumericalError("no flame found")
        return Profile(state)

    monkeypatch.setattr(canonical, "solve_flame", solve)


def series(*phis, **options):
    return canonical.flames(MECHANISM, phis, 1e5, 300.0, FUEL, canonical.AIR, **options)


def test_flames_that_are_not_found_are_left_out_where_some_may_be_missing(lean_only):
    found = series(2.0, 0.5, 3.0, 0.8, may_miss=True)
    hydrogen = [states[0, 2 + MECHANISM.index("H2")] for _, states in found]
    expected = [canonical.premixed(MECHANISM, phi, FUEL)[MECHANISM.index("H2")] for phi in (0.5, 0.8)]
    np.testing.assert_allclose(hydrogen, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("phis", "options"), [((0.5, 2.0), {}), ((2.0, 3.0), {"may_miss": True})])
def test_a_flame_that_is_not_found_is_an_error_unless_others_are(lean_only, phis, options):
    with pytest.raises(NumericalError, match="no flame found"):
        series(*phis, **options)
