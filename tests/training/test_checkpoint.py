"""Checkpoints: damage is noticed, and no code is run."""

import hashlib
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from chemnet.runtime.errors import FileError
from chemnet.training.checkpoint import read_checkpoint, write_checkpoint


def test_checkpoints_that_are_cut_flipped_or_hostile_are_refused(tmp_path):
    path = tmp_path / "last.pt"
    write_checkpoint(path, {"step": 3, "network": nn.Linear(32, 32).state_dict()})
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for length in rng.integers(0, len(content), 100):
        path.write_bytes(content[:length])
        with pytest.raises(FileError, match="damaged"):
            read_checkpoint(path)
    for place in rng.integers(0, len(content), 500):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        with pytest.raises(FileError, match="damaged"):
            read_checkpoint(path)
    path.write_bytes(pickle.dumps(Hostile(tmp_path / "executed")))
    with pytest.raises(FileError, match="damaged"):
        read_checkpoint(path)
    buffer = io.BytesIO()
    torch.save(Hostile(tmp_path / "executed"), buffer)
    path.write_bytes(b"chemnet-checkpoint-1\n" + hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())
    with pytest.raises(FileError, match="more than numbers"):
        read_checkpoint(path)
    assert not (tmp_path / "executed").exists()


class Hostile:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return Path.touch, (Path(self.path),)
