"""CIFAR-10 and sets of its shape: exact pixels and labels; damage is reported, and no code of a file is run."""

import hashlib
import io
import itertools
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from chemnet.runtime.errors import FileError, UsageError
from chemnet.vision import images
from chemnet.vision.images import CLASSES, read_images

Image = pytest.importorskip("PIL.Image", reason="needs Pillow")

DATA = Path(__file__).parents[3] / "shared" / "data"
BATCHES = tuple(images.MD5)


def refused(path, match, *, kind=FileError):
    """The path is refused by just this kind of error, in at most three lines of printable text."""
    with pytest.raises(kind, match=match) as caught:
        read_images(path)
    lines = str(caught.value).splitlines()
    assert type(caught.value) is kind and len(lines) <= 3 and all(line.isprintable() for line in lines)


def pixels_of(found):
    """Pixels (n, h, w, 3) of the training and test images."""
    return np.concatenate([part.pixels.permute(0, 2, 3, 1).numpy() for part in (found.training, found.test)])


def labels_of(found):
    return found.training.labels.tolist(), found.test.labels.tolist()


def everything(found):
    """All that was read, as plain data."""
    return found.classes, labels_of(found), pixels_of(found).shape, pixels_of(found).tobytes()


def refusals(path, contents, original):
    """How many of the contents of a file are refused; the others read as the original set."""
    count = 0
    folder = path if path.suffix == ".npz" else path.parents[2]
    for content in contents:
        path.write_bytes(content)
        try:
            assert everything(read_images(folder)) == original
        except FileError as error:
            assert len(str(error).splitlines()) <= 3
            count += 1
    return count


def with_wrong_bytes(content, places, rng):
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= rng.integers(1, 256)
        yield bytes(damaged)


class _Hostile:
    """Touches a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


# ---- Python batches: pickles of protocol 2, spelled as Python 2 spelled them


def python2_batch(rows, labels):
    """The pickle of a batch as in the original files, arrays as the numpy of that time wrote them."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    raw = rows.tobytes()
    array = [
        b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85" + text(b"b") + b"\x87R",
        b"(K\x01(" + b"".join(b"\x8a\x08" + struct.pack("<q", side) for side in rows.shape) + b"t",
        b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R",
        b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
        b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb",
    ]
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"".join([b"\x80\x02}q\x01(", text(b"labels"), numbers, text(b"data"), *array, b"u."])


def batches(folder, monkeypatch, contents):
    """The folder with six batches, which become the original ones by their MD5."""
    for name, (rows, labels) in zip(BATCHES, contents, strict=True):
        (folder / name).write_bytes(python2_batch(rows, labels))
        monkeypatch.setitem(images.MD5, name, hashlib.md5((folder / name).read_bytes()).hexdigest())
    return folder


def some_batches(n=4):
    rng = np.random.default_rng(0)
    return [(rng.integers(256, size=(n, 3072)).astype(np.uint8), rng.integers(10, size=n).tolist()) for _ in BATCHES]


def test_batches_are_read_exactly_and_in_order_and_test_batch_is_the_test_set(tmp_path, monkeypatch):
    contents = some_batches()
    rows, labels = (list(column) for column in zip(*contents, strict=True))
    rows[5][3], marks = 0, [0, 31, 1024 + 32, 2048 + 32 * 31 + 5]
    rows[5][3, marks] = 11, 12, 13, 14
    found = read_images(batches(tmp_path, monkeypatch, contents))
    read = np.concatenate([found.training.pixels, found.test.pixels])
    np.testing.assert_array_equal(read.reshape(-1, 3072), np.concatenate(rows))
    assert labels_of(found) == (sum(labels[:5], []), labels[5]) and found.classes == CLASSES
    # planes are red, green, blue and run row by row
    assert [int(read[-1][place]) for place in [(0, 0, 0), (0, 0, 31), (1, 1, 0), (2, 31, 5)]] == [11, 12, 13, 14]


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_that_is_changed_cut_missing_or_hostile_is_refused_by_its_md5_and_runs_nothing(
    tmp_path, monkeypatch, name
):
    folder, mark = batches(tmp_path, monkeypatch, some_batches()), tmp_path / "executed"
    content, hostile = (folder / name).read_bytes(), pickle.dumps(_Hostile(mark), protocol=2)
    changed = bytearray(content)
    changed[-700] ^= 1
    for damaged in (changed, content[:-1], b"", hostile, pickle.dumps({"data": 1})):
        (folder / name).write_bytes(damaged)
        refused(folder, f"{name} is not the original: its MD5 is not {images.MD5[name]}")
    assert not mark.exists()
    (folder / name).unlink()
    if name == "data_batch_1":
        refused(folder, "expected a folder with data_batch_1", kind=UsageError)
    else:
        refused(folder, f"{name} is missing")


