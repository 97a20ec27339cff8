"""A model for other programs: an ONNX graph, a program of torch.export, a case folder's files for DeepFlame.

ONNX and torch get the way from states to mass fractions after a step, without the closure, which is no matter of
matrices: their user restores the elements, and integrates gas that is colder or calmer than the model's limits.
DeepFlame calls chemnet's `HybridStep`, which does all of this.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cantera as ct
import torch
from torch import nn

from chemnet.gas.mechanism import Mechanism
from chemnet.runtime.errors import UsageError
from chemnet.runtime.files import atomic, write_text
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.transform import LAMBDA, Transform


def export(model: Surrogate | str | Path, target: str, out: str | Path) -> list[Path]:
    """Files of a model (or of a model's name or file) for another program, one of TARGETS, written at `out`.

    Raises UsageError for an unknown target or a package that is not installed.
    """
    if target not in TARGETS:
        raise UsageError(f"no target {target}; there are {', '.join(TARGETS)}")
    return TARGETS[target](model if isinstance(model, Surrogate) else Surrogate.load(model), Path(out))


def _to_onnx(model: Surrogate, out: Path) -> list[Path]:
    try:
        from chemnet.surrogate.onnx_graph import step_model
    except ImportError:
        raise UsageError("an ONNX file needs onnx: pip install 'chemnet[onnx]'") from None
    graph = step_model(model.network, model.transform)
    for key, value in _facts(model).items():
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, value
    with atomic(out) as temporary:
        temporary.write_bytes(graph.SerializeToString())
    return [out]


class StepModule(nn.Module):
    """States (n, 2 + K), float64, to mass fractions (n, K) after the step, before the closure."""

    def __init__(self, network: nn.Sequential, transform: Transform) -> None:
        super().__init__()
        self.network = network
        self.power = transform.power
        for name in ("input_mean", "input_gain", "output_scale"):
            self.register_buffer(name, torch.tensor(getattr(transform, name)))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        root = states[:, 2:].clamp(min=0.0).sqrt().sqrt().sqrt()
        values = torch.cat([states[:, :2], (root - 1.0) / LAMBDA], dim=1)
        inputs = ((values - self.input_mean) * self.input_gain).float()
        answer = (self.network(inputs).double() * self.output_scale)[:, 2:]
        change = answer * answer.abs() ** (self.power - 1)
        return (root + LAMBDA * change).clamp(min=0.0) ** 8


def _to_torch(model: Surrogate, out: Path) -> list[Path]:
    columns = model.mechanism.n_species + 2
    rows = torch.export.Dim("rows", min=1)
    program = torch.export.export(
        StepModule(model.network, model.transform).eval(),
        (torch.ones(4, columns, dtype=torch.float64),),
        dynamic_shapes={"states": {0: rows}},
    )
    with atomic(out) as temporary:
        content = temporary.with_suffix(".pt2")  # torch insists on the ending
        torch.export.save(program, content, extra_files=_facts(model))
        content.replace(temporary)
    return [out]


def _to_deepflame(model: Surrogate, out: Path) -> list[Path]:
    """`inference.py`, the model file, and the mechanism in DeepFlame's order, nitrogen last."""
    out.mkdir(parents=True, exist_ok=True)
    mechanism = model.mechanism
    order = _nitrogen_last(mechanism)
    files = [out / name for name in ("model.safetensors", "mechanism-nitrogen-last.yaml", "inference.py")]
    model.save(files[0])
    _reordered(mechanism, order).write_yaml(str(files[1]))
    own = "None"
    if mechanism.text is not None or Path(mechanism.source).is_file():
        if mechanism.text is None:
            shutil.copyfile(mechanism.source, out / "mechanism.yaml")
        else:
            write_text(out / "mechanism.yaml", mechanism.text)
        files.insert(1, out / "mechanism.yaml")
        own = f'load_mechanism(HERE / "mechanism.yaml", {mechanism.phase!r})'
    write_text(files[-1], _INFERENCE.format(species=order, mechanism=own, dt=model.dt))
    return files


def _nitrogen_last(mechanism: Mechanism) -> list[str]:
    others = [name for name in mechanism.species_names if name != "N2"]
    return [*others, "N2"] if "N2" in mechanism.species_names else others


def _reordered(mechanism: Mechanism, order: list[str]) -> ct.Solution:
    gas = mechanism.gas()
    species = [gas.species(name) for name in order]
    return ct.Solution(
        thermo="ideal-gas",
        kinetics="gas",
        transport_model=gas.transport_model,
        species=species,
        reactions=gas.reactions(),
        name=mechanism.phase,
    )


def _facts(model: Surrogate) -> dict[str, str]:
    """Facts that a user of an exported file needs, as text."""
    return {
        "mechanism": model.mechanism.name,
        "mechanism_sha256": model.mechanism.sha256,
        "species": " ".join(model.mechanism.species_names),
        "dt": f"{model.dt!r}",
        "cold_limit": f"{model.cold_limit!r} K; colder gas is to be integrated",
        "calm_limit": f"{model.calm_limit!r} of the typical change of Y^(1/8); gas that changes less, too",
        "input": "states: rows of T [K], P [Pa] and mass fractions, float64",
        "output": "mass fractions after dt at constant pressure and enthalpy; elements are still to be restored",
    }


TARGETS: dict[str, Callable[[Surrogate, Path], list[Path]]] = {
    "onnx": _to_onnx,
    "torch": _to_torch,
    "deepflame": _to_deepflame,
}

_INFERENCE = '''"""Chemistry for DeepFlame by a network of chemnet: put this folder's files into the case folder.

The case uses mechanism-nitrogen-last.yaml and a time step of {dt:g} s. Python needs chemnet: pip install chemnet.
Cells that the network is not for are advanced by chemnet's exact integrator; invalid ones do not react.
"""

from pathlib import Path

import numpy as np

from chemnet import HybridStep, load_mechanism

HERE = Path(__file__).resolve().parent
SPECIES = {species}
ATMOSPHERE = 101325.0  # [Pa]

step = HybridStep.load(HERE / "model.safetensors", {mechanism})
place = [SPECIES.index(name) for name in step.mechanism.species_names]


def inference(vec0):
    """Mass rates (N, species) [kg/m3/s] for the flat rows [T [K], p [atm], Y of SPECIES, rho [kg/m3]]."""
    rows = np.reshape(np.asarray(vec0, dtype=np.float64), (-1, len(SPECIES) + 3))
    density, Y = rows[:, -1], rows[:, 2:-1]
    states = np.column_stack([rows[:, 0], ATMOSPHERE * rows[:, 1], Y[:, place]])
    after, _ = step.advance(states)
    rates = np.empty_like(Y)
    rates[:, place] = density[:, None] * (after[:, 2:] - states[:, 2:]) / step.dt
    return rates
'''
