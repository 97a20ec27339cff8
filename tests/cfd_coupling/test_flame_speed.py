"""The flame of the validation, for a few steps."""

import numpy as np
import pytest

from cfd_coupling import flame_speed
from cfd_coupling.config import load_case
from chemnet.runtime.errors import NumericalError, UsageError

SHORT = ("end_time=2e-5", "grid.nx=256", "grid.length_y=1.7578125e-4", "initial.points=200", "chemistry.kind=exact")


def test_a_short_flame_burns_at_a_plausible_speed():
    found = flame_speed.flame_speed(SHORT)
    assert 0.37 < found["speed"] < 0.43  # Cantera: 0.396 m/s
    assert found["left"] == 0.0


def history(T_min):
    """Ten rows of a history whose speed is the number of the row."""
    rows = np.arange(10.0)
    return {"time": 1e-5 * rows, "T_min": np.array(T_min), "consumption_speed": rows, "cells_fallback": rows * 0 + 1,
            "cells_neural": rows * 0 + 3}  # fmt: skip


def test_the_speed_is_taken_as_long_as_there_is_unburnt_gas(monkeypatch):
    monkeypatch.setattr(flame_speed, "run", lambda case, folder, comm: folder)
    for T_min, speed in (([300.0] * 10, 8.0), ([300.0] * 5 + [900.0] * 5, 4.0)):
        monkeypatch.setattr(flame_speed, "read_history", lambda path, T_min=T_min: history(T_min))
        assert flame_speed.flame_speed([]) == {"speed": speed, "left": 0.25}
    monkeypatch.setattr(flame_speed, "read_history", lambda path: history([900.0] * 10))
    with pytest.raises(NumericalError, match="no unburnt gas"):
        flame_speed.flame_speed([])


def test_the_identity_is_that_of_solver_and_case():
    assert flame_speed.identity() == flame_speed.identity() and len(flame_speed.identity()) == 64
    with pytest.raises(UsageError, match="did you mean chemistry"):
        flame_speed.flame_speed(["chemisty.kind=exact"])


def test_cantera_s_speeds_come_from_coarse_to_fine_grids():
    speeds = flame_speed.cantera_speeds(load_case("free_flame"))
    (coarse, first), (fine, second) = next(speeds), next(speeds)
    assert coarse < fine
    assert 0.396 < second < first < 0.41


def test_the_limit_is_linear_in_the_spacing():
    """The first grid does not count; 2 + 3 / n has the limit 2."""
    assert flame_speed.extrapolated([(10, 7.0), (20, 2.15), (60, 2.05)]) == pytest.approx(2.0, rel=1e-14, abs=0.0)