def test_other_batches_than_those_of_cifar_are_refused_with_what_to_do(tmp_path, monkeypatch):
    folder = batches(tmp_path, monkeypatch, some_batches())
    monkeypatch.undo()
    refused(folder, "MD5 is not c99cafc152244af753f735de768cd75f\nDownload and unpack it again")


# ---- npz of pixels


def some_pixels(n_train=12, n_test=6, height=5, width=4):
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(256, size=(n_train, height, width, 3)).astype(np.uint8),
        "y_train": np.arange(n_train) % 3,
        "x_test": rng.integers(256, size=(n_test, height, width, 3)).astype(np.uint8),
        "y_test": np.arange(n_test)[::-1] % 3,
    }


def npz(folder, content, save=np.savez_compressed):
    """An npz file of arrays."""
    save(folder / "set.npz", **content)
    return folder / "set.npz"


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.int64])
def test_pixels_of_an_npz_are_read_exactly_and_ten_classes_have_the_names_of_cifar(tmp_path, kind):
    content = some_pixels()
    labels = content["y_train"].tolist(), content["y_test"].tolist()
    content["y_train"], content["y_test"] = content["y_train"].astype(kind), content["y_test"].astype(kind)[:, None]
    found = read_images(npz(tmp_path, content))
    np.testing.assert_array_equal(pixels_of(found), np.concatenate([content["x_train"], content["x_test"]]))
    assert labels_of(found) == labels and found.classes == ("class 0", "class 1", "class 2")
    assert read_images(npz(tmp_path, {**content, "y_train": np.arange(12) % 10})).classes == CLASSES


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_that_is_cut_or_has_a_wrong_byte_is_refused_or_reads_as_it_was_written(tmp_path, save):
    path, rng = npz(tmp_path, some_pixels(), save), np.random.default_rng(1)
    content, original = path.read_bytes(), everything(read_images(path))
    with zipfile.ZipFile(path) as archive:
        directory = archive.start_dir
    cuts = [*range(8), *rng.integers(8, len(content), size=30), len(content) - 1]
    assert refusals(path, [content[:cut] for cut in cuts], original) == len(cuts)
    places = [*rng.integers(len(content), size=60), *range(directory, directory + 46)]
    assert refusals(path, with_wrong_bytes(content, places, rng), original) > 60


def test_a_wrong_digit_in_the_shape_of_an_array_is_found(tmp_path):
    """The array is then read short of its end, where zipfile would compare the checksum."""
    path = npz(tmp_path, some_pixels(50, 50, 32, 32), np.savez)
    content = path.read_bytes()
    assert content.count(b"(50, 32, 32, 3)") == 2
    path.write_bytes(content.replace(b"(50, 32, 32, 3)", b"(50, 12, 32, 3)"))
    refused(path, "set.npz is damaged")


