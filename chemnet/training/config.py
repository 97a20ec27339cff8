"""Configs of trainings, read from `configs/*.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from chemnet.runtime.config import Config, override, parse, read_yaml, shipped_yaml
from chemnet.surrogate.network import NetConfig
from chemnet.surrogate.transform import Label
from chemnet.training.options import FitOptions


class TrainConfig(Config):
    """Config of a training: data, label, network, options of the fit, and the reduction that belongs to it.

    `data` is the training set; a missing one is sampled by the variant `data_variant` of the shipped recipe. `rows`
    limits the rows to train on, which are drawn at random; of calm rows, which a `HybridStep` does not ask the network
    about, the share `calm_share` is kept. `cold_limit` [K] and `calm_limit` are those of the model:
    colder and calmer gas is integrated (`HybridStep`). `reduction` names the stages that ship for it.
    """

    name: str
    description: str = ""
    data: Path
    data_variant: str | None = None
    rows: int | None = Field(None, ge=1)
    calm_share: float = Field(1.0, gt=0, le=1)
    label: Label = "signed_root"
    cold_limit: float = Field(800.0, ge=0)
    calm_limit: float = Field(0.01, ge=0)
    network: NetConfig
    fit: FitOptions
    reduction: str | None = None


def load_config(name_or_path: str | Path = "drm19", changes: Sequence[str] = ()) -> TrainConfig:
    """The config of a name that ships or of a YAML file, with `key=value` changes. Raises UsageError, FileError."""
    path = shipped_yaml(name_or_path, "config", Path(__file__).parent / "configs")
    return parse(TrainConfig, override(read_yaml(path), changes), str(path))
