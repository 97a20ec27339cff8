"""Outcome of a step for one row of states: a small integer, with a sentence for each."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """Outcome of one chemistry step; everything from FAILED on returns the row's input state unchanged."""

    OK = 0
    RETRIED = 1
    FAILED = 2
    INVALID = 3
    OUTSIDE = 4
    SLOW = 5


_SENTENCES = {
    Status.OK: "the step was taken",
    Status.RETRIED: "the step was taken at the second attempt: by CVODES with a maximum internal step of dt/100, or by "
    "CVODES after the exact integrator had given up",
    Status.FAILED: "the integrator or the closure failed; the state is unchanged",
    Status.INVALID: "the state is invalid (not finite, T below 200 K or above what the mechanism "
    "allows, 3500 K or more, P <= 0, Y < 0 or sum of Y not 1); it is unchanged",
    Status.OUTSIDE: "the state lies outside the domain that the model was trained on; it is unchanged",
    Status.SLOW: "the gas is too cold or too calm for the network and has to be integrated (HybridStep does); "
    "it is unchanged",
}


def sentence(status: int) -> str:
    """One sentence that says what `status` means."""
    return _SENTENCES[Status(status)]
