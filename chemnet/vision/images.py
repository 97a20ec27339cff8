"""CIFAR-10 and sets of its shape: the original python batches, a folder of images, or an npz; nothing runs that a
file brings along.

| what lies at the path | layout |
|---|---|
| folder with `data_batch_1` | CIFAR-10, "python version": five training batches and `test_batch`, MD5 checked |
| folder with `train/` and `test/` | a folder of images per class in each, the same names in both |
| `.npz` with `x_train`, `y_train`, `x_test`, `y_test` | pixels (n, h, w, 3) uint8 and labels |
| `.npz` with `jpeg`, `offsets`, `labels` | JPEG files one after the other; the last sixth of them is to test |
"""

from __future__ import annotations

import hashlib
import io
import itertools
import pickle
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from chemnet.runtime.errors import FileError, UsageError

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# MD5 of the files of cifar-10-batches-py (https://www.cs.toronto.edu/~kriz/cifar.html, as torchvision lists them).
_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
_SIDE = 32
_TEST_SHARE = 6  # of JPEG files one after the other, one in so many is to test
_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")  # of all that Pillow knows; PostScript, for one, would be run


@dataclass(frozen=True)
class Images:
    """Pixels (n, 3, h, w) uint8 and labels (n,) int64."""

    pixels: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, rows: slice) -> Images:
        """Some of them, in order."""
        return Images(self.pixels[rows], self.labels[rows])

    def to(self, device: str) -> Images:
        """The same images on a device."""
        return Images(self.pixels.to(device), self.labels.to(device))


@dataclass(frozen=True)
class ImageSet:
    """Images to train on and to test with, the names of the classes, and where they come from."""

    training: Images
    test: Images
    classes: tuple[str, ...]
    source: str


def read_images(path: str | Path, *, check_md5: bool = True) -> ImageSet:
    """The images at a path; what it is is told by what lies there (table above).

    `check_md5` False admits python batches that are not the original ones; they are read as data all the same and
    cannot run code. Raises FileError for what is missing, truncated, changed or hostile, and for an image of another
    size than the others, UsageError for a path that is none of these.
    """
    path = Path(path)
    if path.is_dir() and (path / "data_batch_1").exists():
        return _python_batches(path, check_md5)
    if path.is_dir() and ((path / "train").is_dir() or (path / "test").is_dir()):
        return _folders(path)
    if path.is_file() and path.suffix == ".npz":
        return _archive(path)
    if not path.exists():
        raise FileError(f"no images at {path}\nGive CIFAR-10's python batches, a folder of images, or an npz file.")
    raise UsageError(
        f"{path} holds no images that can be told: expected data_batch_1 ... test_batch, or folders train and test,\n"
        "or an .npz file"
    )


# ---- the original batches


def _python_batches(folder: Path, check_md5: bool) -> ImageSet:
    parts = []
    for name, expected in _MD5.items():
        file = folder / name
        if not file.is_file():
            raise FileError(f"{file} is missing: CIFAR-10 has {', '.join(_MD5)}")
        content = file.read_bytes()
        if check_md5 and hashlib.md5(content, usedforsecurity=False).hexdigest() != expected:
            raise FileError(f"{file} is not the original: its MD5 is not {expected}\nDownload and unpack it again.")
        parts.append(_batch(content, file))
    *training, test = parts
    pixels, labels = torch.cat([part.pixels for part in training]), torch.cat([part.labels for part in training])
    return ImageSet(Images(pixels, labels), test, CLASSES, str(folder))


def _batch(content: bytes, file: Path) -> Images:
    """One batch: a pickled dict of `data` (n, 3072) uint8, red, green, blue planes, and `labels`."""
    try:
        batch = _DataOnly(io.BytesIO(content), encoding="latin1").load()
        pixels, targets = (_numbers(batch.get(key, batch.get(key.encode()))) for key in ("data", "labels"))
    except Exception as error:  # of a damaged pickle anything may come
        raise FileError(f"{file} is damaged or no CIFAR batch ({_short(error)})") from None
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 3 * _SIDE * _SIDE:
        raise FileError(f"{file} is no CIFAR batch: its data are {pixels.dtype} {pixels.shape}, not uint8 (n, 3072)")
    return _images(pixels.reshape(-1, 3, _SIDE, _SIDE), targets, len(CLASSES), file)


