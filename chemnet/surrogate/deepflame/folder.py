"""The folder that DeepFlame runs a model from: the files of `files/` with the model's facts in place of `@names@`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cantera as ct
import numpy as np

from chemnet.gas.mechanism import Mechanism
from chemnet.runtime.files import write_text
from chemnet.surrogate.deepflame.small_case import SmallCase, small_case, write_fields
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.network import describe
from chemnet.surrogate.network_alone import remarks_alone
from chemnet.surrogate.plain_arrays import plain_arrays
from chemnet.version import __version__

FILES = Path(__file__).parent / "files"
MECHANISM = "mechanism.yaml"
_BATHS = ({"N": 2.0}, {"Ar": 1.0}, {"He": 1.0})  # gases that make a good last species, the best one first
_LATER_RATES = ("linear-Burke",)  # types of reactions that Cantera 2.6 does not read


def write_folder(model: Surrogate, folder: Path) -> None:
    """Write all files of a model for DeepFlame into a folder that is there and empty."""
    mechanism = model.mechanism
    order = bath_gas_last(mechanism)
    case, remarks = small_case(model), [*remarks_alone(model), *_remarks_on(mechanism)]
    write_text(folder / MECHANISM, mechanism_text(mechanism, order))
    arrays: dict[str, Any] = plain_arrays(model, order)
    arrays["facts"] = np.array(json.dumps(_facts(model, order, remarks)))
    with (folder / "model.npz").open("wb") as file:
        np.savez(file, **arrays)
    for source in sorted(FILES.rglob("*")):
        if source.is_file() and "__pycache__" not in source.parts:
            target, text = folder / source.relative_to(FILES), source.read_text(encoding="utf-8")
            write_text(target, _filled(text, model, order, case, remarks))
            if text.startswith("#!"):
                target.chmod(0o755)
    if case is not None:
        write_fields(folder / "0", case, order)


def bath_gas_last(mechanism: Mechanism) -> list[str]:
    """Names of the species with nitrogen (or argon, helium, the last one) at the end, where DeepFlame's cases have it.

    DeepFlame takes its mass fraction as what the others leave.
    """
    species = {s.name: s.composition for s in mechanism.gas().species()}
    baths = [name for bath in _BATHS for name, composition in species.items() if composition == bath]
    last = next(iter(baths), mechanism.species_names[-1])
    return [*(name for name in mechanism.species_names if name != last), last]


def mechanism_text(mechanism: Mechanism, order: list[str]) -> str:
    """The mechanism with its species in this order as YAML that Cantera 2.6 and 3 read.

    Cantera 3 calls the kinetics of a gas `bulk` and reads the name of 2.6, `gas`, as the same.
    """
    gas = mechanism.gas()
    reordered = ct.Solution(
        thermo="ideal-gas",
        kinetics="gas",
        transport_model=gas.transport_model,
        species=[gas.species(name) for name in order],
        reactions=gas.reactions(),
        name=mechanism.phase,
    )
    return re.sub(r"^(\s+kinetics: )bulk$", r"\1gas", reordered.write_yaml(), count=1, flags=re.MULTILINE)


def _remarks_on(mechanism: Mechanism) -> list[str]:
    """What of a mechanism DeepFlame cannot use."""
    gas, remarks = mechanism.gas(), []
    if gas.transport_model == "none":
        remarks.append(f"{MECHANISM} has no transport data, which DeepFlame needs: add them to its species")
    later = sorted({r.reaction_type for r in gas.reactions()} & set(_LATER_RATES))
    if later:
        remarks.append(f"{MECHANISM} has reactions of the type {', '.join(later)}, which Cantera 2.6 does not read")
    return remarks


def _facts(model: Surrogate, order: list[str], remarks: list[str]) -> dict[str, Any]:
    """Facts of `model.npz`, plain data."""
    columns = [0, 1, *(2 + model.mechanism.index(name) for name in order)]
    return {
        "name": _name(model),
        "species": order,
        "mechanism_file": MECHANISM,
        "dt": model.dt,
        "cold_limit": model.cold_limit,
        "calm_limit": model.calm_limit,
        "activation": describe(model.network).activation,
        "power": model.transform.power,
        "T_max": model.mechanism.T_max,
        "limits": np.column_stack([model.domain.low, model.domain.high])[columns].tolist(),
        "remarks": remarks,
    }


def _name(model: Surrogate) -> str:
    widths = "-".join(map(str, describe(model.network).widths))
    return f"network {widths} for {model.mechanism.name}, steps of {model.dt:g} s"


def _filled(text: str, model: Surrogate, order: list[str], case: SmallCase | None, remarks: list[str]) -> str:
    """A text with the model's facts in place of its `@names@`."""
    (T_low, T_high), (P_low, P_high) = model.domain.limits["T"], model.domain.limits["P"]
    steps = case.steps if case is not None else 1000
    words = {
        "name": _name(model)[:1].upper() + _name(model)[1:],
        "version": __version__,
        "mechanism": model.mechanism.name,
        "n_species": str(model.mechanism.n_species),
        "bath_gas": order[-1],
        "dt": f"{model.dt:g}",
        "end_time": f"{steps * model.dt:g}",
        "write_interval": f"{steps * model.dt / 10:g}",
        "cold_limit": f"{model.cold_limit:g}",
        "calm_limit": f"{model.calm_limit:g}",
        "T_low": f"{T_low:.4g}",
        "T_high": f"{T_high:.4g}",
        "P_low": f"{P_low:.4g}",
        "P_high": f"{P_high:.4g}",
        "T_max": f"{model.mechanism.T_max:g}",
        "small_case": case.in_words() if case else "its `0/` is missing, since the model does not say what it burns",
        "remarks": "\n".join(f"* {remark}" for remark in remarks),
    }
    return re.sub(r"@(\w+)@", lambda found: words[found[1]], text)
