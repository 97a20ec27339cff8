"""HDF5 files are whole or absent, also when the disk is full: an error with the name of the file, never a crash."""

import errno
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from chemnet.runtime import checksum
from chemnet.runtime.errors import FileError
from chemnet.runtime.hdf5 import new_file, read_arrays, write_arrays

FULL = """
import resource, sys
import numpy as np
from chemnet.runtime.errors import run_command
from chemnet.runtime.hdf5 import new_file

def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    with new_file(sys.argv[1], sealed=True) as file:
        for k in range(30):
            file.create_dataset(str(k), data=np.full(1000, float(k)), chunks=(100,), fletcher32=True)

sys.exit(run_command(main, "x"))
"""


def test_writing_a_file_leaves_nothing_to_complain_of_for_the_interpreter(tmp_path):
    """Python tells errors of objects that are thrown away from 3.13 on, and with `-X dev` before."""
    code = "import sys; from chemnet.runtime.hdf5 import new_file\nwith new_file(sys.argv[1]): pass"
    command = [sys.executable, "-X", "dev", "-c", code, str(tmp_path / "a.h5")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_a_file_reads_back_and_carries_its_checksum(tmp_path):
    values = np.random.default_rng(0).random((40, 30))
    with new_file(tmp_path / "a.h5", sealed=True) as file:
        file.create_dataset("values", data=values, chunks=(7, 30), fletcher32=True)
        file.attrs["facts"] = "some"
    assert checksum.is_whole(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["values"][:], values)
        assert file.attrs["facts"] == "some"


def test_an_error_while_filling_leaves_the_file_as_it_was(tmp_path):
    (tmp_path / "a.h5").write_text("before")
    with pytest.raises(RuntimeError), new_file(tmp_path / "a.h5"):
        raise RuntimeError
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_a_full_disk_is_an_error_that_names_the_file_and_not_a_crash(tmp_path):
    path = tmp_path / "a.h5"
    path.write_text("before")
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith(f"x: File too large: {path}") and len(done.stderr.splitlines()) == 2
    assert path.read_text() == "before" and len(list(tmp_path.iterdir())) == 1


def test_a_device_without_space_is_the_error_of_the_device(tmp_path):
    (tmp_path / f".a.h5.{os.getpid()}.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as raised, new_file(tmp_path / "a.h5") as file:
        file.create_dataset("values", data=np.zeros(1000))
    assert raised.value.errno == errno.ENOSPC and raised.value.filename == str(tmp_path / "a.h5")


def test_arrays_read_back_and_a_file_that_is_damaged_or_missing_is_an_error_that_names_it(tmp_path):
    path, arrays = tmp_path / "a.h5", {"T": np.random.default_rng(0).random((3, 4)), "none": np.empty((0, 5))}
    write_arrays(path, arrays, "a note")
    found = read_arrays(path)
    assert set(found) == set(arrays)
    for name, values in arrays.items():
        np.testing.assert_array_equal(found[name], values)
    content = path.read_bytes()
    for damaged in (content[:-1], content[:100], b"", content.replace(b"a note", b"b note")):
        path.write_bytes(damaged)
        with pytest.raises(FileError, match="a.h5 is damaged"):
            read_arrays(path)
    path.unlink()
    with pytest.raises(FileError, match="no file .*a.h5"):
        read_arrays(path)
