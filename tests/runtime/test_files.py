"""Files and folders are written whole or not at all."""

import pytest

from chemnet.runtime import files


def test_a_folder_is_whole_or_as_it_was(tmp_path):
    left = tmp_path / ".case.4194305.tmp"  # of a process that there cannot be
    left.mkdir()
    for content in ("old", "new"):
        with files.atomic_folder(tmp_path / "case", replace=True) as folder:
            (folder / "file").write_text(content)
    assert (tmp_path / "case" / "file").read_text() == "new"
    with pytest.raises(RuntimeError), files.atomic_folder(tmp_path / "case", replace=True) as folder:
        (folder / "file").write_text("part")
        raise RuntimeError
    with pytest.raises(OSError, match="not empty") as error, files.atomic_folder(tmp_path / "case"):
        pass
    assert error.value.filename == str(tmp_path / "case")
    assert [path.name for path in tmp_path.iterdir()] == ["case"] and (tmp_path / "case" / "file").read_text() == "new"
