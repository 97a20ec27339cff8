"""Folders of runs: facts that identify a run, and the manifest that marks it as finished.

The facts are plain data. A resumed run must have the facts of its first part, kept in a checkpoint or a file;
`manifest.json` is written last: a folder without it is not finished.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chemnet.runtime.config import read_yaml
from chemnet.runtime.errors import FileError, UsageError
from chemnet.runtime.files import check_writable, read_json, write_json
from chemnet.version import __version__

MANIFEST = "manifest.json"
_SHOWN = 60  # characters of a value in a message


def sha256(*items: Any) -> str:
    """SHA-256 of items in order: the content of a path, the bytes of a text, array or tensor, other data as JSON."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(_bytes(item))
    return digest.hexdigest()


def _bytes(item: Any) -> bytes:
    if isinstance(item, Path):
        return item.read_bytes()
    if isinstance(item, str):
        return item.encode()
    if hasattr(item, "detach"):  # a tensor of torch
        item = item.detach().cpu().numpy()
    if isinstance(item, np.ndarray):
        return np.ascontiguousarray(item).tobytes()
    return json.dumps(item, sort_keys=True).encode()


def check_same(path: str | Path, saved: Mapping[str, Any], facts: Mapping[str, Any], way_out: str = "") -> None:
    """Raise UsageError with the first fact (nested ones by dotted keys) in which the `saved` ones of `path` differ.

    What is saved beyond `facts` does not count. `way_out` is the last line of the message.
    """
    before = dict(flat(saved))
    for key, now in flat(facts):
        if before.get(key) != now:
            what = f"{path} is of another run: {key} was {_shown(before.get(key))}, is {_shown(now)}"
            raise UsageError(f"{what}\n{way_out or 'Restore it, or start anew without --resume.'}")


def flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested facts by dotted keys."""
    for key, value in facts.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def check_no_run(folder: Path, checkpoint: str, kind: str, overwrite: bool = False, state: str = "") -> None:
    """Raise UsageError where a folder holds a run that would be lost: a finished one, or one with a `checkpoint`.

    `overwrite` permits to replace a run of this `kind`; `state` says how far an unfinished one came. Raises FileError
    for a folder that cannot be written. To be called before anything else, and again by what writes.
    """
    check_writable(folder / checkpoint)
    if (folder / MANIFEST).is_file():
        found = read_json(folder / MANIFEST).get("kind")
        if found != kind:
            raise UsageError(f"{folder} holds another kind of run ({found})\nName another folder with --out.")
        if not overwrite:
            raise UsageError(
                f"{folder} holds a finished {kind}\nName another folder with --out, or replace it with --overwrite."
            )
    elif (folder / checkpoint).is_file() and not overwrite:
        raise UsageError(
            f"{folder} holds an unfinished {kind}{state}\nGo on with --resume, or replace it with --overwrite."
        )


def clear_run(folder: Path, patterns: Sequence[str]) -> None:
    """Remove what a run left, by patterns of names; all else in the folder stays."""
    for path in (path for pattern in patterns for path in folder.glob(pattern)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def begin_run(
    folder: Path, facts: Mapping[str, Any], saved: Mapping[str, Any] | None = None, *, source: str = "last.pt"
) -> None:
    """Take a folder for a run, which from now on is not finished.

    `saved` are the facts of a run to resume, read from the file `source`. Raises UsageError where they differ; the
    folder then stays unchanged.
    """
    if saved is not None:
        check_same(folder / source, saved, facts)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)


def finish_run(folder: Path, kind: str, name: str, facts: Mapping[str, Any]) -> None:
    """Write the manifest: kind and name of the run, time [UTC], version, files, and facts."""
    manifest = {
        "kind": kind,
        "name": name,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "generator": f"chemnet {__version__}",
        "files": sorted(file.name for file in folder.iterdir() if file.is_file()),
        **facts,
    }
    write_json(folder / MANIFEST, manifest)


def unfinished_run(name: str, checkpoint: str, root: Path = Path("runs")) -> Path | None:
    """A run below `root` that has a checkpoint, no manifest, and a `config.yaml` of this name, or None."""
    for path in sorted(root.glob(f"*/{checkpoint}")):
        config = path.with_name("config.yaml")
        if not path.with_name(MANIFEST).exists() and config.is_file() and read_yaml(config).get("name") == name:
            return path.parent
    return None


def how_to_finish(folder: Path) -> str:
    """The command that goes on with a training that is not finished, as a line of a message."""
    return f"{folder} is not finished: chemnet train --config {folder / 'config.yaml'} --out {folder} --resume"


def latest_run(name: str, root: Path = Path("runs"), kind: str = "training") -> Path | None:
    """The newest finished run of a kind and name below `root`, or None."""
    finished = []
    for manifest in root.glob(f"*/{MANIFEST}"):
        facts = read_json(manifest)
        if facts.get("kind") == kind and facts.get("name") == name:
            finished.append((facts["finished"], manifest.parent))
    return max(finished)[1] if finished else None


def write_kept(path: Path, origin: str, content: Mapping[str, Any]) -> None:
    """Write a result (JSON) with the fingerprint of its inputs."""
    write_json(path, {"origin": origin, **content})


def read_kept(path: Path, origin: str) -> dict[str, Any] | None:
    """Result of a file if the fingerprint of its inputs is `origin`; None otherwise."""
    try:
        content = read_json(path)
        return dict(content) if content["origin"] == origin else None
    except (FileError, KeyError, TypeError):
        return None
