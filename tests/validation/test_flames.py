"""The planar flames of a gas fit its own flame."""

import numpy as np
import pytest

from cfd_coupling.config import load_case
from chemnet.validation.flame_scales import METHANE, FlameScales
from chemnet.validation.flames import box_of


@pytest.mark.parametrize("thickness, speed", [(3.4e-4, 2.3), (2.5e-3, 0.07)])
def test_the_box_of_a_planar_flame_has_as_many_cells_in_its_front_as_that_of_methane(thickness, speed):
    changes = box_of(FlameScales(thickness=thickness, speed=speed, pressure=2e5, temperature=300.0), 1e-6)
    case = load_case("free_flame", assignments=changes)
    np.testing.assert_allclose(case.grid.length_x / 512, thickness / 14, rtol=1e-4, atol=0)
    assert 1e-4 <= case.end_time <= 5e-3 and case.mixture.pressure == 2e5


def test_the_box_of_methane_is_that_of_the_case():
    own = load_case("free_flame", assignments=["grid.ny=3", *box_of(METHANE, 1e-6)])
    shipped = load_case("free_flame", assignments=["grid.ny=3", "grid.length_y=8.7890625e-5"])
    for name in ("length_x", "length_y"):
        np.testing.assert_allclose(getattr(own.grid, name), getattr(shipped.grid, name), rtol=1e-3, atol=0)
    np.testing.assert_allclose(own.initial.burnt_width, shipped.initial.burnt_width, rtol=3e-2, atol=0)