def _numbers(value: Any) -> NDArray[Any]:
    """An array of a pickle, or a list of whole numbers as one."""
    if isinstance(value, list) and all(type(entry) is int for entry in value):
        return np.array(value, np.int64)
    if not isinstance(value, _Array):
        raise ValueError("its data or labels are missing, or no whole numbers")
    return value.numbers


class _DataOnly(pickle._Unpickler):
    """An unpickler of arrays of whole numbers; whatever else a file names is refused and nothing is run.

    It is the one in Python, since the one in C takes as much memory as a file's numbering of its own parts asks for.
    """

    def find_class(self, module: str, name: str) -> Any:
        """The few names that an array needs."""
        full = f"{module.replace('numpy._core', 'numpy.core')}.{name}"
        if full not in _OF_ARRAYS:
            raise pickle.UnpicklingError(f"it asks for {full!r}")
        return _OF_ARRAYS[full]


class _Dtype:
    """Stands for a data type in a pickle: whole numbers and their byte order."""

    def __init__(self, name: Any, *_: Any) -> None:
        if name not in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"):
            raise pickle.UnpicklingError("it holds other data than whole numbers")
        self.order, self.name = "|", name

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


class _Array:
    """Stands for an array in a pickle, made by `_reconstruct` and filled by its state.

    numpy's own array and data type would trust that state: a data type that says to hold objects and denies it makes
    numpy take bytes of the file for addresses.
    """

    numbers: NDArray[Any] = np.empty(0)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, by_columns, content = state
        content = content.encode("latin1") if isinstance(content, str) else content
        numbers = np.frombuffer(content, dtype.order + dtype.name).copy()
        self.numbers = numbers.reshape(shape, order="F" if by_columns else "C")


def _latin1(text: str, encoding: str) -> bytes:
    """How pickles of protocol 2 spell bytes."""
    return text.encode("latin1")


_OF_ARRAYS: dict[str, Any] = {
    "numpy.core.multiarray._reconstruct": _Array,
    "numpy.ndarray": None,  # what _reconstruct is to make; nothing else needs it
    "numpy.dtype": _Dtype,
    "_codecs.encode": _latin1,
}


# ---- folders of image files


def _folders(folder: Path) -> ImageSet:
    parts = {name: folder / name for name in ("train", "test")}
    for part in parts.values():
        if not part.is_dir():
            raise FileError(f"{part} is missing: expected folders train and test, with a folder per class in each")
    classes = tuple(sorted(entry.name for entry in parts["train"].iterdir() if entry.is_dir()))
    there = tuple(sorted(entry.name for entry in parts["test"].iterdir() if entry.is_dir()))
    if not classes or classes != there:
        raise FileError(f"{folder}: the classes of train ({', '.join(classes) or 'none'}) are not those of test")
    files = {
        name: [
            (file, label)
            for label, kind in enumerate(classes)
            for file in sorted((part / kind).iterdir())
            if file.suffix.lower() in _ENDINGS
        ]
        for name, part in parts.items()
    }
    if not files["train"] or not files["test"]:
        raise FileError(f"{folder}: no images ({', '.join(sorted(_ENDINGS))}) in train or in test")
    first = files["train"][0][0]
    size = _read_image(first, str(first)).shape
    training, test = (_image_files(files[name], size, len(classes)) for name in ("train", "test"))
    return ImageSet(training, test, classes, str(folder))


def _image_files(files: Sequence[tuple[Path, int]], size: tuple[int, ...], classes: int) -> Images:
    pixels = np.empty((len(files), *size), np.uint8)
    for row, (file, _) in zip(pixels, files, strict=True):
        image = _read_image(file, str(file))
        if image.shape != size:
            sizes = f"{_size(image.shape)} pixels, the first image {_size(size)}"
            raise FileError(f"{file} has {sizes}\nBring all images to one size.")
        row[...] = image
    return _images(pixels.transpose(0, 3, 1, 2), np.array([label for _, label in files]), classes, files[0][0].parent)


