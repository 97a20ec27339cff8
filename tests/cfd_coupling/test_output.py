"""Snapshots: what is written reads back, in our reader and in VTK's."""

import json
import re

import h5py
import numpy as np
import pytest

from cfd_coupling.chemistry import KINDS, ChemistryReport
from cfd_coupling.fields import Fields, interior
from cfd_coupling.grid import Grid
from cfd_coupling.output import SnapshotWriter, read_image, remove_snapshots, snapshots
from cfd_coupling.parallel import Communicator
from chemnet.gas.mechanism import load_mechanism
from chemnet.runtime.errors import FileError, UsageError

GRID = Grid(6, 4, 6e-4, 8e-4)
NAMES = ("T", "rho", "velocity", "vorticity", "heat_release", "chemistry", "CH2(S)")
DRM19 = load_mechanism("drm19")
DT = 1e-6


def writer(folder, *names):
    return SnapshotWriter(folder, GRID, Communicator(), names, DRM19, DT, "name: x\n")


@pytest.fixture
def fields():
    """T, rho, Y with a different number in each cell; u = 10 x, v = 10 y at the faces (west and south)."""
    fields = Fields.empty(GRID, DRM19.n_species, p0=1.2e5)
    rng = np.random.default_rng(1)
    for q in (fields.T, fields.rho, fields.scalars):
        interior(q)[:] = rng.random(interior(q).shape)
    comm = Communicator()
    interior(fields.u)[:] = 10.0 * np.arange(GRID.nx) * GRID.dx
    interior(fields.v)[:] = 10.0 * (np.arange(GRID.ny) * GRID.dy)[:, None]
    comm.update(fields.velocity)
    fields.step, fields.time = 120, 1.2e-4
    return fields


@pytest.fixture
def path(fields, tmp_path):
    return writer(tmp_path, *NAMES).write(fields, chemistry())


def chemistry():
    """One cell where CH4 burns, taken by the integrator, and one that nothing happens to, left by a model."""
    hot = np.zeros((GRID.ny, GRID.nx), dtype=bool)
    hot[1, 2] = hot[3, 5] = True
    change = np.zeros((2, DRM19.n_species))
    change[0, [DRM19.index(name) for name in ("CH4", "O2", "CO2", "H2O")]] = np.array([-16.0, -64.0, 44.0, 36.0]) * 1e-6
    return ChemistryReport(hot, change, np.array([KINDS.index("exact"), KINDS.index("fallback")], np.int8))


def test_a_snapshot_reads_back_bit_for_bit(fields, path):
    back = read_image(path)
    np.testing.assert_array_equal(back.arrays["T"], interior(fields.T))
    np.testing.assert_array_equal(back.arrays["CH2(S)"], interior(fields.Y[DRM19.index("CH2(S)")]))
    assert (back.time, back.step, back.p0, back.dx, back.dy) == (1.2e-4, 120, 1.2e5, GRID.dx, GRID.dy)
    assert set(back.arrays) == set(NAMES)


def test_velocity_is_the_mean_of_the_two_faces(path):
    velocity = read_image(path).arrays["velocity"]
    np.testing.assert_allclose(velocity[0, :-1, 0], 10.0 * GRID.x[:-1], rtol=1e-12, atol=0.0)
    np.testing.assert_allclose(velocity[:-1, 0, 1], 10.0 * GRID.y[:-1], rtol=1e-12, atol=0.0)
    assert velocity[0, -1, 0] == pytest.approx(
        5.0 * (GRID.nx - 1) * GRID.dx, rel=1e-12, abs=0.0
    )  # periodic: u = 0 east
    assert not velocity[..., 2].any()


def test_vtk_reads_the_same_cells_in_the_same_places(fields, path):
    vtk = pytest.importorskip("vtkmodules.vtkIOHDF")
    from vtkmodules.util.numpy_support import vtk_to_numpy

    reader = vtk.vtkHDFReader()
    reader.SetFileName(str(path))
    reader.Update()
    image = reader.GetOutput()
    assert image.GetDimensions() == (GRID.nx + 1, GRID.ny + 1, 1)
    assert image.GetSpacing()[:2] == pytest.approx((GRID.dx, GRID.dy), rel=1e-12, abs=0.0)
    T = vtk_to_numpy(image.GetCellData().GetArray("T")).reshape(GRID.ny, GRID.nx)
    np.testing.assert_array_equal(T, interior(fields.T))
    velocity = vtk_to_numpy(image.GetCellData().GetArray("velocity")).reshape(GRID.ny, GRID.nx, 3)
    np.testing.assert_array_equal(velocity, read_image(path).arrays["velocity"])
    assert image.GetFieldData().GetArray("TimeValue").GetValue(0) == 1.2e-4


