"""References of the validation: computed once, kept on disk under a key of everything that they depend on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chemnet.gas.mechanism import Mechanism
from chemnet.gas.state import Array
from chemnet.kinetics import RosenbrockReactor
from chemnet.runtime.errors import FileError
from chemnet.runtime.files import read_json, write_json
from chemnet.runtime.hdf5 import read_arrays, write_arrays
from chemnet.runtime.run_folder import sha256
from chemnet.version import __version__

REFERENCES = Path("runs/references")
RTOL, ATOL = 1e-7, 1e-13  # of the exact integrator as the reference


def reference_step(mechanism: Mechanism) -> RosenbrockReactor:
    """The exact integrator at tight tolerances."""
    return RosenbrockReactor(mechanism, RTOL, ATOL)


def cached(
    folder: Path | None, name: str, key: Mapping[str, Any], compute: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Result of `compute` (plain data), or the kept one of an earlier call with the same `key` (plain data).

    It is kept in `folder` as `<name>-<hash of the key>.json` with a checksum; a file that is damaged is made again.
    Without a folder nothing is kept.
    """
    if folder is None:
        return compute()
    path = _path(folder, name, key, "json")
    try:
        stored = read_json(path)
        if stored["sha256"] == sha256(stored["result"]):
            return dict(stored["result"])
    except (FileError, KeyError, TypeError):
        pass
    result = compute()
    write_json(path, {"key": dict(key), "result": result, "sha256": sha256(result)})
    return result


def cached_arrays(
    folder: Path | None, name: str, key: Mapping[str, Any], compute: Callable[[], dict[str, Array]]
) -> dict[str, Array]:
    """As `cached`, for a result of arrays of one or more dimensions; the file is one of HDF5."""
    if folder is None:
        return compute()
    path = _path(folder, name, key, "h5")
    try:
        return read_arrays(path)
    except FileError:
        pass
    result = compute()
    write_arrays(path, result, json.dumps(dict(key)))
    return result


def _path(folder: Path, name: str, key: Mapping[str, Any], ending: str) -> Path:
    return folder / f"{name}-{sha256({'chemnet': __version__, **key})[:16]}.{ending}"


def key_of(mechanism: Mechanism, states: Array, dt: float, **settings: Any) -> dict[str, Any]:
    """Key of a reference of roll-outs: everything that it depends on."""
    rows = sha256(states)
    return {"mechanism": mechanism.sha256, "states": rows, "dt": dt, "rtol": RTOL, "atol": ATOL, **settings}


def plain(values: Array) -> list[float | None]:
    """An array (n,) as JSON takes it; None for nan."""
    return [float(value) if np.isfinite(value) else None for value in values]


def array(values: list[float | None]) -> Array:
    """The inverse of `plain`."""
    return np.array(values, dtype=np.float64)
