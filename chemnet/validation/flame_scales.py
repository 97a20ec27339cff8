"""Scales of a gas's laminar flame: what flames in the flow solver take their lengths, times and velocities from."""

from __future__ import annotations

from chemnet.gas.state import ONE_ATM
from chemnet.runtime.config import Config

_COURANT = 0.1  # cells that turbulence of this rms velocity crosses in a step; its peaks are five times as fast
_FEWEST_STEPS, _MOST_STEPS = 50, 1500


class FlameScales(Config):
    """The free flame of a gas at an equivalence ratio near 1, and the mixtures around it.

    * `thickness` [m] (thermal) and `speed` [m/s] of the flame, `pressure` [Pa] and `temperature` [K] of its unburnt gas
    * `phis`: equivalence ratios of flames, lean, middle and rich, as far as the gas burns there
    * `kernel_temperature` [K] of hot unburnt gas that ignites a flame and burns to a valid state
    """

    thickness: float
    speed: float
    pressure: float = ONE_ATM
    temperature: float = 300.0
    phis: tuple[float, ...] = (0.7, 1.0, 1.3)
    kernel_temperature: float = 2500.0

    @property
    def length(self) -> float:
        """Thickness in units of that of `METHANE`."""
        return self.thickness / METHANE.thickness

    @property
    def velocity(self) -> float:
        """Speed in units of that of `METHANE`."""
        return self.speed / METHANE.speed

    @property
    def middle_phi(self) -> float:
        """The equivalence ratio in the middle."""
        return self.phis[len(self.phis) // 2]

    def time(self, shortest: float, longest: float, dt: float) -> float:
        """Factor of times that lie between these two for `METHANE` [s], for which steps of dt [s] are not too few and
        not too many."""
        return min(max(self.length / self.velocity, _FEWEST_STEPS * dt / shortest), _MOST_STEPS * dt / longest)

    def turbulence(self, velocity: float, cell: float, dt: float) -> float:
        """Factor of velocities of turbulence up to this [m/s] for `METHANE`, which cells of this size for it [m] and
        steps of dt [s] can follow."""
        return min(self.velocity, _COURANT * self.length * cell / dt / velocity)


METHANE = FlameScales(thickness=4.1e-4, speed=0.41)
"""The flame that the shipped cases and recipes are made for."""
