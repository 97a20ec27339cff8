"""Trained classifiers as files: weights, classes, and all that is needed to build the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from chemnet.condensation.surgery import resize
from chemnet.runtime.errors import ChemnetError, FileError
from chemnet.runtime.run_folder import sha256
from chemnet.runtime.tables import Table
from chemnet.training.checkpoint import read_checkpoint, write_checkpoint
from chemnet.vision.networks import build, count

MODEL = "classifier.pt"


@dataclass(frozen=True)
class Classifier:
    """A network, the names of its classes, its kind by name, its downsampling, and facts of its training."""

    network: nn.Module
    classes: tuple[str, ...]
    kind: str
    downsampling: int
    facts: Mapping[str, Any] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """Fingerprint of its weights, of 12 digits."""
        return sha256(*self.network.state_dict().values())[:12]

    def save(self, path: str | Path) -> None:
        """Write it to one file, atomically and with a checksum."""
        weights = {name: tensor.detach().cpu() for name, tensor in self.network.state_dict().items()}
        content = {"classes": list(self.classes), "kind": self.kind, "downsampling": self.downsampling}
        write_checkpoint(Path(path), {**content, "facts": dict(self.facts), "network": weights})


def load_classifier(path: str | Path) -> Classifier:
    """The classifier of a file or of a run folder, in evaluation mode, with the widths of its condensation.

    Raises FileError for a file that is missing, damaged, or no classifier.
    """
    path = Path(path)
    path = path / MODEL if path.is_dir() else path
    if not path.is_file():
        raise FileError(f"no classifier {path}\nTrain one: chemnet vision train --data IMAGES")
    content = read_checkpoint(path)
    try:
        classes, downsampling = tuple(content["classes"]), int(content["downsampling"])
        kind = content.get("kind", "mobilenet_v2")  # files of chemnet 0.1 hold no other network and do not name it
        network = build(kind, len(classes), downsampling=downsampling)
        resize(network, content["network"])
    except (KeyError, TypeError, ValueError, ChemnetError) as error:
        raise FileError(f"{path} is no classifier ({str(error).splitlines()[0][:80]})") from None
    network.to(memory_format=torch.channels_last).eval()
    return Classifier(network, classes, kind, downsampling, content["facts"])


def classifier_table(path: Path) -> Table:
    """Facts of a classifier given by its file or run folder."""
    classifier = load_classifier(path)
    facts = classifier.facts
    rows: list[tuple[str, Any]] = []
    if "stage" in facts:
        rows.append(("stage of an automatic reduction", str(facts["stage"])))
    rows += [
        ("network", classifier.kind),
        ("parameters", count(classifier.network)),
        ("classes", " ".join(classifier.classes)),
        ("downsampling", classifier.downsampling),
        ("test accuracy [%]", 100.0 * facts["test_accuracy"]),
        ("config", str(facts["config"]["name"])),
        ("seed", facts["seed"]),
        ("images", str(facts["images"])),
        ("time of training [s]", facts["seconds"]),
    ]
    return Table(f"classifier {path}", ("fact", "value"), rows)
