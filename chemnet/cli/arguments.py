"""Types of command-line arguments, for argparse; what they refuse is told as a usage error."""

from __future__ import annotations

import argparse

MAX_MINUTES = "stretch the schedule over the steps or M minutes, whichever end sooner"  # of every training


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def positive_number(text: str) -> float:
    """A finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return number
