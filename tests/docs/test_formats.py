"""docs/formats.md says what the code writes: statuses, exit codes, columns, units, layouts."""

import csv
import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from tiny_model import save_tiny_model

from cfd_coupling.__main__ import main as flow
from cfd_coupling.monitors import unit
from cfd_coupling.output import UNITS, snapshots
from chemnet.data import dataset
from chemnet.data.recipe import load_recipe
from chemnet.data.sampling import _provenance
from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.status import Status
from chemnet.runtime import checksum
from chemnet.surrogate import model_file
from chemnet.surrogate.network import NetConfig, build
from chemnet.training.batches import TrainingData
from chemnet.training.loop import fit
from chemnet.training.options import FitOptions

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "formats.md").read_text()


def table(heading, column):
    """Rows of the first table whose first column has a name, below a heading, as lists of their cells."""
    lines = PAGE.partition(f"\n{heading}\n")[2].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {column} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def names(cell):
    """The names in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def first_names(heading, column):
    return {name for row in table(heading, column) for name in names(row[0])}


def test_statuses_are_those_of_the_code():
    shown = {names(name)[0]: int(number) for number, name, _ in table("## Statuses of a row", "status")}
    assert shown == {status.name: status.value for status in Status}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of a few steps of a closed and of an open box."""
    few = {
        "taylor_green": ["--set", "grid.nx=8", "--set", "grid.ny=8", "--set", "end_time=4e-6"],
        "jet": ["--variant", "short", "--set", "end_time=8e-6"],
    }
    folders = {case: tmp_path_factory.mktemp("runs") / case for case in few}
    every = ("--set", "output.fields=[T, rho, h, p, velocity, vorticity, heat_release, chemistry, OH]")
    for case, folder in folders.items():
        assert flow(["run", f"cases/{case}", *few[case], *every, "--out", str(folder)]) == 0
    return folders


def test_the_columns_of_the_history_are_those_of_the_page_and_have_its_units(runs):
    documented = {names(row[0])[0]: row[1] for row in table("### Columns of history.csv", "column")}
    found = {}
    for folder in runs.values():
        found |= json.loads((folder / "manifest.json").read_text())["history_units"]
    found["consumption_speed"] = unit("consumption_speed")  # only where a case asks for it
    patterns = {name: re.compile(re.sub(r"<\w+>", r"\\w+", name)) for name in documented}
    for column, its_unit in found.items():
        exact = [name for name in documented if name == column]
        fitting = exact or [name for name, pattern in patterns.items() if pattern.fullmatch(column)]
        assert len(fitting) == 1 and documented[fitting[0]] == its_unit, column
    assert all(any(pattern.fullmatch(column) for column in found) for pattern in patterns.values())
    text = " ".join(cell for row in table("### Columns of history.csv", "column") for cell in row)
    assert {c.partition("_")[2] for c in found if c.startswith(("cells_", "seconds_"))} <= set(
        re.findall("[a-z]+", text)
    )


def test_a_run_leaves_the_files_of_the_page(runs):
    documented = first_names("## A flow run", "file")
    found = {path.relative_to(runs["jet"]).as_posix() for path in runs["jet"].rglob("*") if path.is_file()}
    shown = {re.sub(r"\d{7}", "NNNNNNN", name) for name in found}
    assert shown == documented - {"run.lock"}


def test_snapshots_have_the_layout_of_the_page(runs):
    fields = {names(row[0])[0]: row[1] for row in table("### Snapshots", "field") if names(row[0])}
    assert fields == UNITS
    path = snapshots(runs["jet"] / "snapshots")[-1]
    with h5py.File(path) as file:
        for row in table("### Snapshots", "place"):
            place, *attribute = names(row[0])
            assert place.replace("<field>", "T") in file, place
            assert all(name in file[place].attrs for name in attribute)
        assert set(file["VTKHDF/FieldData"]) == {"TimeValue", "step", "p0"}
        assert file["VTKHDF/CellData/OH"].attrs["units"] == "1"
        ny, nx = file["VTKHDF/CellData/T"].shape
        np.testing.assert_array_equal(file["VTKHDF"].attrs["WholeExtent"], [0, nx, 0, ny, 0, 0])


def test_checkpoints_have_the_layout_of_the_page(runs):
    (path,) = (runs["jet"] / "checkpoints").glob("*.h5")
    with h5py.File(path) as file:
        assert {f"fields/{name}" for name in file["fields"]} == first_names("### Checkpoints", "dataset")
        assert set(file.attrs) == {"format", "content"}
    assert f"the last {checksum._TAIL} bytes" in PAGE


def test_training_sets_have_the_layout_of_the_page(tmp_path):
    path = tmp_path / "states.h5"
    rows = [np.zeros((2, 23)), np.zeros((2, 23)), np.zeros(2, np.int8), np.zeros(2, np.int32), np.zeros(2, np.int8)]
    found = {"lost": 0, "retried": 0, "raw_drift": 0.0}
    audit = dataset.Audit(np.array([1]), np.zeros((1, 23)))
    dataset.write(path, [dataset.Pairs(*rows)], _provenance(load_recipe()) | found, audit)
    with h5py.File(path) as file:
        assert set(file) == first_names("## A training set", "dataset")
        assert set(file.attrs) == first_names("## A training set", "attribute")


def test_model_files_have_the_keys_of_the_page(tmp_path):
    description, tensors = model_file.read(Path(save_tiny_model(tmp_path / "tiny.safetensors", dt=1e-6)))
    assert set(description) == first_names("## A model", "key")
    assert {"0.weight", "0.bias", "2.weight"} <= set(tensors)
    assert tensors["0.weight"].shape == (16, load_mechanism("drm19").n_species + 2)


def test_losses_have_the_columns_of_the_page(tmp_path):
    x = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))
    data, network = TrainingData(x, x, x, x, torch.arange(3)), build(NetConfig(widths=(3, 4, 3), activation="relu"), 0)
    fit(network, data, FitOptions(steps=2, batch_size=8, warmup_steps=1), tmp_path, report=lambda line: None)
    with open(tmp_path / "loss.csv", newline="") as file:
        assert next(csv.reader(file)) == [names(row[0])[0] for row in table("## A training", "column of loss.csv")]
