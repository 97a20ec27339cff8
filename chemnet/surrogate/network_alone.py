"""A model's network without an integrator beside it, as other programs use it: what is missing, and is it sound."""

from __future__ import annotations

from chemnet.surrogate.hybrid import checks_heating, order_in_words
from chemnet.surrogate.model import Surrogate

_ERROR = "one step: absolute error of T [%]"  # of the check `flow` of a validation, states of turbulent flames
_ALONE = f"{_ERROR}, network everywhere"
_TARGET = 1.0  # [%] of _ERROR in a validation
_FALSE_HEAT, _MOST_HEAT = "false heat, warm with burnt gas, 50000 steps [K]", 5.0  # of the check `cold`, and its target


def is_sound_alone(model: Surrogate) -> bool | None:
    """Whether the network answers well without an integrator, by the model's own validation; None if that is not known.

    It is not where the model was made for nearly all gas to be integrated, or where the error of T of its network in
    one step of a turbulent flame misses the target of a validation.
    """
    if model.calm_first == "widest":
        return False
    error = _figures(model, "flow").get(_ALONE)
    return None if error is None else error <= _TARGET


def remarks_alone(model: Surrogate) -> list[str]:
    """Sentences for the user of a network without an integrator: what is missing, and whether that is sound."""
    remarks = [
        f"in chemnet's own step {order_in_words(model)}, and gas colder than {model.cold_limit:g} K or calmer than "
        f"{model.calm_limit:g} is integrated; here there is no integrator"
    ]
    if checks_heating(model):
        remarks.append("chemnet integrates answers that disagree with the heat release; here none is checked for that")
    heat = _figures(model, "cold").get(_FALSE_HEAT, 0.0)
    if heat > _MOST_HEAT:
        remarks.append(
            f"warm unburnt gas with burnt gas in it heats up too soon, by {heat:.3g} K in 50,000 steps even with the "
            "integrator: not for gas that has to wait that long"
        )
    return [*remarks, verdict_alone(model)]


def verdict_alone(model: Surrogate) -> str:
    """One sentence that says whether the network is sound without an integrator."""
    sound, figures = is_sound_alone(model), _figures(model, "flow")
    errors = ""
    if _ERROR in figures and _ALONE in figures:
        errors = (
            f": error of T in one step of a turbulent flame {figures[_ALONE]:.3g} %, {figures[_ERROR]:.3g} % with it"
        )
    if sound is None:
        return f"whether the network is sound without its integrator was not measured{errors}"
    return f"the network is {'sound' if sound else 'NOT SOUND'} without its integrator{errors}"


def _figures(model: Surrogate, check: str) -> dict[str, float]:
    """Figures of one check of the model's validation."""
    found = model.metadata.get("ladder", {}).get(check, {})
    return {name: float(value) for name, value in found.items() if value is not None}
