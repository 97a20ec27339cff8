"""Second-order Runge-Kutta-Legendre method (Meyer, Balsara and Aslam 2014, J. Comput. Phys. 257, eqs. 16-18).

    y_1 = y_0 + mu~_1 dt L(y_0)
    y_j = mu_j y_{j-1} + nu_j y_{j-2} + (1 - mu_j - nu_j) y_0 + dt (mu~_j L(y_{j-1}) + gamma~_j L(y_0))

Stable for dt <= dt_explicit (s^2 + s - 2) / 4, dt_explicit being the limit of the explicit Euler method.
"""

from __future__ import annotations

import math

Coefficients = tuple[float, float, float, float]

_SAFETY = 0.9


def stage_count(dt: float, dt_explicit: float) -> int:
    """Stages s needed for a step dt [s]: odd, at least 3 (odd counts damp the stiffest modes better)."""
    ratio = dt / (_SAFETY * dt_explicit)
    stages = math.ceil(0.5 * (math.sqrt(9.0 + 16.0 * ratio) - 1.0))
    return max(3, stages + (stages + 1) % 2)


def coefficients(stages: int) -> list[Coefficients]:
    """(mu, nu, mu~, gamma~) of the stages 1..s; the first has only mu~, the second no nu, the factor of y_0 - y_0."""
    w = 4.0 / (stages**2 + stages - 2)
    b = [1 / 3, 1 / 3, 1 / 3] + [(j * j + j - 2) / (2 * j * (j + 1)) for j in range(3, stages + 1)]
    result = [(0.0, 0.0, b[1] * w, 0.0)]
    for j in range(2, stages + 1):
        mu = (2 * j - 1) / j * b[j] / b[j - 1]
        nu = -(j - 1) / j * b[j] / b[j - 2] if j > 2 else 0.0
        result.append((mu, nu, mu * w, -(1.0 - b[j - 1]) * mu * w))
    return result