def test_snapshots_are_listed_in_order_of_step_without_leftovers(fields, tmp_path):
    for step in (1000, 20, 3):
        fields.step, fields.time = step, step / 8.0
        writer(tmp_path, "T").write(fields)
    assert [read_image(path).step for path in snapshots(tmp_path)] == [3, 20, 1000]
    assert len(list(tmp_path.iterdir())) == 4
    assert series(tmp_path) == {"0000003.vtkhdf": 0.375, "0000020.vtkhdf": 2.5, "0001000.vtkhdf": 125.0}
    remove_snapshots(tmp_path, after=20)
    assert [path.stem for path in snapshots(tmp_path)] == ["0000003", "0000020"]
    assert series(tmp_path) == {"0000003.vtkhdf": 0.375, "0000020.vtkhdf": 2.5}


def series(folder):
    """Times of the files that ParaView opens as one, by their names."""
    content = json.loads((folder / "flow.vtkhdf.series").read_text())
    assert content["file-series-version"] == "1.0"
    return {file["name"]: file["time"] for file in content["files"]}


def test_heat_release_is_the_enthalpy_of_formation_lost_per_second(path):
    """Oracle: Cantera's heat of combustion of methane at 298.15 K [J/kg]."""
    gas = DRM19.gas()
    enthalpies = {}
    for name in ("CH4", "O2", "CO2", "H2O"):
        gas.TPX = 298.15, 101325.0, {name: 1.0}
        enthalpies[name] = gas.enthalpy_mass
    change = dict(zip(enthalpies, np.array([-16.0, -64.0, 44.0, 36.0]) * 1e-6, strict=True))
    expected = np.zeros((GRID.ny, GRID.nx))
    expected[1, 2] = -sum(change[name] * enthalpies[name] for name in change) / DT
    np.testing.assert_allclose(read_image(path).arrays["heat_release"], expected, rtol=1e-6, atol=0.0)
    assert expected.max() > 5e8


def test_chemistry_says_which_kind_took_each_cell(path):
    codes = read_image(path).arrays["chemistry"]
    assert codes.dtype == np.int8
    assert (codes[1, 2], codes[3, 5], np.count_nonzero(codes)) == (1, 4, 2)
    with h5py.File(path) as file:
        assert list(file["VTKHDF/CellData/chemistry"].attrs["names"]) == list(KINDS)


def test_every_array_carries_its_unit(path):
    with h5py.File(path) as file:
        units = {name: array.attrs["units"] for name, array in file["VTKHDF/CellData"].items()}
    assert units == {
        "T": "K", "rho": "kg/m3", "velocity": "m/s", "vorticity": "1/s", "heat_release": "W/m3",
        "chemistry": "1", "CH2(S)": "1",
    }  # fmt: skip


def test_vorticity_of_a_rotation_is_twice_its_rate(fields, tmp_path):
    """u = -3 y, v = 3 x at the faces, in all cells but those beside the seam of the periodic box."""
    i, j = np.arange(-3, GRID.nx + 3), np.arange(-3, GRID.ny + 3)
    fields.u[:], fields.v[:] = -3.0 * (j[:, None] + 0.5) * GRID.dy, 3.0 * (i + 0.5) * GRID.dx
    vorticity = read_image(writer(tmp_path, "vorticity").write(fields)).arrays["vorticity"]
    np.testing.assert_allclose(vorticity, 6.0, rtol=1e-12, atol=0.0)


def test_species_stands_for_all_species_each_once(fields, tmp_path):
    arrays = read_image(writer(tmp_path, "T", "CH4", "species").write(fields)).arrays
    assert sorted(arrays) == sorted(("T", *DRM19.species_names))


@pytest.mark.parametrize(
    ("name", "hint"),
    [("temperature", "; did you mean|\\nValid: T, rho"), ("heat_relase", "; did you mean heat_release")],
)
def test_an_unknown_field_is_a_usage_error_that_lists_the_valid_ones(tmp_path, name, hint):
    with pytest.raises(UsageError, match=f"no field {name}") as raised:
        writer(tmp_path, name)
    assert re.search(hint, str(raised.value)) and "Valid: T, rho, h, p, velocity" in str(raised.value)


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_a_damaged_snapshot_is_a_file_error(path, damage):
    data = bytearray(path.read_bytes())
    path.unlink()
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    if damage == "flipped":
        path.write_bytes(data)
        with h5py.File(path) as file:
            offset = file["VTKHDF/CellData/T"].id.get_chunk_info(0).byte_offset
        data[offset + 9] ^= 4
        path.write_bytes(data)
    with pytest.raises(FileError, match="not a readable snapshot"):
        read_image(path)
