"""Pictures and page of a run folder: what is chosen, what is missing, that files are written whole."""

import numpy as np
import pytest
from PIL import Image

from cfd_coupling.output import Snapshot
from cfd_coupling.pictures import draw_run, plane
from cfd_coupling.report import write_report
from chemnet.cli.main import main
from chemnet.runtime.errors import FileError, UsageError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short frozen run with four snapshots, in a closed box of 16 x 16 cells."""
    from cfd_coupling.config import load_case
    from cfd_coupling.parallel import Communicator
    from cfd_coupling.simulation import run as run_case

    changes = ["grid.nx=16", "grid.ny=16", "grid.length_x=9.375e-4", "grid.length_y=9.375e-4", "end_time=4e-6",
               "chemistry.kind=frozen", "output.snapshot_every=1", "output.history_every=1",
               "output.fields=[T,p,velocity,OH,heat_release,chemistry]"]  # fmt: skip
    case = load_case("turbulent_ignition", variant="demo", assignments=changes)
    return run_case(case, tmp_path_factory.mktemp("runs") / "run", Communicator())


def test_one_command_draws_fields_history_scatter_movie_and_the_page(run, tmp_path, capsys):
    movie = tmp_path / "T.gif"
    assert main(["plot", "run", str(run), "--movie", str(movie)]) == 0
    assert "report.html" in capsys.readouterr().out
    for name in ("fields.png", "history.png", "scatter.png"):
        with Image.open(run / name) as picture:
            assert picture.format == "PNG" and min(picture.size) > 300
    with Image.open(movie) as picture:
        assert picture.n_frames == 5
    page = (run / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert "grid:" in page and "drift" in page and "finished at step 4" in page


def test_asked_times_are_those_of_the_nearest_snapshots(run):
    from cfd_coupling.output import snapshots
    from cfd_coupling.pictures import _nearest

    paths = snapshots(run / "snapshots")
    assert [path.stem[-1] for path in _nearest(paths, [1.2e-6, 0.9e-6, 3.9e-6])] == ["1", "4"]
    assert [path.stem[-1] for path in _nearest(paths, [])] == ["1", "2", "3", "4"]


def test_vorticity_comes_from_the_velocity_where_it_is_not_stored():
    x = 2.0 * np.pi * (np.arange(64) + 0.5) / 64
    velocity = np.stack(
        [-np.sin(x)[:, None] * np.ones(64), np.sin(x)[None, :] * np.ones((64, 1)), np.zeros((64, 64))], -1
    )
    spacing = 2.0 * np.pi / 64
    snapshot = Snapshot({"velocity": velocity}, 0.0, 0, 1e5, spacing, spacing)
    exact = np.cos(x)[None, :] + np.cos(x)[:, None]
    np.testing.assert_allclose(plane(snapshot, "vorticity"), exact, rtol=0.0, atol=4e-3)


def test_vorticity_of_a_box_with_walls_does_not_wrap_round():
    y = (np.arange(32) + 0.5) / 32
    u = np.broadcast_to(3.0 * y[:, None], (32, 8))
    velocity = np.stack([u, 0.0 * u, 0.0 * u], axis=-1)
    snapshot = Snapshot({"velocity": velocity}, 0.0, 0, 1e5, 1 / 8, 1 / 32, ends=True)
    np.testing.assert_allclose(plane(snapshot, "vorticity"), -3.0, rtol=0.0, atol=1e-12)


def test_without_species_there_is_no_scatter_plot_and_a_movie_of_any_field(run, tmp_path):
    import shutil

    from cfd_coupling.output import read_image, snapshots, write_image

    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "scatter.png").unlink(missing_ok=True)
    for path in snapshots(copy / "snapshots"):
        image = read_image(path, ("heat_release", "velocity"))
        clock = {"TimeValue": image.time, "step": image.step, "p0": image.p0}
        write_image(path, image.arrays, clock, (image.dx, image.dy), {})
    drawn = draw_run(copy, ["heat_release"], movie=tmp_path / "heat.gif")
    assert set(drawn) == {"fields", "history", "movie"} and not (copy / "scatter.png").exists()
    with pytest.raises(UsageError, match="velocity is a vector"):
        draw_run(copy, ["velocity"])


@pytest.mark.parametrize("times", ["soon", "nan", "-1e-4", "inf"])
def test_times_that_are_none_are_refused(run, times, capsys):
    assert main(["plot", "run", str(run), f"--times={times}"]) == 2
    assert "are not times [s]" in capsys.readouterr().err


def test_a_field_that_is_not_there_is_named(run):
    with pytest.raises(UsageError, match=r"hold no CO, but OH, T, chemistry.*\nAdd it"):
        draw_run(run, ["T", "CO"])


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(FileError, match="holds no run"):
        draw_run(tmp_path)


def test_a_movie_that_cannot_be_made_is_refused_before_anything_is_drawn(run, tmp_path, monkeypatch):
    from chemnet.runtime import flow_plots

    monkeypatch.setattr(flow_plots.FFMpegWriter, "isAvailable", classmethod(lambda cls: False))
    with pytest.raises(UsageError, match=r"no ffmpeg.*\nInstall it"):
        draw_run(run, movie=tmp_path / "T.mp4")
    with pytest.raises(UsageError, match=r"ends in .gif or .mp4"):
        draw_run(run, movie=tmp_path / "T.avi")


def test_a_page_of_an_unfinished_run_says_so(run, tmp_path):
    import json
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    manifest = json.loads((copy / "manifest.json").read_text()) | {"finished": False}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert "unfinished at step 4" in write_report(copy, {}).read_text()
