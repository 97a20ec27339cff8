"""Facts of a mechanism, model, training set or run, recognised by its content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chemnet.gas.mechanism import Mechanism, load_mechanism
from chemnet.runtime.errors import ChemnetError, FileError
from chemnet.runtime.files import read_json
from chemnet.runtime.run_folder import flat
from chemnet.runtime.tables import Table

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_LONGEST_CELL = 100


def describe(what: str) -> list[Table]:
    """Tables of a run folder, a file, or the name of a shipped model or mechanism.

    Raises FileError for files that are missing or damaged.
    """
    path = Path(what)
    classifier = path / "classifier.pt" if path.is_dir() else path
    if classifier.suffix == ".pt" and classifier.is_file():
        from chemnet.vision.classifier import classifier_table

        return [classifier_table(classifier)]
    if path.is_dir():
        return [run_table(path)]
    if not path.is_file():
        return _describe_name(what)
    with path.open("rb") as file:
        head = file.read(9)
    if head.startswith(_HDF5_SIGNATURE):
        return training_set_tables(path)
    if head[8:] == b"{":  # safetensors: eight bytes of length, then JSON
        return [model_table(what)]
    return [mechanism_table(load_mechanism(what))]


def _describe_name(name: str) -> list[Table]:
    reasons = []
    for table in (lambda: mechanism_table(load_mechanism(name)), lambda: model_table(name)):
        try:
            return [table()]
        except ChemnetError as error:
            reasons.append(str(error).splitlines()[0])
    raise FileError("\n".join([f"{name} is neither a file nor a folder", *reasons]))


def mechanism_table(mechanism: Mechanism) -> Table:
    """Table of the species, elements and hash of a mechanism."""
    gas = mechanism.gas()
    inert = [name for name, still in zip(mechanism.species_names, mechanism.inert, strict=True) if still]
    rows = [
        ("file", mechanism.source),
        ("phase", mechanism.phase),
        ("species", f"{mechanism.n_species}: {' '.join(mechanism.species_names)}"),
        ("reactions", str(gas.n_reactions)),
        ("elements", " ".join(mechanism.element_names)),
        ("inert species", " ".join(inert) or "none"),
        ("SHA-256 of the content", mechanism.sha256),
    ]
    return Table(f"mechanism {mechanism.name}", ("fact", "value"), rows)


def model_table(name_or_path: str) -> Table:
    """Table of the architecture, mechanism, time step, domain and history of a model; checks its SHA-256."""
    from chemnet.surrogate.model import Surrogate
    from chemnet.surrogate.network import count
    from chemnet.training.domain_fit import domain_facts

    model = Surrogate.load(name_or_path)
    rows = [
        ("weights without biases", str(count(model.network, biases=False))),
        ("parameters", str(count(model.network, biases=True))),
        ("mechanism", model.mechanism.name),
        ("dt [s]", f"{model.dt:g}"),
        ("engine", model.engine),
        ("integrated below [K]", f"{model.cold_limit:g}"),
        ("integrated below this share of the typical change", f"{model.calm_limit:g}"),
        *domain_facts(model.domain),
        *_rows(model.metadata),
    ]
    return Table(f"model {name_or_path}", ("fact", "value"), rows)


def training_set_tables(path: Path) -> list[Table]:
    """Tables of the size, provenance and coverage of a training set; checks its SHA-256."""
    from chemnet.data.coverage import coverage, coverage_tables
    from chemnet.data.dataset import read_attributes

    facts = read_attributes(path)
    rows = [*_rows(facts), *_agreement(path, "rows_of_the_set" in facts)]
    return [Table(f"training set {path}", ("fact", "value"), rows), *coverage_tables(coverage(path), str(path))]


def _agreement(path: Path, is_manifest: bool) -> list[tuple[str, str]]:
    """Agreement of a training set with its manifest, or of a manifest with rows computed here."""
    from chemnet.data.reference_rows import compare, find, recompute

    if is_manifest:
        return [("computed here", recompute(path).text())]
    manifest = find(path)
    agreement = compare(path, manifest) if manifest else None
    return [("manifest", agreement.text())] if agreement else []


def run_table(folder: Path, nested: bool = True) -> Table:
    """Table of the manifest of a training, reduction or flow run; `nested`: with its configurations."""
    manifest = folder / "manifest.json"
    if not manifest.exists():
        raise FileError(f"{folder} holds no run: there is no manifest.json in it")
    facts = {key: value for key, value in read_json(manifest).items() if nested or not isinstance(value, Mapping)}
    return Table(f"run {folder}", ("fact", "value"), _rows(facts))


def loss_tables(folder: Path) -> dict[str, Path]:
    """Paths of the `loss.csv` of a training and of its reduction stages, by name. Raises FileError without one."""
    stages = sorted(folder.glob("stage-*/loss.csv"), key=lambda path: int(path.parent.name.removeprefix("stage-")))
    tables = {"training": folder / "loss.csv", **{path.parent.name.replace("-", " "): path for path in stages}}
    found = {name: path for name, path in tables.items() if path.is_file()}
    if not found:
        raise FileError(f"{folder} holds no training: there is no loss.csv in it")
    return found


def _rows(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Nested mappings as rows with dotted names; long values are cut."""
    return [(key, _short(value)) for key, value in flat(content) if not isinstance(value, Mapping)]


def _short(value: Any) -> str:
    plain = value.tolist() if hasattr(value, "tolist") else value
    text = " ".join((plain if isinstance(plain, str) else json.dumps(plain, default=str)).split())
    return text if len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 4]} ..."
