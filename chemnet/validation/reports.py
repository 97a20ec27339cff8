"""The figures of one or several validations, read back from what `chemnet validate model --json` wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chemnet.gas.state import Array
from chemnet.runtime.errors import FileError
from chemnet.runtime.files import read_json
from chemnet.runtime.tables import Table
from chemnet.validation.ignition import CASES
from chemnet.validation.metrics import SUMMARY_OF, mean

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

    Raises FileError when there is no validation with ignitions.
    """
    paths = sorted(source.glob("*.json")) if source.is_dir() else [source]
    found = {path.stem: cases for path in paths if (cases := cases_of(_tables(path)))}
    if not found:
        raise FileError(f"{source} holds no ignitions\nMake them: chemnet validate model MODEL --json FILE")
    return found


def comparison(paths: Sequence[Path]) -> Table:
    """The figures of several validations side by side, with their mean and their spread, the largest less the smallest:
    of several trainings that differ in the seed alone, the noise of a training.

    Raises FileError for a file without a validation.
    """
    validations = {str(path.with_suffix("")): _figures(path) for path in paths}
    targets = {name: target for of_file in validations.values() for name, (_, target) in of_file.items()}
    rows = []
    for (check, name), target in targets.items():
        values = [of_file.get((check, name), (None, None))[0] for of_file in validations.values()]
        known = np.array([value for value in values if value is not None], np.float64)
        spread = float(np.ptp(known)) if known.size else None
        rows.append((check, name, target, *values, mean(known), spread))
    return Table("validations side by side", ("check", "figure", "target", *validations, "mean", "spread"), rows)


def figures_of(path: Path) -> dict[str, dict[str, float | None]]:
    """The figures of a validation, by check and name. Raises FileError for a file without a validation."""
    result: dict[str, dict[str, float | None]] = {}
    for (check, name), (value, _) in _figures(path).items():
        result.setdefault(check, {})[name] = value
    return result


def _figures(path: Path) -> dict[tuple[str, str], tuple[float | None, float | str | None]]:
    """Value, and target as it is shown, by check and figure."""
    for table in _tables(path):
        if str(table["title"]).startswith(SUMMARY_OF):
            return {(row["check"], row["figure"]): (row["value"], row["target"]) for row in table["rows"]}
    raise FileError(f"{path} holds no validation\nMake one: chemnet validate model MODEL --json FILE")


def cases_of(tables: Sequence[Mapping[str, Any]]) -> dict[str, Array]:
    """The ignition cases among the tables of a validation as plain data: columns (n,); empty where there are none."""
    rows: list[dict[str, float | None]] = next((t["rows"] for t in tables if t["title"] == CASES), [])
    return {name: np.array([row[column] for row in rows], np.float64) for name, column in _COLUMNS.items() if rows}


def _tables(path: Path) -> list[dict[str, Any]]:
    """The tables of a file that a command wrote; none where it is another one."""
    content = read_json(path)
    tables = content.get("tables") if isinstance(content, dict) else None
    return tables if isinstance(tables, list) else []
