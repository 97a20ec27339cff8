"""CIFAR-10 and sets of its shape: the original Python batches, a folder of images, or an npz.

| what lies at the path | layout |
|---|---|
| folder with `data_batch_1` | CIFAR-10, "python version": five training batches and `test_batch`, the original files |
| folder with `train/` and `test/` | a folder of images per class in each, the same names in both |
| `.npz` with `x_train`, `y_train`, `x_test`, `y_test` | pixels (n, h, w, 3) uint8 and labels |
| `.npz` with `jpeg`, `offsets`, `labels` | JPEG files one after the other; the last sixth of them is the test set |
"""

from __future__ import annotations

import hashlib
import io
import itertools
import pickle
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from chemnet.runtime.errors import FileError, UsageError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# MD5 of the files of cifar-10-batches-py (https://www.cs.toronto.edu/~kriz/cifar.html, as torchvision lists them).
MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
_PIXELS, _JPEG = ("x_train", "y_train", "x_test", "y_test"), ("jpeg", "offsets", "labels")
_TEST_SHARE = 6  # the last sixth of JPEG files in an npz is the test set
_ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")  # not all of Pillow's, which executes PostScript


@dataclass(frozen=True)
class Images:
    """Pixels (n, 3, h, w) uint8 and labels (n,) int64."""

    pixels: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, rows: slice) -> Images:
        """The images of a slice, in order."""
        return Images(self.pixels[rows], self.labels[rows])

    def to(self, device: str) -> Images:
        """Copy on a device."""
        return Images(self.pixels.to(device), self.labels.to(device))


@dataclass(frozen=True)
class ImageSet:
    """Training and test images, names of the classes, and the path they were read from."""

    training: Images
    test: Images
    classes: tuple[str, ...]
    source: str


def read_images(path: str | Path) -> ImageSet:
    """The images at a path; its layout (table above) is recognised.

    No code of a file is ever run. Raises FileError for files that are missing, damaged, not the original batches, or
    with images of different sizes or labels out of range; UsageError for a path of none of the layouts.
    """
    path = Path(path)
    if path.is_dir() and (path / "data_batch_1").exists():
        return _python_batches(path)
    if path.is_dir() and ((path / "train").is_dir() or (path / "test").is_dir()):
        return _folders(path)
    if path.is_file() and path.suffix == ".npz":
        return _archive(path)
    if not path.exists():
        raise FileError(f"no images at {path}\nGive CIFAR-10's python batches, a folder of images, or an npz file.")
    layouts = "a folder with data_batch_1 ... test_batch, a folder with train and test,\nor an .npz file"
    raise UsageError(f"{path} is no image set: expected {layouts}")


