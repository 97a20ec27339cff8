"""Plots: where nothing is known there is still a picture; axes have names, labels do not stand on one another."""

from itertools import combinations

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from PIL import Image

from chemnet.runtime import flow_plots, plots


@pytest.mark.parametrize("found", [np.nan, 100.0])
def test_delays_are_drawn_where_a_model_or_nothing_ignites(tmp_path, found):
    cases = {
        "T0": np.array([1400.0, 1600.0]),
        "phi": np.ones(2),
        "P": np.ones(2),
        "reference": np.full(2, found),
        "model": np.full(2, np.nan),
        "error": np.full(2, np.nan),
    }
    plots.ignition_delays(tmp_path / "delays.png", {"model": cases})
    assert (tmp_path / "delays.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, in place of their files."""
    kept = []
    for module in (plots, flow_plots):
        monkeypatch.setattr(module, "save", lambda figure, path: kept.append(figure))
    return kept


def curve(errors, costs, first):
    return np.array(errors), 1e-6 * np.array(costs), first * 10.0 ** np.arange(len(errors))


def test_tolerances_of_a_work_precision_diagram_do_not_stand_on_one_another(figures):
    crowded = curve([1e-6, 8e-6, 2e-5, 3e-5, 3.1e-5, 3.2e-5], [4, 3, 2.5, 2.3, 2.3, 2.25], 1e-7)
    apart = curve(np.geomspace(1e-7, 1e-2, 6), np.geomspace(300, 100, 6), 1e-9)
    kinds = dict.fromkeys(("flame", "mixed", "ignition", "burnt", "cold"), {"CVODES": apart, "exact": crowded})
    plots.work_precision(None, {"drm19": kinds, "h2o2.yaml": kinds})
    (figure,) = figures
    figure.draw_without_rendering()
    for axes in figure.axes:
        labels = [text for text in axes.texts if isinstance(text, Annotation)]
        assert len(labels) >= 4
        boxes = [text.get_window_extent() for text in labels]
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_a_map_of_similarities_says_what_its_axes_are(figures):
    plots.similarity_maps(None, {"layer 1": np.eye(4), "layer 2": np.eye(3)})
    *panels, bar = figures[0].axes
    assert all("neuron" in axes.get_xlabel() for axes in panels) and "neuron" in panels[0].get_ylabel()
    assert bar.get_ylabel() == "cosine similarity"


LOG = """step,event,layer,metric,loss,parameters,layer_left
0,step,,0.86,0.70,100,1
0,cut,layer 2,0.80,0.70,90,0.8
1,step,layer 2,0.85,0.72,90,0.8
1,accepted,layer 2,0.85,0.72,90,0.8
"""


@pytest.mark.parametrize("draw, curves", [(plots.reduction_steps, 3), (plots.first_main_reduction, 3)])
def test_pictures_of_a_reduction_name_their_axes_and_curves(figures, tmp_path, draw, curves):
    (tmp_path / "log.csv").write_text(LOG)
    draw(None, tmp_path / "log.csv")
    (figure,) = figures
    assert [len(legend.get_texts()) for legend in figure.legends] == [curves]
    assert all(axes.get_ylabel() not in ("", "[%]") for axes in figure.axes)


def test_the_legend_of_ignition_delays_gives_models_no_colour_of_a_mixture(figures):
    cases = {name: np.array([1.0, 2.0]) for name in ("T0", "P", "reference", "model", "error")}
    plots.ignition_delays(None, {"small": {**cases, "phi": np.array([0.5, 1.0])}})
    lines, labels = figures[0].axes[0].get_legend_handles_labels()
    (model,) = (line for line, label in zip(lines, labels, strict=True) if label.startswith("small"))
    assert model.get_color() == "0.3"


def test_a_history_writes_pressures_in_full_and_says_whose_it_is(figures):
    names = "time T_max T_min p0 heat_release burnt_area cfl iterations cells_exact seconds_chemistry".split()
    columns = {name: np.array([1.0, 2.0]) for name in names} | {"p0": np.array([101325.0, 101326.0])}
    flow_plots.history(None, columns, "run 7")
    (figure,) = figures
    figure.draw_without_rendering()
    assert figure.get_suptitle() == "run 7"
    assert not any("+" in axes.yaxis.get_offset_text().get_text() for axes in figure.axes)


def test_a_label_that_stands_out_of_a_figure_is_not_cut(tmp_path):
    figure = Figure(figsize=(2.0, 2.0))
    figure.text(-0.2, 0.5, "y [mm]")
    plots.save(figure, tmp_path / "a.png")
    grey = np.asarray(Image.open(tmp_path / "a.png").convert("L"))
    assert grey[:, 0].min() == 255 and grey[:, :60].min() < 100
