"""The page of a reduction: its figures are those of the stages, its maps show groups as blocks."""

import importlib.util

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from tiny_model import save_tiny_model

from chemnet.condensation.similarity import NO_GROUP, cosine_similarity, group
from chemnet.reduction.report import by_group, pooled, write_page
from chemnet.reduction.stage_run import Delays, StageReport
from chemnet.reduction.stages import Stages
from chemnet.runtime.config import parse
from chemnet.runtime.tables import Table
from chemnet.surrogate.model import Surrogate


def test_ordered_by_group_scattered_groups_become_blocks_with_the_largest_first():
    rng = np.random.default_rng(0)
    group_of = rng.permutation(np.repeat([0, 1, 2], [3, 7, 5]))
    vectors = np.eye(3)[group_of] * rng.uniform(0.5, 2.0, size=(15, 1))
    matrix = cosine_similarity(vectors)
    order = by_group(group(matrix, 0.9))
    assert_array_equal(group_of[order], np.repeat([1, 2, 0], [7, 5, 3]))
    same_group = np.equal.outer(group_of[order], group_of[order])
    assert_allclose(matrix[np.ix_(order, order)], same_group, rtol=0, atol=1e-12)


def test_every_neuron_has_its_place_and_those_without_a_group_come_last():
    main_of = np.array([NO_GROUP, 3, 2, 3, 2, NO_GROUP, 3])
    assert by_group(main_of).tolist() == [3, 1, 6, 2, 4, 0, 5]


@pytest.mark.parametrize(("rows", "most", "expected"), [(6, 6, 6), (6, 3, 3), (7, 3, 2), (100, 7, 6)])
def test_pooling_keeps_the_means_of_blocks(rows, most, expected):
    matrix = np.random.default_rng(1).normal(size=(rows, rows))
    small, block = pooled(matrix, most), -(-rows // most)
    assert small.shape == (expected, expected)
    for i, j in ((0, 0), (expected - 1, 0), (0, expected - 1)):
        there = matrix[i * block : (i + 1) * block, j * block : (j + 1) * block]
        assert small[i, j] == pytest.approx(there.mean(), rel=1e-12, abs=1e-12)


def page(folder):
    model = Surrogate.load(save_tiny_model(folder / "model.safetensors", 1e-6))
    hidden = model.network[0].out_features
    retrain = {"steps": 1200}
    recipe = parse(Stages, {"stages": [{"cuts": [{"layer": 1, "threshold": 0.75}], "retrain": retrain}]}, "recipe")
    report = StageReport(
        stage=1,
        widths=(23, hidden - 1, 23),
        weights=46 * (hidden - 1),
        weights_and_biases=47 * (hidden - 1),
        loss_before=0.04,
        loss_at_once=0.3125,
        loss_after=0.03,
        output_change=0.123,
        exact=False,
        delays_before=Delays(mean=0.25, max=1.5, failed=0, cases=25),
        delays_after=Delays(mean=0.35, max=1.75, failed=2, cases=25),
        steps=1200,
        seconds=34.4,
    )
    (folder / "loss.csv").write_text("step,training_loss,validation_loss\n0,nan,0.3\n1200,0.04,0.03\n")
    table = Table("sizes", ("model", "weights"), [("original", 6_802_800), ("stage 1", 0.125)])
    return write_page(folder, model, recipe, [report], table, {"stage 1": folder / "loss.csv"})


def test_the_page_has_the_figures_of_the_report(tmp_path):
    markdown, html = page(tmp_path)
    text = markdown.read_text()
    for words in (
        "| original | 6,802,800 |",
        "(similarity 0.75)",
        "not exact, since the activation is not homogeneous",
        "by 12 % of their mean size",
        "from 0.04 to 0.3125",
        "After 1,200 steps (34 s) the loss is 0.03, 25 % smaller",
        "0.25 % off on average, 1.5 % at most before, 0.35 % off on average, 1.8 % at most, 2 of 25 failed after",
        "](pictures/losses.png)",
        "](pictures/similarity-original.png)",
    ):
        assert words in text
    inside = html.read_text()
    assert inside.count("data:image/png;base64,") == 2 and 'src="' not in inside.replace('src="data:', "")
    assert "6802800" in inside and "25 % smaller than before the cut" in inside and "not homogeneous" in inside
    assert all((tmp_path / "pictures" / f"{name}.png").stat().st_size > 0 for name in ("losses", "similarity-original"))


def test_the_page_is_the_same_when_it_is_written_again(tmp_path):
    first, second = ([file.read_bytes() for file in page(tmp_path)] for _ in range(2))
    assert first == second


def test_without_matplotlib_there_is_a_page_without_pictures_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    markdown, html = page(tmp_path)
    text = markdown.read_text()
    assert "<img" not in html.read_text()
    assert "pip install matplotlib" in text and "](" not in text
    assert not (tmp_path / "pictures").exists()