def test_an_npz_of_something_else_is_refused_and_runs_nothing(tmp_path):
    mark, path = tmp_path / "executed", tmp_path / "set.npz"
    for name in ("x_train", "y_test"):
        hostile = np.array([_Hostile(mark)], dtype=object)
        refused(npz(tmp_path, {**some_pixels(), name: hostile}), "set.npz is damaged, or holds more than numbers")
    path.write_bytes(pickle.dumps(_Hostile(mark)))
    refused(path, "set.npz is damaged")
    assert not mark.exists()
    for name, match in (("x_train.npy", "set.npz is damaged"), ("readme.txt", "set.npz has no x_train")):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, b"no array")
        refused(path, match)
    for name in some_pixels():
        refused(
            npz(tmp_path, {key: value for key, value in some_pixels().items() if key != name}), f"set.npz has no {name}"
        )


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"x_train": np.zeros((12, 5, 4, 3), np.float32)}, r"pixels are float32 \(12, 5, 4, 3\), not uint8"),
        ({"x_test": np.zeros((6, 5, 4), np.uint8)}, r"pixels are uint8 \(6, 5, 4\), not uint8"),
        ({"x_train": np.zeros((12, 3, 5, 4), np.uint8)}, r"pixels are uint8 \(12, 3, 5, 4\), not uint8"),
        ({"x_test": np.zeros((6, 4, 5, 3), np.uint8)}, "to train on have 4 x 5 pixels, to test 5 x 4"),
        ({"x_train": np.zeros((0, 5, 4, 3), np.uint8), "y_train": np.zeros(0, int)}, "no images to train on"),
        ({"x_test": np.zeros((0, 5, 4, 3), np.uint8), "y_test": np.zeros(0, int)}, "or none to test with"),
        ({"y_train": np.zeros(11, int)}, r"12 images, but labels int64 \(11,\)"),
        ({"y_train": np.zeros((12, 3), int)}, r"12 images, but labels int64 \(36,\)"),
        ({"y_train": np.full(12, np.nan)}, "labels float64"),
        ({"y_test": np.zeros(6, bool)}, "labels bool"),
        ({"y_test": np.full(6, "cat")}, "labels <U3"),
        ({"y_test": np.zeros(6, "m8[s]")}, "labels timedelta64"),
        ({"y_train": np.array([0, 1, 2, -1] * 3)}, "labels from -1 to 2"),
        ({"y_test": np.array([0, 1, 10**6] * 2, np.uint64)}, "labels from 0 to 1000000"),
    ],
)
def test_arrays_of_an_npz_that_do_not_fit_are_refused(tmp_path, changes, match):
    refused(npz(tmp_path, {**some_pixels(), **changes}), match)


# ---- npz of JPEG files


def encoded(pixels, kind):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def plain(colour, height=16, width=8):
    return np.broadcast_to(np.asarray(colour, np.uint8), (height, width, 3)).copy()


COLOURS = [(17 * number, 255 - 19 * number, (67 * number) % 256) for number in range(13)]
NOISY = np.random.default_rng(0).integers(256, size=(16, 8, 3)).astype(np.uint8)
NOISE = encoded(NOISY, "JPEG")


def jpegs(n=13, **replaced):
    """The arrays of n JPEG files; `_4=content` replaces the fifth."""
    files = [encoded(plain(colour), "JPEG") for colour in COLOURS[:n]]
    for number, content in replaced.items():
        files[int(number[1:])] = content
    return {
        "jpeg": np.frombuffer(b"".join(files), np.uint8),
        "offsets": np.cumsum([0, *map(len, files)]),
        "labels": np.arange(len(files), dtype=np.uint8) % 10,
    }


def test_jpeg_files_are_read_in_order_as_pillow_decodes_them_and_the_last_sixth_is_the_test_set(tmp_path):
    found = read_images(npz(tmp_path, jpegs(_4=NOISE)))
    assert labels_of(found) == ([*range(10), 0], [1, 2]) and found.classes == CLASSES
    pixels = pixels_of(found)
    with Image.open(io.BytesIO(NOISE)) as image:
        np.testing.assert_array_equal(pixels[4], np.asarray(image))
    expected = np.broadcast_to(np.array(COLOURS)[:, None, None], (13, 16, 8, 3))
    others = np.arange(13) != 4
    np.testing.assert_allclose(pixels[others].astype(int), expected[others], rtol=0, atol=3)
    assert len(read_images(npz(tmp_path, jpegs(6))).test) == 1


