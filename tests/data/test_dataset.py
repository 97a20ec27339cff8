"""Training sets on disk: what was written is read, in pieces too, and damage is told, wherever it sits."""

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from chemnet.cli import main as cli
from chemnet.data import dataset
from chemnet.data.dataset import Audit, Pairs
from chemnet.gas.mechanism import load_mechanism
from chemnet.runtime.errors import FileError

MECHANISM = load_mechanism("h2o2.yaml")
FACTS = {"mechanism": "h2o2.yaml", "mechanism_sha256": MECHANISM.sha256, "dt": 1e-6, "seed": 3, "kinds": ["one", "two"]}


def some_pairs(n, seed=0):
    rng = np.random.default_rng(seed)
    split, group, kind = (rng.integers(2, size=n).astype(t) for t in (np.int8, np.int32, np.int8))
    return Pairs(rng.random((n, 12)), rng.random((n, 12)), split, group, kind)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "states.h5"
    audit = Audit(np.arange(7), np.random.default_rng(1).random((7, 12)))
    dataset.write(path, [some_pairs(900), some_pairs(300, 1)], FACTS, audit)
    return path


def assert_equal(first, second):
    for name in ("states", "next_states", "split", "group", "kind"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize("rows", [1, 500, 1200, 5000])
def test_blocks_hold_the_rows_of_the_file_in_order(written, rows):
    assert_equal(dataset.concatenate(list(dataset.blocks(written, max(rows, 100)))), dataset.read(written))
    assert_equal(dataset.read(written), dataset.concatenate([some_pairs(900), some_pairs(300, 1)]))
    assert len(next(dataset.blocks(written, rows))) == min(rows, 1200)


def test_one_column_is_read_alone(written):
    np.testing.assert_array_equal(dataset.read_column(written, "split"), dataset.read(written).split)


def everything(path: Path) -> list:
    """All that can be read of a file, as plain data."""
    pairs, audit = dataset.concatenate(list(dataset.blocks(path, 512))), dataset.read_audit(path)
    assert_equal(pairs, dataset.read(path))
    arrays = [pairs.states, pairs.next_states, pairs.split, pairs.group, pairs.kind, audit.row, audit.difference]
    attributes = {name: np.asarray(value).tolist() for name, value in dataset.read_attributes(path).items()}
    return [attributes, *(array.tobytes() for array in arrays)]


def test_a_file_that_is_cut_or_has_a_wrong_byte_is_refused_or_reads_as_it_was_written(written, tmp_path):
    content, original = written.read_bytes(), everything(written)
    rng = np.random.default_rng(0)
    damaged = [content[: rng.integers(len(content))] for _ in range(100)]
    for place in rng.integers(len(content), size=300).tolist() + rng.integers(6000, size=200).tolist():
        flipped = bytearray(content)  # the first kilobytes hold what HDF5 knows of the file
        flipped[place] ^= rng.integers(1, 256)
        damaged.append(bytes(flipped))
    path, refused = tmp_path / "damaged.h5", 0
    for data in damaged:
        path.write_bytes(data)
        try:
            assert everything(path) == original
        except FileError as error:
            refused += 1
            assert len(str(error).splitlines()) <= 3
    assert refused == 600


def test_the_command_line_tells_a_damaged_file_in_short_and_ends_with_4(written, tmp_path, capsys):
    content = bytearray(written.read_bytes())
    with h5py.File(written) as file:
        content[file["next_states"].id.get_chunk_info(0).byte_offset + 5] ^= 4
    path = tmp_path / "damaged.h5"
    path.write_bytes(content)
    assert cli.main(["train", "--config", "quick", "--data", str(path), "--out", str(tmp_path / "run")]) == 4
    shown = capsys.readouterr()
    assert "damaged.h5 is damaged" in shown.err and len(shown.err.splitlines()) <= 3


def test_an_attribute_that_was_changed_afterwards_is_noticed(written, tmp_path):
    path = tmp_path / "changed.h5"
    path.write_bytes(written.read_bytes())
    with h5py.File(path, "r+") as file:
        file.attrs["dt"] = 2e-6
    with pytest.raises(FileError, match="no training set|its SHA-256"):
        dataset.read_attributes(path)


def test_chunks_that_change_places_are_noticed_before_the_first_block(written, tmp_path):
    path, content = tmp_path / "changed.h5", bytearray(written.read_bytes())
    with h5py.File(written) as file:
        chunks = [file[name].id.get_chunk_info(0) for name in ("states", "next_states")]
    first, second = (slice(chunk.byte_offset, chunk.byte_offset + chunk.size) for chunk in chunks)
    content[first], content[second] = content[second], content[first]
    path.write_bytes(content)
    with pytest.raises(FileError, match="changed.h5 is damaged"):
        next(dataset.blocks(path, 100))


def test_files_of_another_version_and_other_things_are_told_apart(tmp_path):
    old = tmp_path / "old.h5"
    with h5py.File(old, "w") as file:
        file.attrs["format"] = "chemnet-states-1"
    with pytest.raises(FileError, match="no training set of this version .chemnet-states-3"):
        dataset.read(old)
    (tmp_path / "empty.h5").write_bytes(b"")
    with pytest.raises(FileError, match="no training set"):
        dataset.read(tmp_path / "empty.h5")
    mark = tmp_path / "executed"
    hostile = tmp_path / "hostile.h5"
    hostile.write_bytes(pickle.dumps(_Hostile(mark)))
    with pytest.raises(FileError, match="no training set"):
        dataset.read(hostile)
    assert not mark.exists()


class _Hostile:
    """Touches a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)
