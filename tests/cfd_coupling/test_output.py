"""Snapshots: what is written reads back, in our reader and in VTK's."""

import numpy as np
import pytest

from cfd_coupling.fields import Fields, interior
from cfd_coupling.grid import Grid
from cfd_coupling.output import SnapshotWriter, read_image, snapshots
from cfd_coupling.parallel import Communicator
from chemnet.runtime.errors import FileError, UsageError

GRID = Grid(6, 4, 6e-4, 8e-4)
SPECIES = ("CH4", "CH2(S)")
NAMES = ("T", "rho", "velocity", "CH2(S)")


@pytest.fixture
def fields():
    """T, rho, Y with a different number in each cell; u = 10 x, v = 10 y at the faces (west and south)."""
    fields = Fields.empty(GRID, len(SPECIES), p0=1.2e5)
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
    return SnapshotWriter(tmp_path, GRID, Communicator(), NAMES, SPECIES, "name: x\n").write(fields)


def test_a_snapshot_reads_back_bit_for_bit(fields, path):
    back = read_image(path)
    np.testing.assert_array_equal(back.arrays["T"], interior(fields.T))
    np.testing.assert_array_equal(back.arrays["CH2(S)"], interior(fields.Y[1]))
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
    writer = SnapshotWriter(tmp_path, GRID, Communicator(), ("T",), SPECIES)
    for step in (1000, 20, 3):
        fields.step = step
        writer.write(fields)
    assert [read_image(path).step for path in snapshots(tmp_path)] == [3, 20, 1000]
    assert len(list(tmp_path.iterdir())) == 3


def test_an_unknown_field_is_a_usage_error_that_lists_the_valid_ones(tmp_path):
    with pytest.raises(UsageError, match="no field temperature; valid: T, rho, h, p, velocity"):
        SnapshotWriter(tmp_path, GRID, Communicator(), ("temperature",), SPECIES)


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_a_damaged_snapshot_is_a_file_error(path, damage):
    data = bytearray(path.read_bytes())
    path.unlink()
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    if damage == "flipped":
        import h5py

        path.write_bytes(data)
        with h5py.File(path) as file:
            offset = file["VTKHDF/CellData/T"].id.get_chunk_info(0).byte_offset
        data[offset + 9] ^= 4
        path.write_bytes(data)
    with pytest.raises(FileError, match="not a readable snapshot"):
        read_image(path)