GOOD = jpegs()
ENDS, AT = GOOD["offsets"], np.arange(14)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (jpegs(5), "5 images, but one in 6 is for the test set"),
        ({"offsets": ENDS[:-1]}, "13 labels and 13 offsets do not belong together"),
        ({"labels": GOOD["labels"][:-1]}, "12 labels and 14 offsets do not belong together"),
        ({"offsets": ENDS[::-1].copy()}, "do not belong together"),
        ({"offsets": np.where(AT == 5, ENDS[7], ENDS).astype(np.uint32)}, "do not belong together"),
        ({"offsets": np.where(AT == 5, ENDS[4], ENDS)}, "do not belong together"),
        ({"offsets": ENDS + 1}, "its offsets end at"),
        ({"offsets": np.where(AT == 13, ENDS + 1, ENDS)}, "its offsets end at"),
        ({"offsets": np.where(AT == 0, -2, ENDS)}, "its offsets"),
        ({"offsets": ENDS.astype(float)}, "expected jpeg"),
        ({"offsets": np.array(3)}, "expected jpeg"),
        ({"offsets": np.stack([ENDS, ENDS], 1)}, "expected jpeg"),
        ({"labels": np.array(3)}, "expected jpeg"),
        ({"labels": GOOD["labels"][:, None]}, "expected jpeg"),
        ({"labels": GOOD["labels"].astype(float)}, "labels float64"),
        ({"labels": np.full(13, "cat")}, "labels <U3"),
        ({"labels": np.arange(13)}, "labels from 0 to 12, expected 0 to 9"),
        ({"labels": np.arange(13) % 10 - 1}, "labels from -1 to 8, expected 0 to 9"),
        ({"jpeg": GOOD["jpeg"].astype(np.int64)}, "expected jpeg"),
        ({"jpeg": GOOD["jpeg"][:, None]}, "expected jpeg"),
        *(
            (jpegs(_7=content), r"image 7 of .*set\.npz cannot be read as an image")
            for content in (NOISE[: len(NOISE) // 2], NOISE[:20], b"\xff\xd8" + b"\0" * 300, encoded(plain(9), "GIF"))
        ),
        (jpegs(_5=encoded(plain(1, 8, 16), "JPEG")), r"image 5 of .*npz has 16 x 8 pixels, the first image 8 x 16"),
    ],
    ids=itertools.count(),
)
def test_jpeg_files_that_are_damaged_or_do_not_fit_are_refused(tmp_path, changes, match):
    refused(npz(tmp_path, {**GOOD, **changes}), match)


# ---- folders of image files


FILES = {
    name: np.random.default_rng(number).integers(256, size=(6, 4, 3)).astype(np.uint8)
    for number, name in enumerate(
        ["train/a/9.png", "train/b/1.PNG", "train/b/2.png", "train/c/0.bmp", "train/c/1.webp"]
        + ["test/a/0.png", "test/b/0.png", "test/c/0.png"]
    )
}


def folders(folder, files=FILES):
    """The folder with image files of pixels at their paths."""
    for name, pixels in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, lossless=True)
    return folder


def test_images_of_folders_are_read_exactly_and_classes_are_in_sorted_order(tmp_path):
    folder = folders(tmp_path)
    (folder / "train" / "a" / "readme.txt").write_text("no image")
    (folder / "train" / "licence").write_text("no class")
    found = read_images(folder)
    assert found.classes == ("a", "b", "c") and labels_of(found) == ([0, 1, 1, 2, 2], [0, 1, 2])
    np.testing.assert_array_equal(pixels_of(found), np.stack(list(FILES.values())))


@pytest.mark.parametrize("place", ["train/a/9.png", "train/b/2.png", "test/c/0.png"])
def test_a_file_that_is_no_image_or_of_another_size_is_named_and_not_run(monkeypatch, tmp_path, place):
    """Pillow would hand PostScript to Ghostscript."""
    mark = tmp_path / "executed"
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: mark.touch())
    folder = folders(tmp_path)
    others = [encoded(plain(9), kind) for kind in ("GIF", "PPM", "EPS")]
    for content in (b"", b"no image", encoded(plain(9), "PNG")[:50], *others):
        (folder / place).write_bytes(content)
        refused(folder, f"{place} cannot be read as an image")
    assert not mark.exists()
    folders(folder, {place: np.zeros((5, 8, 3), np.uint8)})
    refused(folder, r"has (8 x 5 pixels, the first image 4 x 6|4 x 6 pixels, the first image 8 x 5)")


