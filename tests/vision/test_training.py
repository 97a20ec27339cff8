"""Training of a classifier: what an image becomes, resuming bit by bit, and what must not pass unnoticed."""

import csv
import shutil

import pytest
import torch
from numpy.testing import assert_allclose
from tiny_images import CONFIG, write_images

from chemnet.cli.facts import describe
from chemnet.runtime.errors import FileError, UsageError
from chemnet.runtime.files import read_json
from chemnet.training.checkpoint import read_checkpoint
from chemnet.vision import load_classifier, read_images
from chemnet.vision.config import load_config
from chemnet.vision.training import ImageBatches, accuracy, prepared, train, varied

SILENT = {"report": lambda line: None, "device": "cpu"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images") / "images.npz")


def config(*changes):
    return load_config("short", [*CONFIG, *changes])


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """The run folder of a training of one step."""
    return train(config("steps=1"), data, out=tmp_path_factory.mktemp("run"), **SILENT)


def history(folder):
    with open(folder / "loss.csv", newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def test_the_paper_trains_400_steps_by_sgd_then_alternates_adams_rate_every_1000():
    """Section 3.2.2."""
    paper = load_config("paper")
    options = paper.options(50_000 - paper.validation)
    steps = [351 * step for step in (0, 400, 1399, 1400, 2400)]
    found = [options.phase_at(step, 0.0) for step in [*steps, steps[1] - 1]]
    assert [options.phases[number].optimizer for number, _ in found] == ["sgd", "adam", "adam", "adam", "adam", "sgd"]
    assert_allclose([rate for _, rate in found[:5]], [0.01, 1e-3, 1e-3, 1e-4, 1e-3], rtol=1e-12, atol=0)
    assert (paper.initialisation, options.batch_size, options.report_every) == ("paper", 128, 351)


def test_inputs_are_pixels_less_the_mean_over_the_deviation():
    pixels = torch.arange(24, dtype=torch.uint8).reshape(1, 3, 2, 4) * 10
    expected = (pixels.double() / 255 - torch.tensor([0.4914, 0.4822, 0.4465])[:, None, None]) / torch.tensor(
        [0.2470, 0.2435, 0.2616]
    )[:, None, None]
    assert_allclose(prepared(pixels).numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_images_are_shifted_over_black_and_mirrored_and_nothing_else():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(1, 256, (64, 3, 8, 8), dtype=torch.uint8, generator=generator)
    shifted = varied(pixels, 2, True, generator)
    padded = torch.nn.functional.pad(pixels, (2, 2, 2, 2))
    seen = set()
    for image, big in zip(shifted, padded, strict=True):
        candidates = {
            (y, x, mirror): cut.flip(2) if mirror else cut
            for y in range(5)
            for x in range(5)
            for mirror in (False, True)
            for cut in [big[:, y : y + 8, x : x + 8]]
        }
        found = [key for key, candidate in candidates.items() if torch.equal(candidate, image)]
        assert len(found) == 1
        seen.add(found[0])
    assert {mirror for *_, mirror in seen} == {False, True} and len(seen) > 20


def test_images_to_validate_with_are_not_trained_on(data):
    images = read_images(data)
    batches = ImageBatches.of(images, config())
    assert len(batches.training) == 72 and len(batches.validation) == 24
    assert torch.equal(torch.cat([batches.training.pixels, batches.validation.pixels]), images.training.pixels)


def test_a_network_learns_what_can_be_learned(data, tmp_path):
    train(config("steps=6", "batches=8"), data, out=tmp_path, **SILENT)
    rows = history(tmp_path)
    assert rows[-1]["training_loss"] < 0.7 * rows[1]["training_loss"]
    assert [row["step"] for row in rows] == [8 * step for step in range(7)]
    assert [0.0 <= row["validation_accuracy"] <= 1.0 for row in rows] == [True] * 7
    classifier, manifest = load_classifier(tmp_path), read_json(tmp_path / "manifest.json")
    assert (manifest["kind"], manifest["test_accuracy"]) == ("image training", classifier.facts["test_accuracy"])
    assert classifier.facts["test_accuracy"] == accuracy(classifier.network, read_images(data).test)


def test_a_training_of_fewer_steps_goes_on_bit_by_bit(data, trained, tmp_path):
    train(config("steps=3"), data, out=tmp_path / "whole", **SILENT)
    shutil.copytree(trained, tmp_path / "parts")
    train(config("steps=3"), data, out=tmp_path / "parts", resume=True, **SILENT)
    whole, parts = (read_checkpoint(tmp_path / name / "last.pt") for name in ("whole", "parts"))
    assert all(torch.equal(whole["network"][key], parts["network"][key]) for key in whole["network"])
    losses = [[row["training_loss"] for row in history(tmp_path / name)][1:] for name in ("whole", "parts")]
    assert losses[0] == losses[1]


def test_a_limit_of_minutes_brings_the_schedule_to_its_end_and_leaves_a_classifier(data, tmp_path):
    train(config("steps=600"), data, out=tmp_path, max_minutes=1e-6, **SILENT)
    rows = history(tmp_path)
    assert len(rows) == 2 and rows[-1]["step"] == 1
    assert load_classifier(tmp_path).classes and read_json(tmp_path / "manifest.json")["steps"] == 1


def test_a_folder_of_another_training_or_of_other_images_is_refused(data, trained, tmp_path):
    differences = {
        r"config\.label_smoothing was 0\.1, is 0\.2": (config("label_smoothing=0.2"), data, 0),
        "seed was 0, is 1": (config("steps=2"), data, 1),
        "images was": (config("steps=2"), write_images(tmp_path / "other.npz", seed=1), 0),
    }
    for difference, (changed, images, seed) in differences.items():
        with pytest.raises(UsageError, match=difference):
            train(changed, images, out=trained, resume=True, seed=seed, **SILENT)
    assert (trained / "manifest.json").exists()


def test_too_few_images_are_refused(data):
    with pytest.raises(UsageError, match="96 training images: too few for 90 to validate and a batch of 16"):
        ImageBatches.of(read_images(data), config("validation=90"))


def test_a_classifier_comes_back_as_it_was_written_and_info_shows_it_by_file_and_by_folder(trained, tmp_path):
    first = load_classifier(trained)
    first.save(tmp_path / "again.pt")
    again = load_classifier(tmp_path / "again.pt")
    assert again.fingerprint() == first.fingerprint() and again.classes == first.classes
    for what in (trained, tmp_path / "again.pt"):
        facts = dict(describe(str(what))[0].rows)
        assert facts["classes"] == "class 0 class 1 class 2" and facts["config"] == "short"


def test_a_classifier_that_is_missing_cut_or_another_file_is_refused(trained, tmp_path):
    for content in (None, (trained / "classifier.pt").read_bytes()[:-100], (trained / "last.pt").read_bytes()):
        if content:
            (tmp_path / "classifier.pt").write_bytes(content)
        with pytest.raises(FileError):
            load_classifier(tmp_path)
