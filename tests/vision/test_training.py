"""Training of a classifier: schedules, what an image becomes, resuming bit by bit, and what must not pass unnoticed."""

import csv
import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from tiny_images import RECIPE, write_images

from chemnet.cli.facts import describe
from chemnet.runtime.errors import FileError, NumericalError, UsageError
from chemnet.training.checkpoint import read_checkpoint
from chemnet.vision import load_classifier, read_images
from chemnet.vision.learning import network_of, train
from chemnet.vision.recipe import Phase, load_recipe
from chemnet.vision.training import ImageTraining, accuracy, prepared

SILENT = {"report": lambda line: None, "device": "cpu"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images") / "images.npz")


def recipe(*changes, name="short"):
    return load_recipe(name, [*RECIPE, *changes])


def training(data, *changes, seed=0):
    options = recipe("steps=4", *changes)
    return ImageTraining(network_of(options, 3, seed), read_images(data), options, seed=seed)


def history(folder):
    with open(folder / "history.csv", newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def test_a_cosine_begins_at_its_rate_is_half_way_in_the_middle_and_starts_again():
    phase = Phase(optimizer="sgd", schedule="cosine", period=200)
    rates = [phase.rate_at(time, 0.01) for time in (0.0, 100.0, 199.999, 200.0)]
    assert_allclose(rates, [0.01, 0.005, 0.0, 0.01], rtol=1e-6, atol=1e-9)


def test_the_paper_trains_400_steps_by_sgd_then_alternates_adams_rate_every_1000():
    """Section 3.2.2."""
    paper = load_recipe("paper")
    at = {time: paper.phase_at(time) for time in (0.0, 399.9, 400.0, 1399.0, 1400.0, 2400.0)}
    assert [number for number, _ in at.values()] == [0, 0, 1, 1, 1, 1]
    rates = [paper.strategy[number].rate_at(since, 0.01) for number, since in at.values()]
    assert_allclose(np.array(rates)[[0, 2, 3, 4, 5]], [0.01, 1e-3, 1e-3, 1e-4, 1e-3], rtol=1e-12, atol=0)
    assert (paper.initialisation, paper.batch_size, paper.batches) == ("paper", 128, None)


def test_inputs_are_pixels_less_the_mean_over_the_deviation():
    pixels = torch.arange(24, dtype=torch.uint8).reshape(1, 3, 2, 4) * 10
    expected = (pixels.double() / 255 - torch.tensor([0.4914, 0.4822, 0.4465])[:, None, None]) / torch.tensor(
        [0.2470, 0.2435, 0.2616]
    )[:, None, None]
    assert_allclose(prepared(pixels).numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_images_are_shifted_over_black_and_mirrored_and_nothing_else(data):
    loop = training(data, "shift=2")
    pixels = torch.randint(1, 256, (64, 3, 8, 8), dtype=torch.uint8)
    varied = loop._varied(pixels)
    padded = torch.nn.functional.pad(pixels, (2, 2, 2, 2))
    seen = set()
    for image, big in zip(varied, padded, strict=True):
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


def test_every_image_is_seen_once_per_epoch(data):
    loop = training(data, "shift=0", "flip=false")
    loop.training.labels.copy_(torch.arange(len(loop.training)))
    seen = torch.cat([loop._batch()[1] for _ in range(len(loop.training) // 16)])
    assert len(set(seen.tolist())) == len(seen)


def test_images_to_validate_with_are_not_trained_on(data):
    loop = training(data)
    every = read_images(data).training
    assert len(loop.training) == 72 and len(loop.validation) == 24
    assert torch.equal(torch.cat([loop.training.pixels, loop.validation.pixels]), every.pixels)


def test_a_network_learns_what_can_be_learned(data, tmp_path):
    train(recipe("steps=6", "batches=8"), data, out=tmp_path, **SILENT)
    rows = history(tmp_path)
    assert rows[-1]["training_loss"] < 0.7 * rows[0]["training_loss"]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    classifier = load_classifier(tmp_path)
    assert classifier.facts["test_accuracy"] == accuracy(classifier.network, read_images(data).test)


def test_a_training_that_was_interrupted_goes_on_bit_by_bit(data, tmp_path):
    train(recipe("steps=3"), data, out=tmp_path / "whole", **SILENT)
    train(recipe("steps=1"), data, out=tmp_path / "parts", **SILENT)
    train(recipe("steps=3"), data, out=tmp_path / "parts", resume=True, **SILENT)
    whole, parts = (read_checkpoint(tmp_path / name / "last.pt")["training"] for name in ("whole", "parts"))
    assert all(torch.equal(whole["network"][key], parts["network"][key]) for key in whole["network"])
    assert [row["training_loss"] for row in history(tmp_path / "whole")] == [
        row["training_loss"] for row in history(tmp_path / "parts")
    ]


def test_max_minutes_ends_with_a_checkpoint_and_no_classifier(data, tmp_path):
    lines = []
    train(recipe("steps=50"), data, out=tmp_path, max_minutes=1e-6, report=lines.append, device="cpu")
    assert not (tmp_path / "classifier.pt").exists() and "--resume goes on" in lines[-1]


@pytest.mark.parametrize(
    "changes, seed, difference",
    [
        (["label_smoothing=0.2"], 0, r"recipe\.label_smoothing was 0\.1, is 0\.2"),
        ([], 1, "seed was 0, is 1"),
    ],
)
def test_a_folder_of_another_training_is_refused(data, tmp_path, changes, seed, difference):
    train(recipe("steps=1"), data, out=tmp_path, **SILENT)
    with pytest.raises(UsageError, match=difference):
        train(recipe("steps=2", *changes), data, out=tmp_path, resume=True, seed=seed, **SILENT)


def test_a_folder_of_other_images_is_refused(data, tmp_path):
    train(recipe("steps=1"), data, out=tmp_path, **SILENT)
    other = write_images(tmp_path / "other.npz", seed=1)
    with pytest.raises(UsageError, match="images was"):
        train(recipe("steps=2"), other, out=tmp_path, resume=True, **SILENT)


def test_a_loss_that_is_not_finite_ends_the_training_at_its_step(data, tmp_path):
    train(recipe("steps=1"), data, out=tmp_path, **SILENT)
    kept = (tmp_path / "last.pt").read_bytes()
    content = read_checkpoint(tmp_path / "last.pt")
    loop = training(data)
    loop.restore(content["training"])
    with torch.no_grad():
        loop.network.classifier[1].bias[0] = math.nan
    with pytest.raises(NumericalError, match="in step 2; the checkpoint of step 1 is kept"):
        loop.train()
    assert (tmp_path / "last.pt").read_bytes() == kept


def test_a_full_disk_leaves_the_checkpoint_before(data, tmp_path, monkeypatch):
    train(recipe("steps=1"), data, out=tmp_path, **SILENT)
    kept = (tmp_path / "last.pt").read_bytes()

    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("chemnet.vision.learning.write_checkpoint", full)
    with pytest.raises(OSError, match="No space left"):
        train(recipe("steps=2"), data, out=tmp_path, resume=True, **SILENT)
    assert (tmp_path / "last.pt").read_bytes() == kept


def test_too_few_images_are_told(data):
    with pytest.raises(UsageError, match="96 training images: too few for 90 to validate and a batch of 16"):
        training(data, "validation=90")


def test_a_classifier_comes_back_as_it_was_written(data, tmp_path):
    train(recipe("steps=1"), data, out=tmp_path, **SILENT)
    first = load_classifier(tmp_path)
    first.save(tmp_path / "again.pt")
    again = load_classifier(tmp_path / "again.pt")
    assert again.fingerprint() == first.fingerprint() and again.classes == first.classes


def test_info_tells_a_classifier_by_file_and_by_folder(data, tmp_path):
    train(recipe("steps=1"), data, out=tmp_path, **SILENT)
    for what in (tmp_path, tmp_path / "classifier.pt"):
        facts = dict(describe(str(what))[0].rows)
        assert facts["classes"] == "class 0 class 1 class 2" and facts["recipe"] == "short"


@pytest.mark.parametrize("damage", ["missing", "cut", "other"])
def test_a_classifier_that_cannot_be_read_is_refused(data, tmp_path, damage):
    path = tmp_path / "classifier.pt"
    train(recipe("steps=1"), data, out=tmp_path, **SILENT)
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        path.write_bytes((tmp_path / "last.pt").read_bytes())
    with pytest.raises(FileError):
        load_classifier(tmp_path)
