"""The flame that the ladder burns, for a few steps."""

import pytest

from cfd_coupling import flame_speed
from chemnet.errors import UsageError


def test_a_short_flame_burns_at_a_plausible_speed(monkeypatch):
    monkeypatch.setattr(flame_speed, "_SETTLED", 1e-5)
    short = ["end_time=2e-5", "grid.nx=256", "grid.length_y=1.7578125e-4", "initial.points=200"]
    found = flame_speed.flame_speed([*short, "chemistry.kind=exact"])
    assert 0.37 < found["speed"] < 0.43  # Cantera: 0.396 m/s
    assert found["left"] == 0.0


def test_the_identity_is_that_of_solver_and_case():
    assert flame_speed.identity() == flame_speed.identity() and len(flame_speed.identity()) == 64
    with pytest.raises(UsageError, match="did you mean chemistry"):
        flame_speed.flame_speed(["chemisty.kind=exact"])
