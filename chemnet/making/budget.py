"""The wall time of a make and its shares."""

from __future__ import annotations

from dataclasses import dataclass

SCAN_FROM = 300.0  # [s] of budget; below, short trainings at several rates would leave too little for the last one


@dataclass(frozen=True)
class Budget:
    """Wall seconds of a whole make, on so many cores.

    A look at the gas takes what it takes; of the time, a fifth goes to the states, a tenth to the rates, half to the
    training; the checks have the rest.
    """

    seconds: float
    cores: int

    @property
    def flames(self) -> float:
        """Seconds for the flames of the look at the gas, at most."""
        return 0.1 * self.seconds

    @property
    def sampling(self) -> float:
        """Seconds for the states."""
        return 0.2 * self.seconds

    @property
    def scan(self) -> float:
        """Seconds for all short trainings; 0 where there are none."""
        return 0.1 * self.seconds if self.seconds >= SCAN_FROM else 0.0

    @property
    def training(self) -> float:
        """Seconds of the training."""
        return 0.5 * self.seconds

    @property
    def ladder(self) -> float:
        """Seconds for the checks."""
        return 0.15 * self.seconds


def in_words(seconds: float) -> str:
    """A time as a user gives it: `90s`, `30m`, `2h`."""
    for size, unit in ((3600.0, "h"), (60.0, "m")):
        if seconds >= size and seconds % size == 0.0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:.0f}s"
