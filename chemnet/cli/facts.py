"""Facts of a mechanism, model, training set or run, recognised by its content."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chemnet.gas.mechanism import Mechanism, load_mechanism
from chemnet.gas.mechanism_file import bundled_mechanisms
from chemnet.gas.state import ONE_ATM
from chemnet.runtime.errors import FileError, UsageError
from chemnet.runtime.files import read_json
from chemnet.runtime.nearest import nearest
from chemnet.runtime.run_folder import MANIFEST, flat, how_to_finish
from chemnet.runtime.tables import Table

if TYPE_CHECKING:
    from chemnet.surrogate.model import Surrogate

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_LONGEST_CELL = 100


def describe(what: str, everything: bool = False) -> list[Table]:
    """Tables of a run folder, a file, or the name of a shipped model or mechanism, the first of what it is and is for;
    with `everything` a last one of all that is kept about it.

    Raises FileError for files that are missing or damaged.
    """
    path = Path(what)
    classifier = path / "classifier.pt" if path.is_dir() else path
    if classifier.suffix == ".pt" and classifier.is_file():
        from chemnet.vision.classifier import classifier_table

        return [classifier_table(classifier)]
    if path.is_dir():
        return run_tables(path, everything)
    if not path.is_file():
        return _describe_name(what, everything)
    with path.open("rb") as file:
        head = file.read(9)
    if head.startswith(_HDF5_SIGNATURE):
        return training_set_tables(path, everything)
    if head[8:] == b"{":  # safetensors: eight bytes of length, then JSON
        return model_tables(what, everything)
    return [mechanism_table(load_mechanism(what))]


def _describe_name(name: str, everything: bool) -> list[Table]:
    from chemnet.surrogate.model_file import shipped_models

    if name in shipped_models():
        return model_tables(name, everything)
    try:
        return [mechanism_table(load_mechanism(name))]
    except UsageError as error:
        meant = nearest(name, [*shipped_models(), *bundled_mechanisms()])
        reason = f"did you mean {meant}?" if meant else str(error).splitlines()[0]
        raise FileError(f"{name} is neither a file nor a folder\n{reason}\nModels that ship: info --models") from None


def mechanism_table(mechanism: Mechanism) -> Table:
    """Table of what a mechanism holds, which parts of chemnet it serves, its species, and its hash."""
    from chemnet.gas.canonical import has_transport
    from chemnet.kinetics import RosenbrockReactor
    from chemnet.surrogate.model_file import mechanism_hash, shipped_models

    gas = mechanism.gas()
    try:
        exact = RosenbrockReactor(mechanism) and "covers it"
    except UsageError as error:
        exact = f"does not cover it: {str(error).splitlines()[0]}"
    models = [name for name in shipped_models() if mechanism_hash(name) == mechanism.sha256]
    inert = [name for name, still in zip(mechanism.species_names, mechanism.inert, strict=True) if still]
    rows = [
        ("species", mechanism.n_species),
        ("reactions", gas.n_reactions),
        ("elements", " ".join(mechanism.element_names)),
        ("exact integrator", exact),
        ("flames", "yes" if has_transport(mechanism) else "no: the file has no transport data"),
        ("models that ship for it", " ".join(models) or "none"),
        ("names of the species", " ".join(mechanism.species_names)),
        ("inert species", " ".join(inert) or "none"),
        ("file", mechanism.source),
        ("phase", mechanism.phase),
        ("SHA-256 of the content", mechanism.sha256),
    ]
    return Table(f"mechanism {mechanism.name}", ("fact", "value"), rows)


def model_tables(name_or_path: str | Path, everything: bool = False) -> list[Table]:
    """Tables of a model: what it is for, its errors and costs, how it was made, the limits of its domain; checks its
    SHA-256."""
    from chemnet.surrogate.model import Surrogate
    from chemnet.training.domain_fit import domain_facts
    from chemnet.validation.shelf import figures_of

    model = Surrogate.load(name_or_path)
    known = [(name, value) for name, value in figures_of(model).items() if value is not None]
    tables = [
        Table(f"model {name_or_path}", ("fact", "value"), _purpose(model)),
        Table("its errors and costs, by its validation", ("figure", "value"), known),
        Table("how it was made", ("fact", "value"), _making(model)),
        Table("its domain", ("fact", "value"), domain_facts(model.domain)),
    ]
    if everything:
        tables.append(Table("all that it says", ("fact", "value"), _rows(model.metadata)))
    return [table for table in tables if table.rows]


def _purpose(model: Surrogate) -> list[tuple[str, Any]]:
    """What a model burns and how it is used."""
    from chemnet.data.burning import burning_of_facts
    from chemnet.surrogate.hybrid import order_in_words
    from chemnet.surrogate.network import count, describe

    burning = burning_of_facts(model.metadata.get("data", {}))
    gas = []
    if burning is not None:
        gas = [
            ("fuel [mol]", _mixture(burning.fuel)),
            ("oxidizer [mol]", _mixture(burning.oxidizer)),
            ("phi", tuple(burning.phi)),
            ("P [atm]", tuple(P / ONE_ATM for P in burning.pressure)),
        ]
    verdict = [("verdict", model.metadata["verdict"])] if "verdict" in model.metadata else []
    network = describe(model.network)
    return [
        *gas,
        ("mechanism", model.mechanism.name),
        ("species", model.mechanism.n_species),
        ("time step dt [s]", model.dt),
        *verdict,
        ("widths", "-".join(map(str, network.widths))),
        ("activation", network.activation),
        ("weights without biases", count(model.network, biases=False)),
        ("parameters", count(model.network, biases=True)),
        ("engine", model.engine),
        ("integrated below T [K]", model.cold_limit),
        ("integrated below this share of the typical change [%]", 100.0 * model.calm_limit),
        ("order", order_in_words(model)),
    ]


def _making(model: Surrogate) -> list[tuple[str, Any]]:
    """The training of a model, from its metadata."""
    said = model.metadata
    data, config = said.get("data", {}), said.get("config", {})
    stages = [stage.get("stage") for stage in said.get("stages", [])]
    error = said.get("quick_delay_error")
    facts = {
        "config": config.get("name"),
        "started from": said.get("start_from"),
        "stages of reduction": len(stages) or None,
        "training states": data.get("rows"),
        "further training sets": len(said.get("further_data", [])) or None,
        "seed": said.get("seed"),
        "steps": said.get("steps"),
        "time [s]": said.get("seconds"),
        "validation loss": said.get("validation_loss"),
        "error of quick ignition delays [%]": None if error is None else 100.0 * error,
    }
    return [(name, value) for name, value in facts.items() if value is not None]


def _mixture(moles: Mapping[str, float]) -> str:
    return ", ".join(f"{species} {x:g}" for species, x in moles.items())


def training_set_tables(path: Path, everything: bool = False) -> list[Table]:
    """Tables of a training set: what it holds, how far its labels can be trusted, its coverage; checks its SHA-256."""
    from chemnet.data.burning import burning_of_facts
    from chemnet.data.coverage import coverage, coverage_tables
    from chemnet.data.dataset import read_attributes

    facts = read_attributes(path)
    burning = burning_of_facts(facts)
    gas = (
        []
        if burning is None
        else [("fuel [mol]", _mixture(burning.fuel)), ("oxidizer [mol]", _mixture(burning.oxidizer))]
    )
    first = [
        ("rows", _plain(facts.get("rows"))),
        ("mechanism", facts.get("mechanism")),
        *gas,
        ("time step dt [s]", _plain(facts.get("dt"))),
        ("labels by", facts.get("integrator")),
        ("tolerances rtol, atol", [_plain(facts[name]) for name in ("rtol", "atol") if name in facts]),
        ("labels lost", _plain(facts.get("lost"))),
        *((text, _plain(facts[name])) for name, text in _AUDIT.items() if name in facts),
        *_agreement(path, "rows_of_the_set" in facts),
        ("seed", _plain(facts.get("seed"))),
        ("made", " ".join(str(facts[name]) for name in ("date", "generator") if name in facts)),
    ]
    known = [(name, value) for name, value in first if value not in (None, "", [])]
    tables = [Table(f"training set {path}", ("fact", "value"), known), *coverage_tables(coverage(path), str(path))]
    if everything:
        tables.append(Table("all that it says", ("fact", "value"), _rows(facts)))
    return tables


_AUDIT = {
    "audit_rows": "labels compared with CVODES",
    "audit_T_p99": "T against CVODES, p99 [K]",
    "audit_T_max": "T against CVODES, max [K]",
    "audit_Y_max": "Y against CVODES, max [kg/kg]",
}


def _agreement(path: Path, is_manifest: bool) -> list[tuple[str, str]]:
    """Agreement of a training set with its manifest, or of a manifest with rows computed here."""
    from chemnet.data.reference_rows import compare, find, recompute

    if is_manifest:
        return [("computed here", recompute(path).text())]
    manifest = find(path)
    agreement = compare(path, manifest) if manifest else None
    return [("manifest", agreement.text())] if agreement else []


def run_tables(folder: Path, everything: bool = False) -> list[Table]:
    """Tables of a training, reduction, make or flow run: how it ended, its stages, the model that it made; or how far
    an unfinished training has come."""
    if not (folder / MANIFEST).exists():
        return [_unfinished_table(folder)]
    tables = [run_table(folder, nested=everything)]
    stages = [read_json(path) for path in sorted(folder.glob("stage-*/report.json"))]
    if stages:
        rows = [
            [stage[key] for key in ("stage", "weights", "loss_before", "loss_at_once", "loss_after")]
            for stage in stages
        ]
        columns = ("stage", "weights", "loss before", "at once", "retrained")
        tables.append(Table("stages of its reduction", columns, rows))
    if (folder / "model.safetensors").is_file():
        tables += model_tables(folder, everything)
    return tables


def _unfinished_table(folder: Path) -> Table:
    """Last line of the history of a training that is not finished. Raises FileError where there is none."""
    if not (folder / "loss.csv").is_file():
        raise FileError(f"{folder} holds no run: there is no manifest.json in it")
    with open(folder / "loss.csv", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    rows = [("finished", "no"), *((name.replace("_", " "), float(value)) for name, value in last.items())]
    return Table(f"run {folder}", ("fact", "value"), [*rows, ("go on", how_to_finish(folder))])


def run_table(folder: Path, nested: bool = True) -> Table:
    """Table of the manifest of a run, what it is and how it ended first; `nested`: with its configurations."""
    manifest = folder / MANIFEST
    if not manifest.exists():
        raise FileError(f"{folder} holds no run: there is no manifest.json in it")
    facts = {key: value for key, value in read_json(manifest).items() if nested or not isinstance(value, Mapping)}
    error = facts.pop("quick_delay_error", None)
    if error is not None:
        facts["error of quick ignition delays [%]"] = 100.0 * error
    first = {key: facts.pop(key) for key in _FIRST if facts.get(key) is not None}
    last = {key: facts.pop(key) for key in ("generator", "files") if key in facts}
    known = {key: value for key, value in facts.items() if value is not None}
    return Table(f"run {folder}", ("fact", "value"), _rows({**first, **known, **last}))


_FIRST = (
    "kind",
    "name",
    "chemistry",
    "finished",
    "ended_by",
    "verdict",
    "step",
    "time",
    "steps",
    "seconds",
    "validation_loss",
)


def loss_tables(folder: Path) -> dict[str, Path]:
    """Paths of the `loss.csv` of a training and of its reduction stages, by name. Raises FileError without one."""
    stages = sorted(folder.glob("stage-*/loss.csv"), key=lambda path: int(path.parent.name.removeprefix("stage-")))
    tables = {"training": folder / "loss.csv", **{path.parent.name.replace("-", " "): path for path in stages}}
    found = {name: path for name, path in tables.items() if path.is_file()}
    if not found:
        raise FileError(f"{folder} holds no training: there is no loss.csv in it")
    return found


def _rows(content: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Nested mappings as rows with dotted names; long texts are cut."""
    return [(key, _short(value)) for key, value in flat(content) if not isinstance(value, Mapping)]


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _short(value: Any) -> Any:
    """A value as a cell: numbers as they are, anything else as text."""
    plain = _plain(value)
    if plain is None or isinstance(plain, int | float):
        return plain
    text = " ".join((plain if isinstance(plain, str) else json.dumps(plain, default=str)).split())
    return text if len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 4]} ..."
