"""Configuration, files, errors and tables: messages name the key, files are whole, exit codes are as documented."""

import json
import os
import tempfile

import numpy as np
import pytest
from pydantic import Field

from chemnet.runtime.config import Config, dump_yaml, override, parse, parse_yaml, read_yaml
from chemnet.runtime.errors import ChemnetError, FileError, NumericalError, UsageError, run_command
from chemnet.runtime.files import atomic, read_json, shipped, write_json
from chemnet.runtime.tables import Table


class Grid(Config):
    nx: int = Field(ge=1)
    length: float = 1.0


class Case(Config):
    grid: Grid
    dt: float
    grids: list[Grid] = []


def test_yaml_reads_numbers_as_yaml_1_2_and_writes_them_back(tmp_path):
    path = tmp_path / "case.yaml"
    path.write_text("grid: {nx: 4}\ndt: 1e-6\n")
    case = parse(Case, read_yaml(path), str(path))
    assert case.dt == 1e-6
    assert parse(Case, parse_yaml(dump_yaml(case), "written"), "written") == case


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grid: {nx: 4}\ndt: 1e-6\ndtt: 1", ["unknown key dtt", "did you mean dt?"]),
        ("grid: {nx: 4, lenght: 2}\ndt: 1", ["unknown key grid.lenght", "length"]),
        ("grid: {nx: 4}\ndt: 1\ngrids: [{nx: 1, mx: 2}]", ["grids.0.mx", "nx"]),
        ("grid: {nx: 0}\ndt: 1", ["grid.nx", "greater than or equal to 1"]),
        ("grid: {nx: four}\ndt: 1", ["grid.nx", "four"]),
        ("grid: {nx: 4}", ["dt", "required"]),
        ("grid: {nx: 4}\ndt: .nan", ["dt", "finite"]),
        ("grid: {nx: 4}\ndt: 1\ndt: 2", ["duplicate key", "dt", "line 3"]),
        ("grid: [nx", ["line"]),
        ("just words", ["mapping"]),
    ],
)
def test_a_wrong_configuration_is_refused_in_few_lines_that_name_the_key(text, words):
    with pytest.raises(UsageError) as caught:
        parse(Case, parse_yaml(text, "case.yaml"), "case.yaml")
    message = str(caught.value)
    assert message.startswith("case.yaml") and len(message.splitlines()) <= 3
    assert all(word in message for word in words), message


def test_overrides_reach_nested_keys_and_leave_the_input_alone():
    data = {"grid": {"nx": 4}, "dt": 1.0}
    assert override(data, ["grid.nx=8", "dt=1e-6"]) == {"grid": {"nx": 8}, "dt": 1e-6}
    assert data == {"grid": {"nx": 4}, "dt": 1.0}
    for wrong in ("grid.nx", "=3", "dt.x=1"):
        with pytest.raises(UsageError, match="--set"):
            override(data, [wrong])


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["result.json"]


def test_missing_and_broken_files_are_named(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    for name in ("nowhere.json", "broken.json"):
        with pytest.raises(FileError, match=name):
            read_json(tmp_path / name)
    with pytest.raises(FileError, match="cases/none"):
        shipped("cases/none")
    assert shipped("datasets/drm19/recipe.yaml").is_file()


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (ChemnetError("x"), 1),
        (UsageError("x"), 2),
        (NumericalError("x"), 3),
        (FileError("x"), 4),
        (OSError(28, "No space left on device", "f"), 4),
        (KeyboardInterrupt(), 130),
        (ValueError("x"), 70),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_each_kind_of_failure_has_its_exit_code_and_a_message_without_traceback(failure, code, capsys):
    def main():
        raise failure

    assert run_command(main, "chemnet") == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("Traceback" in captured.err) == (code == 70)
    assert code in (70, 130) or captured.err.startswith("chemnet: ")


def test_without_a_temporary_folder_the_variable_that_names_one_is_told(monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])
    assert run_command(tempfile.gettempdir, "chemnet") == 4
    err = capsys.readouterr().err
    assert "export TMPDIR=FOLDER" in err and len(err.splitlines()) == 2


def test_a_table_prints_aligned_and_goes_to_json():
    table = Table("Speeds", ["kind", "time [s]"], [["cvode", 1.23456], ["net", None]])
    lines = table.text().splitlines()
    assert lines[0] == "Speeds" and len({len(line) for line in lines[1:]}) == 1
    assert "1.235" in table.text()
    pairs = Table("Ranges", ["T [K]", "widths"], [[(300.0, np.float64(1200.5)), [3, 4, 5]], [(0.1, float("inf")), []]])
    assert [line.split() for line in pairs.text().splitlines()[4:6]] == [
        "300 - 1200 3 4 5".split(),
        "0.1 - inf".split(),
    ]
    assert [row["T [K]"] for row in pairs.as_json()["rows"]] == [[300.0, 1200.5], [0.1, None]]
    long = Table("Words", ["name", "text"], [["a", "word " * 60], ["b", 1]]).text().splitlines()
    assert max(map(len, long)) < 120 and sum(line.count("word") for line in long) == 60
    assert json.loads(json.dumps(table.as_json()))["rows"][0] == {"kind": "cvode", "time [s]": 1.23456}
