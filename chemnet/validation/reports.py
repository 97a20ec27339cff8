"""The ladder of one or several models, read back from what `chemnet validate --json` wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from chemnet.errors import FileError
from chemnet.files import read_json
from chemnet.state import Array
from chemnet.validation.figures import LADDER_OF
from chemnet.validation.ignition import CASES

_COLUMNS = {
    "T0": "T0 [K]",
    "phi": "phi",
    "P": "P [atm]",
    "reference": "reference [us]",
    "model": "model [us]",
    "error": "error [%]",
}


def ignitions(source: Path) -> dict[str, dict[str, Array]]:
    """The ignition cases by model: columns (n,), nan where nothing ignites, of a file or of all files of a folder.

    Raises FileError when there is no ladder with ignitions.
    """
    paths = sorted(source.glob("*.json")) if source.is_dir() else [source]
    found = {path.stem: cases for path in paths if (cases := _cases(path))}
    if not found:
        raise FileError(f"{source} holds no ignitions\nMake them: chemnet validate MODEL --json FILE")
    return found


def _cases(path: Path) -> dict[str, Array]:
    """The columns of one file; empty where it is something else."""
    content = read_json(path)
    tables = content.get("tables", []) if isinstance(content, dict) else []
    if not any(str(table["title"]).startswith(LADDER_OF) for table in tables):
        return {}
    rows: list[dict[str, float | None]] = next((table["rows"] for table in tables if table["title"] == CASES), [])
    return {name: np.array([row[column] for row in rows], np.float64) for name, column in _COLUMNS.items() if rows}
