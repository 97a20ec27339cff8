"""Validation of a model, check by check: single steps, ignitions, pressures, cold gas, flames, flow, cost.

One-step errors mislead, so models are rolled out: step after step on their own states, beside the exact integrator.
"""

from chemnet.validation.ignition import FULL, QUICK, IgnitionCases, load_cases, validate_ignition
from chemnet.validation.rollouts import ignition_delay, roll_out

__all__ = ["FULL", "QUICK", "IgnitionCases", "ignition_delay", "load_cases", "roll_out", "validate_ignition"]