def test_wrong_bytes_in_a_png_file_are_found(tmp_path):
    folder, rng = folders(tmp_path), np.random.default_rng(0)
    path = folder / "train" / "b" / "2.png"
    content, original = path.read_bytes(), everything(read_images(folder))
    places = rng.integers(len(content), size=60)
    assert refusals(path, with_wrong_bytes(content, places, rng), original) > 40


PIXELS = FILES["test/a/0.png"]


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({**FILES, "train/d/0.png": PIXELS}, r"the classes of train \(a, b, c, d\) are not those of test"),
        ({**FILES, "test/d/0.png": PIXELS}, r"the classes of train \(a, b, c\) are not those of test"),
        ({"train/0.png": PIXELS, "test/0.png": PIXELS}, r"the classes of train \(none\)"),
        ({name: PIXELS for name in FILES if name < "train"}, "train is missing"),
        ({name: PIXELS for name in FILES if name > "train"}, "test is missing"),
        ({"train/a/0.png": PIXELS, "test/a/0.gif": PIXELS}, "no images"),
        ({"train/a/0.gif": PIXELS, "test/a/0.png": PIXELS}, "no images"),
    ],
    ids=itertools.count(),
)
def test_folders_of_other_classes_or_without_images_are_refused(tmp_path, files, match):
    refused(folders(tmp_path, files), match)


# ---- other paths


def test_a_path_that_does_not_exist_or_is_something_else_is_refused(tmp_path):
    for name in ("nowhere", "nowhere.npz", "nowhere/data_batch_1"):
        refused(tmp_path / name, "no images at .*nowhere")
    (tmp_path / "set.txt").write_text("no images")
    for path in (tmp_path, tmp_path / "set.txt"):
        refused(path, "is no image set", kind=UsageError)


@pytest.mark.skipif(
    not (DATA / "cifar10_exact_first1017.npz").is_file(), reason="needs images of CIFAR-10 beside the project"
)
def test_exact_batches_of_cifar_show_what_its_jpeg_files_show(tmp_path, monkeypatch):
    """JPEG of quality 75 differs from the exact pixels by little; planes out of order differ by much."""
    with np.load(DATA / "cifar10_exact_first1017.npz") as exact, np.load(DATA / "cifar10_jpeg.npz") as lossy:
        contents = [(exact[f"exact_{b}"], exact["labels"][b, :1017].tolist()) for b in range(6)]
        jpeg, offsets, labels = lossy["jpeg"], lossy["offsets"], lossy["labels"].reshape(6, 10000)
    found = read_images(batches(tmp_path, monkeypatch, contents))
    np.testing.assert_array_equal(found.training.labels.reshape(5, 1017).numpy(), labels[:5, :1017])
    np.testing.assert_array_equal(found.test.labels.numpy(), labels[5, :1017])
    ends = [itertools.pairwise(offsets[10000 * b : 10000 * b + 201]) for b in (1, 5)]
    files = [jpeg[start:end].tobytes() for pairs in ends for start, end in pairs]
    content = {
        "jpeg": np.frombuffer(b"".join(files), np.uint8),
        "offsets": np.cumsum([0, *map(len, files)]),
        "labels": labels[[1, 5], :200].ravel(),
    }
    decoded = pixels_of(read_images(npz(tmp_path, content, np.savez))).astype(int)
    exactly = (
        np.concatenate([found.training.pixels[1017:1217], found.test.pixels[:200]]).transpose(0, 2, 3, 1).astype(int)
    )
    for half in (slice(0, 200), slice(200, None)):
        right = np.abs(decoded[half] - exactly[half]).mean()
        swapped = np.abs(decoded[half] - exactly[half, ..., ::-1]).mean()
        assert right < 8.0 < swapped
