"""Exported names of a package, each loaded from its module on first use (PEP 562), and optional packages."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def exports(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of `package`; `homes` gives for each exported name its module below the package."""

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return load, lambda: sorted(homes)


def installed(package: str) -> bool:
    """Whether an optional package can be imported; it is not loaded."""
    return importlib.util.find_spec(package) is not None
