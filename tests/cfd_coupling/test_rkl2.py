"""Runge-Kutta-Legendre stages: second order, and stable up to the promised step."""

import numpy as np
import pytest

from cfd_coupling.rkl2 import coefficients, stage_count


def integrate(stages, z, steps=1):
    """y(1) of y' = z y, y(0) = 1, in equal steps."""
    dt, y0 = 1.0 / steps, np.ones_like(z)
    for _ in range(steps):
        older, old = y0, y0
        for j, (mu, nu, mu_rate, gamma) in enumerate(coefficients(stages)):
            new = y0 + mu * (old - y0) + nu * (older - y0) + dt * z * (mu_rate * old + gamma * y0)
            older, old = (y0, new) if j == 0 else (old, new)
        y0 = old
    return y0


@pytest.mark.parametrize("stages", [3, 5, 9])
def test_order_is_two(stages):
    z = np.array([-1.3])
    errors = [abs(integrate(stages, z, steps) - np.exp(z))[0] for steps in (8, 16, 32)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(orders > 1.95), orders


@pytest.mark.parametrize("ratio", [0.1, 1.0, 7.0, 40.0, 300.0])
def test_every_decaying_mode_decays_with_the_counted_stages(ratio):
    stages = stage_count(1.0, 1.0 / ratio)
    z = -np.linspace(0.0, 2.0 * ratio, 2001)  # the explicit limit is dt |lambda| = 2
    assert stages % 2 == 1
    assert np.abs(integrate(stages, z)).max() <= 1.0 + 1e-14


def test_two_stages_fewer_would_not_be_stable():
    ratio = 40.0
    z = -np.linspace(0.0, 2.0 * ratio, 2001)
    assert np.abs(integrate(stage_count(1.0, 1.0 / ratio) - 2, z)).max() > 1.0
