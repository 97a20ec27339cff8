"""Score of a network in use: the errors of the ignition delays of its roll-outs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from chemnet.data.burning import burning_of_facts
from chemnet.gas.mechanism import Mechanism
from chemnet.gas.state import Array
from chemnet.kinetics import RosenbrockReactor
from chemnet.kinetics.step import ChemistryStep
from chemnet.runtime.errors import ChemnetError
from chemnet.surrogate.hybrid import HybridStep
from chemnet.surrogate.model import Surrogate
from chemnet.training.loop import Judge
from chemnet.training.tensors import LearningSet
from chemnet.validation import QUICK, IgnitionCases, ignition_delay, roll_out
from chemnet.validation.ignition import cases_of


def judging_cases(facts: Mapping[str, Any], mechanism: Mechanism) -> IgnitionCases | None:
    """Quick cases of what the recipe in a data set's `facts` burns; None where none says, or the mechanism lacks it."""
    burning = burning_of_facts(facts)
    if burning is None:
        return None
    cases = cases_of(burning, QUICK)
    try:
        cases.states(mechanism)
    except ChemnetError:
        return None
    return cases


def ignition_judge(
    learning: LearningSet,
    facts: Mapping[str, Any],
    cold_limit: float,
    calm_limit: float,
    cases: IgnitionCases | None = None,
) -> Judge | None:
    """Mean relative error of a network's ignition delays over `cases` (default: the quick ones), as a function of the
    network, which is used in a hybrid step with these limits.

    A case counts as 1 where it does not ignite, and never as more. The reference is the exact step at tight tolerances.
    None without `judging_cases`, for a mechanism that the exact step does not cover, or where nothing ignites.
    """
    mechanism, dt = learning.mechanism, learning.dt
    cases = cases or judging_cases(facts, mechanism)
    try:
        exact = RosenbrockReactor(mechanism, 1e-6, 1e-12)
    except ChemnetError:
        return None
    if cases is None:
        return None
    states, steps = cases.states(mechanism), cases.steps

    def delays(step: ChemistryStep) -> Array:
        return ignition_delay(roll_out(step, states, dt, steps, lambda line: None).temperature, dt)

    reference = delays(exact)
    ignites = np.isfinite(reference)
    if not ignites.any():
        return None

    def judge(network: torch.nn.Module) -> float:
        model = Surrogate(copy.deepcopy(network).cpu(), learning.transform, mechanism, dt, learning.domain)
        step = HybridStep(model, cold_limit=cold_limit, calm_limit=calm_limit, outside="error")
        error = np.abs(delays(step) / reference - 1.0)[ignites]
        return float(np.minimum(np.nan_to_num(error, nan=1.0), 1.0).mean())

    return judge