def _python_batches(folder: Path) -> ImageSet:
    """The original batches; their MD5 is checked first, since loading an unknown pickle may run code."""
    pixels, labels = [], []
    for name, expected in MD5.items():
        file = folder / name
        if not file.is_file():
            raise FileError(f"{file} is missing: CIFAR-10 has {', '.join(MD5)}")
        content = file.read_bytes()
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != expected:
            raise FileError(
                f"{file} is not the original: its MD5 is not {expected}\n"
                "Download and unpack it again; for other images give a folder or an npz file."
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's on the data types of Python 2
            batch = pickle.loads(content, encoding="latin1")
        pixels.append(batch["data"].reshape(-1, 3, 32, 32))  # planes red, green, blue
        labels.append(np.array(batch["labels"]))
    every = _images(np.concatenate(pixels), np.concatenate(labels), len(CLASSES), folder)
    return _split(every, len(every) - len(labels[-1]), CLASSES, folder)


def _folders(folder: Path) -> ImageSet:
    parts = folder / "train", folder / "test"
    for part in parts:
        if not part.is_dir():
            raise FileError(f"{part} is missing: expected train and test, with a folder per class in each")
    names, of_test = (tuple(sorted(entry.name for entry in part.iterdir() if entry.is_dir())) for part in parts)
    if not names or names != of_test:
        raise FileError(f"{folder}: the classes of train ({', '.join(names) or 'none'}) are not those of test")
    training, test = (
        [file for name in names for file in sorted((part / name).iterdir()) if file.suffix.lower() in _ENDINGS]
        for part in parts
    )
    if not training or not test:
        raise FileError(f"{folder}: no images ({', '.join(_ENDINGS)}) in train or in test")
    files = [*training, *test]
    pixels = _decode([(str(file), file) for file in files], _FORMATS)
    labels = np.array([names.index(file.parent.name) for file in files])
    return _split(_images(pixels, labels, len(names), folder), len(training), names, folder)


def _archive(path: Path) -> ImageSet:
    try:
        with zipfile.ZipFile(path) as archive:
            there = archive.namelist()
            content = {name: _member(archive, name) for name in (*_PIXELS, *_JPEG) if f"{name}.npy" in there}
    except Exception as error:  # a damaged zip may raise anything
        raise FileError(f"{path} is damaged, or holds more than numbers ({_short(error)})") from None
    if all(name in content for name in _JPEG):
        return _jpeg_archive(path, *(content[name] for name in _JPEG))
    for name in _PIXELS:
        if name not in content:
            raise FileError(f"{path} has no {name}: expected {', '.join(_PIXELS)}, or {', '.join(_JPEG)}")
        pixels = content[name]
        if name.startswith("x") and (pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3):
            raise FileError(f"{path}: pixels are {pixels.dtype} {pixels.shape}, not uint8 (n, h, w, 3)")
    sizes = [_size(content[name].shape[1:]) for name in ("x_train", "x_test")]
    if sizes[0] != sizes[1]:
        raise FileError(f"{path}: images to train on have {sizes[0]} pixels, to test {sizes[1]}")
    most = max(len(CLASSES), len(content["x_train"]))  # every class should have an image
    training, test = (
        _images(content[f"x_{part}"].transpose(0, 3, 1, 2), content[f"y_{part}"].ravel(), most, path)
        for part in ("train", "test")
    )
    classes = int(torch.cat([training.labels, test.labels]).max()) + 1
    names = CLASSES if classes == len(CLASSES) else tuple(f"class {number}" for number in range(classes))
    return ImageSet(training, test, names, str(path))


def _member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Array of an archive, read to the end of its file, where zipfile compares the checksum."""
    with archive.open(f"{name}.npy") as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)
        if stream.read(1):
            raise ValueError(f"{name} goes on after its end")
    return array


def _jpeg_archive(path: Path, content: NDArray[Any], offsets: NDArray[Any], labels: NDArray[Any]) -> ImageSet:
    in_rows = content.ndim == offsets.ndim == labels.ndim == 1
    if not in_rows or content.dtype != np.uint8 or offsets.dtype.kind not in "iu":
        raise FileError(f"{path}: expected jpeg (bytes,) uint8, offsets (n + 1,) whole numbers, labels (n,)")
    offsets = offsets.astype(np.int64)
    if len(offsets) != len(labels) + 1 or np.any(np.diff(offsets) <= 0):
        raise FileError(f"{path}: {len(labels)} labels and {len(offsets)} offsets do not belong together")
    if offsets[0] != 0 or offsets[-1] != len(content):
        raise FileError(f"{path}: its offsets end at {offsets[-1]}, its JPEG files at {len(content)}")
    if len(labels) < _TEST_SHARE:
        raise FileError(f"{path}: {len(labels)} images, but one in {_TEST_SHARE} is for the test set")
    files = [
        (f"image {number} of {path}", content[start:end].tobytes())
        for number, (start, end) in enumerate(itertools.pairwise(offsets))
    ]
    every = _images(_decode(files, ("JPEG",)), labels, len(CLASSES), path)
    return _split(every, len(every) - len(every) // _TEST_SHARE, CLASSES, path)


def _decode(files: Sequence[tuple[str, Path | bytes]], formats: tuple[str, ...]) -> NDArray[np.uint8]:
    """Pixels (n, 3, h, w) of named image files of one size, given by path or content."""
    try:
        from PIL import Image
    except ImportError:
        raise UsageError("reading image files needs Pillow: pip install pillow") from None
    pixels = np.empty(0, np.uint8)
    for number, (name, source) in enumerate(files):
        try:
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats) as image:
                decoded = np.asarray(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise FileError(f"{name} cannot be read as an image ({_short(error)})") from None
        if number == 0:
            pixels = np.empty((len(files), *decoded.shape), np.uint8)
        if decoded.shape != pixels.shape[1:]:
            sizes = f"{_size(decoded.shape)} pixels, the first image {_size(pixels.shape[1:])}"
            raise FileError(f"{name} has {sizes}\nBring all images to one size.")
        pixels[number] = decoded
    return pixels.transpose(0, 3, 1, 2)


def _images(pixels: NDArray[np.uint8], labels: NDArray[Any], classes: int, source: Path) -> Images:
    """Images of pixels (n, 3, h, w), their labels checked."""
    if 0 in pixels.shape:
        raise FileError(f"{source}: no images to train on, or none to test with")
    if labels.shape != (len(pixels),) or labels.dtype.kind not in "iu":
        raise FileError(f"{source}: {len(pixels)} images, but labels {labels.dtype} {labels.shape}")
    if labels.min() < 0 or labels.max() >= classes:
        raise FileError(f"{source}: labels from {labels.min()} to {labels.max()}, expected 0 to {classes - 1}")
    return Images(torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(labels.astype(np.int64)))


def _split(every: Images, cut: int, classes: tuple[str, ...], source: Path) -> ImageSet:
    """Set of the images before `cut` for training, of the others for the test."""
    return ImageSet(every.part(slice(cut)), every.part(slice(cut, None)), classes, str(source))


def _size(shape: Sequence[int]) -> str:
    """Width and height of (h, w, ...)."""
    return f"{shape[1]} x {shape[0]}"


def _short(error: Exception) -> str:
    """Beginning of a message, in one line."""
    return " ".join(str(error).split())[:80]
