"""Checkpoints: tensors and plain data in one file with a checksum; reading one runs no code."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from chemnet.runtime import run_folder
from chemnet.runtime.errors import FileError
from chemnet.runtime.files import atomic

_CHECKPOINT = b"chemnet-checkpoint-1\n"  # then 32 bytes of SHA-256, then what torch saves


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain data atomically, with their SHA-256."""
    buffer = io.BytesIO()  # for a full disk torch raises an error of its own, files raise OSError
    torch.save(dict(content), buffer)
    with atomic(path) as temporary, open(temporary, "wb") as file:
        file.writelines((_CHECKPOINT, hashlib.sha256(buffer.getbuffer()).digest(), buffer.getbuffer()))


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Content of a checkpoint. Raises FileError when it is missing, damaged, or holds more than tensors and numbers."""
    if not Path(path).is_file():
        raise FileError(f"no checkpoint {path} to resume from; start without --resume")
    content = Path(path).read_bytes()
    start = len(_CHECKPOINT) + hashlib.sha256().digest_size
    digest, payload = content[len(_CHECKPOINT) : start], content[start:]
    if not content.startswith(_CHECKPOINT) or hashlib.sha256(payload).digest() != digest:
        raise FileError(f"{path} is damaged, or no checkpoint of this version\nStart without --resume.")
    try:
        return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:
        raise FileError(f"{path} holds more than numbers ({str(error).splitlines()[0][:60]})") from None


def check_no_run(folder: Path, checkpoint: str, kind: str, overwrite: bool = False) -> None:
    """As `run_folder.check_no_run`, with the step of the checkpoint."""
    state = ""
    if not overwrite and (folder / checkpoint).is_file():
        with suppress(FileError):
            state = f", at step {read_checkpoint(folder / checkpoint)['step']:,}"
    run_folder.check_no_run(folder, checkpoint, kind, overwrite, state)


def copied(content: Any) -> Any:
    """Nested plain data with copies of its tensors."""
    if isinstance(content, torch.Tensor):
        return content.detach().clone()
    if isinstance(content, dict):
        return {key: copied(value) for key, value in content.items()}
    return [copied(value) for value in content] if isinstance(content, list) else content