def _read_image(source: Path | bytes, name: str, formats: tuple[str, ...] = _FORMATS) -> Pixels:
    """Pixels (h, w, 3) of a file or of its content."""
    try:
        from PIL import Image
    except ImportError:
        raise UsageError("reading image files needs Pillow: pip install 'chemnet[vision]'") from None
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FileError(f"{name} cannot be read as an image ({_short(error)})") from None


# ---- npz


def _archive(path: Path) -> ImageSet:
    try:
        with zipfile.ZipFile(path) as archive:
            there = archive.namelist()
            content = {name: _member(archive, name) for name in (*_PIXELS, *_JPEG) if f"{name}.npy" in there}
    except Exception as error:  # of a damaged zip anything may come
        raise FileError(f"{path} is damaged, or holds more than numbers ({_short(error)})") from None
    if all(name in content for name in _JPEG):
        return _jpeg_archive(path, *(content[name] for name in _JPEG))
    missing = [name for name in _PIXELS if name not in content]
    if missing:
        raise FileError(f"{path} has no {missing[0]}: expected {', '.join(_PIXELS)}, or {', '.join(_JPEG)}")
    pixels = {part: _channels_first(content[f"x_{part}"], path) for part in ("train", "test")}
    size, other = (part.shape[2:] for part in pixels.values())
    if size != other:
        raise FileError(f"{path}: images to train on {_size(size)} pixels, to test {_size(other)}")
    most = max(len(CLASSES), len(pixels["train"]))  # classes; each should have an image
    training, test = (_images(pixels[part], content[f"y_{part}"].ravel(), most, path) for part in pixels)
    classes = int(torch.cat([training.labels, test.labels]).max()) + 1
    names = CLASSES if classes == len(CLASSES) else tuple(f"class {number}" for number in range(classes))
    return ImageSet(training, test, names, str(path))


_PIXELS = ("x_train", "y_train", "x_test", "y_test")
_JPEG = ("jpeg", "offsets", "labels")


def _member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """An array, read to the end of its file, where zipfile compares the checksum."""
    with archive.open(f"{name}.npy") as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)
        if stream.read(1):
            raise ValueError(f"{name} goes on after its end")
    return array


def _channels_first(pixels: NDArray[Any], path: Path) -> Pixels:
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        raise FileError(f"{path}: pixels are {pixels.dtype} {pixels.shape}, not uint8 (n, h, w, 3)")
    return pixels.transpose(0, 3, 1, 2)


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
        raise FileError(f"{path}: {len(labels)} images, but one in {_TEST_SHARE} is to test")
    images = [
        _read_image(content[start:end].tobytes(), f"image {number} of {path}", ("JPEG",))
        for number, (start, end) in enumerate(itertools.pairwise(offsets))
    ]
    odd = next((number for number, image in enumerate(images) if image.shape != images[0].shape), None)
    if odd is not None:
        size, first = _size(images[odd].shape), _size(images[0].shape)
        raise FileError(f"image {odd} of {path} has {size} pixels, the first {first}")
    n_test = len(images) // _TEST_SHARE
    every = _images(np.stack(images).transpose(0, 3, 1, 2), labels, len(CLASSES), path)
    cut = len(images) - n_test
    return ImageSet(every.part(slice(0, cut)), every.part(slice(cut, None)), CLASSES, str(path))


def _images(pixels: Pixels, labels: NDArray[Any], classes: int, source: Path) -> Images:
    """Images of pixels (n, 3, h, w), their labels checked."""
    if 0 in pixels.shape:
        raise FileError(f"{source}: no images to train on, or none to test with")
    if labels.shape != (len(pixels),) or labels.dtype.kind not in "iu":
        raise FileError(f"{source}: {len(pixels)} images, but labels {labels.dtype} {labels.shape}")
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= classes:
        raise FileError(f"{source}: labels from {labels.min()} to {labels.max()}, expected 0 to {classes - 1}")
    return Images(torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(labels.astype(np.int64)))


def _size(shape: Sequence[int]) -> str:
    """Width and height of (h, w, ...)."""
    return f"{shape[1]} x {shape[0]}"


def _short(error: Exception) -> str:
    """The beginning of a message, in one line."""
    return " ".join(str(error).split())[:80]
