"""Comparison of methods at equal multiply-adds, and of what they are worth before any training."""

from pathlib import Path

import pytest
import torch
from tiny_images import CONFIG, write_images

import chemnet.vision.comparison
from chemnet.reduction.folding import normalised_anew
from chemnet.runtime.config import parse, read_yaml
from chemnet.runtime.errors import FileError, UsageError
from chemnet.vision import load_classifier, read_images
from chemnet.vision.comparison import ImageSettings, compare, draw_accuracies, images_of
from chemnet.vision.config import load_config
from chemnet.vision.costs import multiply_adds
from chemnet.vision.methods import METHODS, to_cost, within_cost
from chemnet.vision.networks import count
from chemnet.vision.training import accuracy, train

COMPARISONS = Path(chemnet.vision.comparison.__file__).parent / "comparisons"
SILENT = {"report": lambda line: None, "device": "cpu"}
TARGETS = ("0.8", "0.6-of-cost")
COMPARED = ("folding", "scratch")
SETTINGS = f"""
shares: [0.8]
cost_shares: [0.6]
seeds: 1
batches: 0
rates: [0.01, 0.02]
scratch_rates: [0.1]
weight_decay: 5e-4
calibration: 24
methods: [{", ".join(COMPARED)}]
"""


def config():
    return load_config("resnet20", ["downsampling=4", "steps=1", *CONFIG[:3], *CONFIG[4:]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A training of one step, and its images."""
    folder = tmp_path_factory.mktemp("run")
    write_images(folder / "images.npz")
    return train(config(), folder / "images.npz", out=folder, **SILENT)


def test_methods_are_compared_at_equal_parameters_and_multiply_adds_before_any_training(folder, tmp_path):
    (tmp_path / "c.yaml").write_text(SETTINGS)
    options = {"config": config(), "model": folder, "out": tmp_path, **SILENT}
    rows = compare(str(tmp_path / "c.yaml"), folder / "images.npz", **options)[0].as_json()["rows"]
    assert [(row["method"], row["target"]) for row in rows] == [(name, to) for to in TARGETS for name in COMPARED]
    assert "accuracy [%]" not in rows[0]
    images, large = read_images(folder / "images.npz"), load_classifier(folder).network
    calibration = images_of(images, 24, validation=config().validation)
    assert (tmp_path / "accuracies.png").read_bytes().startswith(b"\x89PNG")
    for row in rows:
        if row["method"] == "scratch":
            assert row["at once [%]"] is None is row["with statistics anew [%]"]
            continue
        path = next((tmp_path / "networks").glob(f"{row['method']}-{row['target']}-*.pt"))
        network = load_classifier(path).network
        cost, parameters = multiply_adds(network) / multiply_adds(large), count(network) / count(large)
        assert [row["multiply-adds [%]"], row["parameters [%]"]] == pytest.approx([100 * cost, 100 * parameters])
        assert 0.55 < cost <= 0.6 if row["target"] == TARGETS[1] else 0.75 < parameters <= 0.8
        measured = [row["at once [%]"], row["with statistics anew [%]"]]
        both = (network, normalised_anew(network, calibration))
        assert measured == pytest.approx([100 * accuracy(each, images.test) for each in both])


def test_condensation_uses_up_a_share_of_the_multiply_adds_and_not_of_the_parameters(folder):
    network, inputs = load_classifier(folder).network, torch.rand(16, 3, 32, 32)
    small = to_cost("condensation-forward-blocks")(network, 0.6, inputs, 0)
    assert 0.59 < multiply_adds(small) / multiply_adds(network) <= 0.6


def test_a_share_of_the_multiply_adds_that_no_method_reaches_is_refused(folder):
    network = load_classifier(folder).network
    with pytest.raises(UsageError, match="no share of the parameters leaves 0.001 of the multiply-adds"):
        within_cost(METHODS["magnitude"], network, 0.001, torch.zeros(2, 3, 32, 32), 0)


def test_the_published_rules_are_for_mobilenet_alone(folder):
    with pytest.raises(UsageError, match="for MobileNetV2: leave condensation-published out"):
        METHODS["condensation-published"](load_classifier(folder).network, 0.5, torch.zeros(2, 3, 32, 32), 0)


@pytest.mark.parametrize("path", sorted(COMPARISONS.glob("*.yaml")), ids=lambda path: path.stem)
def test_settings_that_ship_name_methods_and_targets(path):
    settings = parse(ImageSettings, read_yaml(path), str(path))
    assert settings.targets and set(settings.methods) <= set(METHODS)


def test_a_folder_without_a_comparison_of_classifiers_has_no_picture(tmp_path):
    (tmp_path / "comparison.json").write_text('{"runs": [], "tables": []}')
    with pytest.raises(FileError, match="holds no comparison of classifiers"):
        draw_accuracies(tmp_path, tmp_path / "picture.png")
