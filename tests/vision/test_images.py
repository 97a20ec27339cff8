"""CIFAR-10 and sets of its shape: exact pixels and labels; damage is told, and nothing runs that a file brings."""

import hashlib
import io
import itertools
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from chemnet.runtime.errors import ChemnetError, FileError, UsageError
from chemnet.vision import images
from chemnet.vision.images import CLASSES, read_images

Image = pytest.importorskip("PIL.Image", reason="needs Pillow")

BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
DATA = Path(__file__).parents[3] / "shared" / "data"


def refused(path, match, *, kind=FileError, check_md5=True):
    """The path is refused by just this kind of error, in at most three lines of printable text."""
    with pytest.raises(kind, match=match) as caught:
        read_images(path, check_md5=check_md5)
    assert type(caught.value) is kind
    lines = str(caught.value).splitlines()
    assert len(lines) <= 3 and all(line.isprintable() for line in lines)
    return str(caught.value)


def everything(found):
    """All that was read, as plain data."""
    return [
        found.classes,
        *(
            (tuple(part.pixels.shape), part.pixels.numpy().tobytes(), part.labels.tolist())
            for part in (found.training, found.test)
        ),
    ]


def read_or_refused(path, **kwargs):
    """What a file that may be damaged reads to, or None where it is refused in short."""
    try:
        return everything(read_images(path, **kwargs))
    except ChemnetError as error:
        assert len(str(error).splitlines()) <= 3
        return None


# ---- python batches: pickles of protocol 2, spelled as Python 2 spelled them


def text(value: bytes) -> bytes:
    return b"U" + bytes([len(value)]) + value


def whole(value: int) -> bytes:
    return b"K" + bytes([value]) if 0 <= value < 256 else b"J" + struct.pack("<i", value)


def array(rows, *, start: bytes = b"K\x00\x85", shape=None, dtype: bytes = b"u1") -> bytes:
    """numpy's spelling of uint8 rows; `start` is the shape that _reconstruct is called with."""
    shape = rows.shape if shape is None else shape
    raw = rows.tobytes()
    return b"".join(
        [
            b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08" + start + text(b"b") + b"\x87R",
            b"(K\x01(" + b"".join(b"\x8a\x08" + struct.pack("<q", side) for side in shape) + b"t",
            b"cnumpy\ndtype\n" + text(dtype) + b"K\x00K\x01\x87R",
            b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
            b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb",
        ]
    )


def python2_batch(rows, labels, *, data: bytes | None = None, targets: bytes | None = None, more: bytes = b"") -> bytes:
    """A batch as the original ones are; `data`, `targets` and `more` put other pickled things in their places."""
    names = [text(b"image_%d.png" % number) + b"r" + struct.pack("<i", 300 + number) for number in range(len(labels))]
    return b"".join(
        [
            b"\x80\x02}q\x01(",
            text(b"batch_label") + b"q\x02" + text(b"training batch 1 of 5"),
            text(b"labels") + (b"](" + b"".join(map(whole, labels)) + b"e" if targets is None else targets),
            text(b"data") + (array(rows) if data is None else data),
            text(b"filenames") + b"](" + b"".join(names) + b"e" + more,
            b"u.",
        ]
    )


def python3_batch(rows, labels):
    return pickle.dumps({"data": rows, "labels": list(labels), "batch_label": "b", "filenames": []}, protocol=2)


def python3_batch_with_keys_of_bytes(rows, labels):
    return pickle.dumps({b"data": rows, b"labels": list(labels), b"batch_label": b"b", b"filenames": []}, protocol=2)


def some_batches(n=4, seed=0):
    rng = np.random.default_rng(seed)
    return [(rng.integers(256, size=(n, 3072)).astype(np.uint8), rng.integers(10, size=n).tolist()) for _ in BATCHES]


def write_batches(folder, batches, spelled=python2_batch):
    folder.mkdir(exist_ok=True)
    for name, (rows, labels) in zip(BATCHES, batches, strict=True):
        (folder / name).write_bytes(spelled(rows, labels))
    return folder


def write_with(folder, content: bytes):
    """Good batches, but for the third."""
    write_batches(folder, some_batches())
    (folder / "data_batch_3").write_bytes(content)
    return folder


@pytest.mark.parametrize("spelled", [python2_batch, python3_batch, python3_batch_with_keys_of_bytes])
def test_batches_are_read_exactly_and_in_order_and_test_batch_is_the_test_set(tmp_path, spelled):
    batches = some_batches()
    found = read_images(write_batches(tmp_path / "cifar", batches, spelled), check_md5=False)
    rows = np.concatenate([rows for rows, _ in batches[:5]])
    np.testing.assert_array_equal(found.training.pixels.numpy().reshape(20, 3072), rows)
    np.testing.assert_array_equal(found.test.pixels.numpy().reshape(4, 3072), batches[5][0])
    assert found.training.labels.tolist() == sum((labels for _, labels in batches[:5]), [])
    assert found.test.labels.tolist() == batches[5][1]
    assert found.classes == CLASSES and len(found.training) == 20 and len(found.test) == 4


def test_a_batch_of_this_test_is_a_pickle_that_numpy_reads_to_the_same():
    """The spelling of Python 2 is by hand here; Python's own reader is the judge of it."""
    rows, labels = some_batches()[0]
    batch = pickle.loads(python2_batch(rows, labels), encoding="latin1")
    np.testing.assert_array_equal(batch["data"], rows)
    assert batch["labels"] == labels and set(batch) == {"batch_label", "labels", "data", "filenames"}


def test_planes_are_red_green_blue_and_run_row_by_row(tmp_path):
    rows = np.zeros((1, 3072), np.uint8)
    rows[0, 0] = 11  # red of the upper left pixel
    rows[0, 31] = 12  # red, end of the first row
    rows[0, 1024 + 32] = 13  # green, start of the second row
    rows[0, 2048 + 32 * 31 + 5] = 14  # blue, sixth of the last row
    found = read_images(write_batches(tmp_path / "cifar", [(rows, [3])] * 6), check_md5=False)
    expected = np.zeros((3, 32, 32), np.uint8)
    expected[0, 0, 0], expected[0, 0, 31], expected[1, 1, 0], expected[2, 31, 5] = 11, 12, 13, 14
    np.testing.assert_array_equal(found.test.pixels[0].numpy(), expected)
    np.testing.assert_array_equal(found.training.pixels[4].numpy(), expected)


def test_other_batches_than_the_original_ones_are_refused(tmp_path):
    folder = write_batches(tmp_path / "cifar", some_batches())
    refused(folder, "data_batch_1 is not the original: its MD5 is not c99cafc152244af753f735de768cd75f")


@pytest.mark.parametrize("name", BATCHES)
def test_one_changed_bit_in_any_batch_is_refused_by_its_md5(tmp_path, monkeypatch, name):
    folder = write_batches(tmp_path / "cifar", some_batches())
    right = {batch: hashlib.md5((folder / batch).read_bytes()).hexdigest() for batch in BATCHES}
    monkeypatch.setattr(images, "_MD5", right)
    assert len(read_images(folder).training) == 20
    content = bytearray((folder / name).read_bytes())
    content[-700] ^= 1
    (folder / name).write_bytes(content)
    refused(folder, f"{name} is not the original: its MD5 is not {right[name]}")


@pytest.mark.parametrize("check_md5", [True, False])
@pytest.mark.parametrize("name", BATCHES[1:])
def test_a_missing_batch_is_named(tmp_path, monkeypatch, name, check_md5):
    folder = write_batches(tmp_path / "cifar", some_batches())
    monkeypatch.setattr(
        images, "_MD5", {batch: hashlib.md5((folder / batch).read_bytes()).hexdigest() for batch in BATCHES}
    )
    (folder / name).unlink()
    refused(folder, f"{name} is missing", check_md5=check_md5)


def test_without_the_first_batch_a_folder_is_told_what_is_expected(tmp_path):
    folder = write_batches(tmp_path / "cifar", some_batches())
    (folder / "data_batch_1").unlink()
    refused(folder, "expected data_batch_1", kind=UsageError)


def test_a_batch_that_is_cut_anywhere_is_refused(tmp_path):
    rows, labels = some_batches()[0]
    content = python2_batch(rows, labels)
    folder = write_with(tmp_path / "cifar", content)
    cuts = [0, 1, 2, 3, *range(5, 300, 13), *np.random.default_rng(0).integers(len(content), size=20), len(content) - 1]
    for cut in cuts:
        (folder / "data_batch_3").write_bytes(content[:cut])
        refused(folder, "data_batch_3 is", check_md5=False)
    refused(folder, "data_batch_1 is not the original")


def test_wrong_bytes_in_a_batch_never_end_in_another_error(tmp_path):
    """There is no checksum in a pickle: with check_md5 False wrong pixels are read as they are."""
    rng, (rows, labels) = np.random.default_rng(1), some_batches()[0]
    content = python2_batch(rows, labels)
    folder = write_with(tmp_path / "cifar", content)
    around = content.index(b"cnumpy.core"), content.index(b"\x89T") + 8
    places = [*rng.integers(len(content), size=40), *range(40), *rng.integers(*around, size=60)]
    outcomes = []
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= rng.integers(1, 256)
        (folder / "data_batch_3").write_bytes(damaged)
        outcomes.append(read_or_refused(folder, check_md5=False))
    assert outcomes.count(None) > 60


ROWS = np.zeros((4, 3072), np.uint8)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "data_batch_3 is damaged or no CIFAR batch"),
        (b"no pickle at all", "data_batch_3 is damaged or no CIFAR batch"),
        (pickle.dumps([1, 2]), "data_batch_3 is damaged or no CIFAR batch"),
        (pickle.dumps({"labels": [0] * 4}), "data_batch_3 is "),
        (pickle.dumps({"data": ROWS}, protocol=2), "data_batch_3"),
        (python3_batch(ROWS[:, :3071], [0] * 4), r"uint8 \(4, 3071\), not uint8 \(n, 3072\)"),
        (python3_batch(ROWS.astype(np.int32), [0] * 4), r"int32 \(4, 3072\), not uint8 \(n, 3072\)"),
        (python3_batch(ROWS.reshape(4, 3, 32, 32), [0] * 4), r"uint8 \(4, 3, 32, 32\), not uint8 \(n, 3072\)"),
        (python3_batch(ROWS, [0] * 3), "data_batch_3: 4 images, but labels"),
        (python3_batch(ROWS, [0] * 5), "data_batch_3: 4 images, but labels"),
        (python3_batch(ROWS, [0.0, 1.0, 2.0, 3.0]), "data_batch_3"),
        (python3_batch(ROWS, [[0], [1], [2], [3]]), "data_batch_3"),
        (python3_batch(ROWS, ["0", "1", "2", "3"]), "data_batch_3"),
        (python3_batch(ROWS, [0, 1, 2, 10**30]), "data_batch_3"),
        (python3_batch(ROWS, [0, 9, 10, 3]), "data_batch_3: labels from 0 to 10, expected 0 to 9"),
        (python3_batch(ROWS, [0, 9, -1, 3]), "data_batch_3: labels from -1 to 9, expected 0 to 9"),
        (python3_batch(ROWS[:0], []), "data_batch_3"),
    ],
    ids=itertools.count(),
)
def test_a_batch_of_another_content_is_refused(tmp_path, content, match):
    refused(write_with(tmp_path / "cifar", content), match, check_md5=False)


# ---- hostile pickles


class _Hostile:
    """Touches a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def bare(value) -> bytes:
    """The pickle of a value without its first two bytes and its last, to put into another."""
    return pickle.dumps(value, protocol=3)[2:-1]


PAYLOADS = {
    "os.system": lambda mark: b"cos\nsystem\n" + text(b"touch '%s'" % mark) + b"\x85R",
    "posix.system": lambda mark: b"cposix\nsystem\n" + text(b"touch '%s'" % mark) + b"\x85R",
    "os.system by INST": lambda mark: b"(" + text(b"touch '%s'" % mark) + b"ios\nsystem\n",
    "os.system by OBJ": lambda mark: b"(cos\nsystem\n" + text(b"touch '%s'" % mark) + b"o",
    "builtins.eval": lambda mark: b"cbuiltins\neval\n" + text(b"open('%s', 'w').close()" % mark) + b"\x85R",
    "__builtin__.eval": lambda mark: b"c__builtin__\neval\n" + text(b"open('%s', 'w').close()" % mark) + b"\x85R",
    "a reduce": lambda mark: bare(_Hostile(Path(mark.decode()))),
    "numpy.save": lambda mark: b"cnumpy\nsave\n" + text(mark) + whole(1) + b"\x86R",
    "numpy.ndarray.tofile": lambda mark: (
        (b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93" + array(np.zeros(3, np.uint8)) + text(mark)) + b"\x86R"
    ),
    "numpy.memmap": lambda mark: (
        (b"cnumpy\nmemmap\n(" + text(mark) + text(b"u1") + text(b"w+") + whole(0) + whole(3)) + b"tR"
    ),
    "torch.save": lambda mark: b"ctorch\nsave\n" + whole(1) + text(mark) + b"\x86R",
    "an object array": lambda mark: bare(np.array([_Hostile(Path(mark.decode()))], dtype=object)),
}


@pytest.mark.parametrize("place", ["data", "targets", "more"])
@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_hostile_batch_is_refused_and_runs_nothing(tmp_path, payload, place):
    mark = tmp_path / "executed.npy"
    thing = PAYLOADS[payload](str(mark).encode())
    content = python2_batch(*some_batches()[0], **{place: text(b"k") + thing if place == "more" else thing})
    pickle.loads(content, encoding="latin1")
    assert mark.exists()  # the payload does work on a reader that trusts it
    mark.unlink()
    folder = write_with(tmp_path / "cifar", content)
    refused(folder, "data_batch_3 is damaged or no CIFAR batch", check_md5=False)
    refused(folder, "data_batch_1 is not the original")
    assert not mark.exists()


def test_what_a_hostile_batch_asks_for_is_told_in_one_line(tmp_path):
    name = b"\x1b[31msystem\n\n\n\n\n" + 200 * b"x"
    thing = b"\x8c\x03os\n\x8c" + bytes([len(name)]) + name + b"\x93" + text(b"true") + b"\x85R"
    folder = write_with(tmp_path / "cifar", python2_batch(*some_batches()[0], data=thing))
    message = refused(folder, "it asks for .*system", check_md5=False)
    assert len(message) < len(str(folder)) + 150


def test_a_batch_cannot_make_numpy_follow_an_address(tmp_path):
    """A data type may say "objects" and deny that it holds any: numpy's own reader then takes the file's bytes for
    the address of an object, here one of this test, and calls it.
    """
    mark = tmp_path / "executed"

    class Here:
        def __int__(self):
            mark.touch()
            return 1

    here = Here()
    state = b"(K\x03" + text(b"|") + b"cnumpy\ndtype\n" + text(b"O") + b"\x89\x88\x87RK\x01\x85\x86NNK\x08K\x08K\x00tb"
    addresses = b"".join(
        [
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R",
            b"(K\x01K\x01\x85cnumpy\ndtype\n" + text(b"V8") + b"\x89\x88\x87R" + state,
            b"\x89" + text(struct.pack("<Q", id(here))) + b"tb",
        ]
    )
    one = b"cnumpy\nndarray\nK\x01\x85cnumpy\ndtype\n" + text(b"u1") + b"\x85R\x86R"
    content = python2_batch(*some_batches()[0], data=one + b")" + addresses + b"s")
    refused(write_with(tmp_path / "cifar", content), "data_batch_3 is", check_md5=False)
    assert not mark.exists()


def nested(depth):
    """A list of ten lists of ten lists ..., each of which is written once."""
    return [0] * 10 if depth == 1 else [nested(depth - 1)] * 10


HUGE = b"\x8a\x06\x00\x00\x00\x00\x00\x01"  # 2**40


@pytest.mark.parametrize(
    "content",
    [
        python2_batch(*some_batches()[0], data=array(ROWS, start=HUGE + b"\x85")),
        python2_batch(*some_batches()[0], data=array(ROWS, shape=(10**12, 3072))),
        python2_batch(*some_batches()[0], data=array(ROWS, shape=(-1, -3072))),
        python2_batch(*some_batches()[0], data=array(ROWS, shape=(2**32, 2**32))),
        python2_batch(*some_batches()[0], data=b"cnumpy\nndarray\n" + whole(20000) + whole(3072) + b"\x86\x85R"),
        b"\x80\x02Nr" + struct.pack("<I", 5_000_000) + b".",  # a place in a memory of that many
        b"\x80\x04\x8d" + struct.pack("<Q", 2**50) + b"short.",
        python2_batch(*some_batches()[0], targets=bare(nested(6))),
    ],
    ids=["at the start", "rows", "negative", "overflow", "an array", "memory", "a text", "lists of lists"],
)
def test_a_batch_that_claims_to_be_huge_takes_no_memory(tmp_path, content):
    folder = write_with(tmp_path / "cifar", content)
    tracemalloc.start()
    try:
        found = read_or_refused(folder, check_md5=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5e6
    assert found is None or found[1][0] == (20, 3, 32, 32)


# ---- npz of pixels


def some_pixels(n_train=12, n_test=6, height=5, width=4, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "x_train": rng.integers(256, size=(n_train, height, width, 3)).astype(np.uint8),
        "y_train": np.arange(n_train) % 3,
        "x_test": rng.integers(256, size=(n_test, height, width, 3)).astype(np.uint8),
        "y_test": np.arange(n_test)[::-1] % 3,
    }


def write_npz(path, content, save=np.savez_compressed):
    save(path, **content)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.int64])
def test_pixels_of_an_npz_are_read_exactly(tmp_path, save, kind):
    content = some_pixels()
    content["y_train"], content["y_test"] = content["y_train"].astype(kind), content["y_test"].astype(kind)[:, None]
    found = read_images(write_npz(tmp_path / "set.npz", content, save))
    np.testing.assert_array_equal(found.training.pixels.permute(0, 2, 3, 1).numpy(), content["x_train"])
    np.testing.assert_array_equal(found.test.pixels.permute(0, 2, 3, 1).numpy(), content["x_test"])
    assert found.training.labels.tolist() == content["y_train"].tolist()
    assert found.test.labels.tolist() == content["y_test"].ravel().tolist()
    assert found.classes == ("class 0", "class 1", "class 2")


def test_ten_classes_of_an_npz_have_the_names_of_cifar(tmp_path):
    content = some_pixels()
    content["y_train"] = np.arange(12) % 10
    assert read_images(write_npz(tmp_path / "set.npz", content)).classes == CLASSES


def test_an_object_array_in_an_npz_is_refused_and_runs_nothing(tmp_path):
    mark = tmp_path / "executed"
    for name in ("x_train", "y_test"):
        content = {**some_pixels(), name: np.array([_Hostile(mark)], dtype=object)}
        refused(write_npz(tmp_path / "set.npz", content), "set.npz is damaged, or holds more than numbers")
    assert not mark.exists()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_that_is_cut_anywhere_is_refused(tmp_path, save):
    path = write_npz(tmp_path / "set.npz", some_pixels(), save)
    content = path.read_bytes()
    for cut in [*range(8), *np.random.default_rng(0).integers(8, len(content), size=30), len(content) - 1]:
        path.write_bytes(content[:cut])
        refused(path, "set.npz is damaged")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_with_a_wrong_byte_is_refused_or_reads_as_it_was_written(tmp_path, save):
    path = write_npz(tmp_path / "set.npz", some_pixels(), save)
    content, original = path.read_bytes(), everything(read_images(path))
    with zipfile.ZipFile(path) as archive:
        directory = archive.start_dir
    rng, refusals = np.random.default_rng(1), 0
    flips = [(place, rng.integers(1, 256)) for place in rng.integers(len(content), size=60)]
    flips += [(place, 1 << place % 8) for place in range(directory, directory + 46)]
    for place, change in flips:
        damaged = bytearray(content)
        damaged[place] ^= change
        path.write_bytes(damaged)
        found = read_or_refused(path)
        assert found is None or found == original
        refusals += found is None
    assert refusals > 60


def test_a_wrong_digit_in_the_shape_of_an_array_is_found(tmp_path):
    """The array is then read short of its end, where zipfile would compare the checksum."""
    path = write_npz(tmp_path / "set.npz", some_pixels(50, 50, 32, 32), np.savez)
    content = path.read_bytes()
    assert content.count(b"(50, 32, 32, 3)") == 2
    path.write_bytes(content.replace(b"(50, 32, 32, 3)", b"(50, 12, 32, 3)"))
    refused(path, "set.npz is damaged")


def test_what_is_no_zip_is_no_npz(tmp_path):
    path = tmp_path / "set.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros((4, 4, 4, 3), np.uint8))
    refused(path, "set.npz is damaged")
    mark = tmp_path / "executed"
    path.write_bytes(pickle.dumps(_Hostile(mark)))
    refused(path, "set.npz is damaged")
    assert not mark.exists()


def test_a_zip_of_something_else_is_no_npz(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        archive.writestr("x_train.npy", b"no array")
    refused(tmp_path / "set.npz", "set.npz is damaged")
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        archive.writestr("readme.txt", b"nothing")
    refused(tmp_path / "set.npz", "set.npz has no x_train")


@pytest.mark.parametrize("name", ["x_train", "y_train", "x_test", "y_test"])
def test_a_missing_array_is_named(tmp_path, name):
    content = some_pixels()
    del content[name]
    refused(write_npz(tmp_path / "set.npz", content), f"set.npz has no {name}")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"x_train": np.zeros((12, 5, 4, 3), np.float32)}, r"pixels are float32 \(12, 5, 4, 3\), not uint8"),
        ({"x_test": np.zeros((6, 5, 4), np.uint8)}, r"pixels are uint8 \(6, 5, 4\), not uint8"),
        ({"x_train": np.zeros((12, 3, 5, 4), np.uint8)}, r"pixels are uint8 \(12, 3, 5, 4\), not uint8"),
        ({"x_test": np.zeros((6, 4, 5, 3), np.uint8)}, "set.npz"),
        ({"x_train": np.zeros((0, 5, 4, 3), np.uint8), "y_train": np.zeros(0, int)}, "set.npz"),
        ({"x_test": np.zeros((0, 5, 4, 3), np.uint8), "y_test": np.zeros(0, int)}, "set.npz"),
        ({"y_train": np.zeros(11, int)}, r"12 images, but labels int64 \(11,\)"),
        ({"y_test": np.zeros(7, int)}, r"6 images, but labels int64 \(7,\)"),
        ({"y_train": np.zeros((12, 3), int)}, r"12 images, but labels int64 \(36,\)"),
        ({"y_train": np.zeros(12)}, "labels float64"),
        ({"y_train": np.full(12, np.nan)}, "labels float64"),
        ({"y_test": np.full(6, np.inf)}, "labels float64"),
        ({"y_test": np.zeros(6, bool)}, "labels bool"),
        ({"y_test": np.full(6, "cat")}, "labels <U3"),
        ({"y_test": np.zeros(6, "m8[s]")}, "labels timedelta64"),
        ({"y_train": np.array([0, 1, 2, -1] * 3)}, "labels from -1 to 2"),
        ({"y_train": np.array([0, 1, 2, 10**6] * 3)}, "labels from 0 to 1000000"),
        ({"y_test": np.array([0, 1, 10**6] * 2, np.uint64)}, "labels from 0 to 1000000"),
    ],
)
def test_arrays_of_an_npz_that_do_not_fit_are_refused(tmp_path, changes, match):
    refused(write_npz(tmp_path / "set.npz", {**some_pixels(), **changes}), match)


# ---- npz of JPEG files


def encoded(pixels, kind):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def plain(colour, height=16, width=8):
    return np.broadcast_to(np.asarray(colour, np.uint8), (height, width, 3)).copy()


COLOURS = [(17 * number, 255 - 19 * number, (67 * number) % 256) for number in range(13)]


def jpegs(colours=COLOURS, **replaced):
    files = [encoded(plain(colour), "JPEG") for colour in colours]
    for number, content in replaced.items():
        files[int(number[1:])] = content
    return {
        "jpeg": np.frombuffer(b"".join(files), np.uint8),
        "offsets": np.cumsum([0, *map(len, files)]),
        "labels": np.arange(len(files), dtype=np.uint8) % 10,
    }


def test_jpeg_files_are_read_in_order_and_the_last_sixth_is_the_test_set(tmp_path):
    content = jpegs()
    found = read_images(write_npz(tmp_path / "set.npz", content))
    assert (len(found.training), len(found.test), found.classes) == (11, 2, CLASSES)
    assert [*found.training.labels.tolist(), *found.test.labels.tolist()] == [*range(10), 0, 1, 2]
    pixels = np.concatenate([found.training.pixels.numpy(), found.test.pixels.numpy()])
    assert pixels.shape == (13, 3, 16, 8)
    expected = np.broadcast_to(np.array(COLOURS)[:, :, None, None], pixels.shape)
    np.testing.assert_allclose(pixels.astype(int), expected, rtol=0, atol=3)


def test_the_pixels_of_a_jpeg_file_are_those_that_pillow_decodes(tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(16, 8, 3)).astype(np.uint8)
    found = read_images(write_npz(tmp_path / "set.npz", jpegs(_4=encoded(pixels, "JPEG"))))
    with Image.open(io.BytesIO(encoded(pixels, "JPEG"))) as image:
        expected = np.asarray(image)
    np.testing.assert_array_equal(found.training.pixels[4].permute(1, 2, 0).numpy(), expected)


GOOD = jpegs()
ENDS = GOOD["offsets"]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"offsets": ENDS[:-1]}, "13 labels and 13 offsets do not belong together"),
        ({"offsets": np.append(ENDS, ENDS[-1] + 1)}, "13 labels and 15 offsets do not belong together"),
        ({"labels": GOOD["labels"][:-1]}, "12 labels and 14 offsets do not belong together"),
        ({"offsets": ENDS[::-1].copy()}, "set.npz: "),
        ({"offsets": np.where(np.arange(14) == 5, ENDS[7], ENDS)}, "set.npz: "),
        ({"offsets": np.where(np.arange(14) == 5, ENDS[4], ENDS)}, "set.npz: "),
        ({"offsets": np.where(np.arange(14) == 5, ENDS[7], ENDS).astype(np.uint32)}, "set.npz"),
        ({"offsets": ENDS + 1}, "set.npz: its offsets"),
        ({"offsets": np.where(np.arange(14) == 13, ENDS + 1, ENDS)}, "set.npz: its offsets end at"),
        ({"offsets": np.where(np.arange(14) == 0, 2, ENDS)}, "set.npz: its offsets"),
        ({"offsets": np.where(np.arange(14) == 0, -2, ENDS)}, "set.npz: its offsets"),
        ({"offsets": ENDS.astype(float)}, "set.npz"),
        ({"offsets": np.array(3)}, "set.npz"),
        ({"offsets": np.stack([ENDS, ENDS], 1)}, "set.npz"),
        ({"labels": np.array(3)}, "set.npz"),
        ({"labels": GOOD["labels"][:, None]}, "set.npz"),
        ({"labels": GOOD["labels"].astype(float)}, "labels float64"),
        ({"labels": np.full(13, "cat")}, "labels <U3"),
        ({"labels": np.arange(13)}, "labels from 0 to 12, expected 0 to 9"),
        ({"labels": np.arange(13) % 10 - 1}, "labels from -1 to 8, expected 0 to 9"),
        ({"labels": np.zeros(0, int), "offsets": np.zeros(1, int), "jpeg": np.zeros(0, np.uint8)}, "set.npz"),
        ({"jpeg": GOOD["jpeg"].astype(np.int64)}, "set.npz"),
        ({"jpeg": GOOD["jpeg"][:, None]}, "set.npz"),
        ({"jpeg": np.array(3, np.uint8)}, "set.npz"),
    ],
)
def test_arrays_of_jpeg_files_that_do_not_fit_are_refused(tmp_path, changes, match):
    refused(write_npz(tmp_path / "set.npz", {**GOOD, **changes}), match)


def test_too_few_jpeg_files_for_a_test_set_are_refused(tmp_path):
    assert len(read_images(write_npz(tmp_path / "six.npz", jpegs(COLOURS[:6]))).test) == 1
    refused(write_npz(tmp_path / "five.npz", jpegs(COLOURS[:5])), "five.npz")


NOISE = encoded(np.random.default_rng(0).integers(256, size=(16, 8, 3)).astype(np.uint8), "JPEG")


@pytest.mark.parametrize(
    "content",
    [NOISE[: len(NOISE) // 2], NOISE[:20], b"x" * 300, b"\xff\xd8" + b"\0" * 300, encoded(plain(9), "GIF")],
    ids=["half", "cut in its header", "no image", "no header", "GIF"],
)
def test_a_damaged_jpeg_file_is_told_by_its_number(tmp_path, content):
    refused(write_npz(tmp_path / "set.npz", jpegs(_7=content)), r"image 7 of .*set\.npz cannot be read as an image")


def test_a_jpeg_file_of_another_size_is_told_by_its_number(tmp_path):
    content = jpegs(_5=encoded(plain((1, 2, 3), height=8, width=16), "JPEG"))
    refused(write_npz(tmp_path / "set.npz", content), r"image 5 of .*set\.npz has 16 x 8 pixels, the first 8 x 16")


# ---- folders of image files


def write_folders(folder, files):
    """Image files of pixels at their paths."""
    for name, pixels in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name, lossless=True)
    return folder


def some_files(height=6, width=4):
    rng = np.random.default_rng(0)
    names = [
        *("train/b/2.png", "train/b/1.PNG", "train/a/9.png", "train/c/0.bmp", "train/c/1.webp"),
        *("test/b/0.png", "test/a/0.png", "test/c/0.png"),
    ]
    return {name: rng.integers(256, size=(height, width, 3)).astype(np.uint8) for name in names}


def test_images_of_folders_are_read_exactly_and_classes_are_in_sorted_order(tmp_path):
    files = some_files()
    folder = write_folders(tmp_path / "set", files)
    (folder / "train" / "a" / "readme.txt").write_text("no image")
    (folder / "train" / "licence").write_text("no class")
    found = read_images(folder)
    training = ["train/a/9.png", "train/b/1.PNG", "train/b/2.png", "train/c/0.bmp", "train/c/1.webp"]
    test = ["test/a/0.png", "test/b/0.png", "test/c/0.png"]
    assert found.classes == ("a", "b", "c")
    assert found.training.labels.tolist() == [0, 1, 1, 2, 2] and found.test.labels.tolist() == [0, 1, 2]
    for part, names in ((found.training, training), (found.test, test)):
        assert part.pixels.shape == (len(names), 3, 6, 4)
        np.testing.assert_array_equal(part.pixels.permute(0, 2, 3, 1).numpy(), np.stack([files[n] for n in names]))


@pytest.mark.parametrize("place", ["train/b/2.png", "test/c/0.png"])
def test_an_image_file_of_another_size_is_named_with_both_sizes(tmp_path, place):
    files = some_files()
    files[place] = np.zeros((5, 8, 3), np.uint8)
    refused(write_folders(tmp_path / "set", files), rf"{place} has 8 x 5 pixels, the first image 4 x 6")


@pytest.mark.parametrize("place", ["train/a/9.png", "train/b/2.png", "test/c/0.png"])
@pytest.mark.parametrize(
    "content",
    [b"", b"no image", encoded(plain(9), "PNG")[:50], encoded(plain(9), "GIF"), encoded(plain(9), "PPM")],
    ids=["empty", "text", "PNG that is cut", "GIF", "PPM"],
)
def test_a_file_that_is_no_image_is_named(tmp_path, place, content):
    folder = write_folders(tmp_path / "set", some_files())
    (folder / place).write_bytes(content)
    refused(folder, f"{place} cannot be read as an image")


def test_a_postscript_file_in_the_place_of_an_image_is_not_run(tmp_path, monkeypatch):
    """Pillow would hand it to Ghostscript."""
    mark = tmp_path / "executed"
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: mark.touch())
    folder = write_folders(tmp_path / "set", some_files())
    (folder / "train" / "b" / "2.png").write_bytes(encoded(plain(9, 6, 4), "EPS"))
    refused(folder, "train/b/2.png cannot be read as an image")
    assert not mark.exists()


def test_wrong_bytes_in_a_png_file_never_end_in_another_error(tmp_path):
    folder = write_folders(tmp_path / "set", some_files())
    path = folder / "train" / "b" / "2.png"
    content, original, refusals = path.read_bytes(), everything(read_images(folder)), 0
    rng = np.random.default_rng(0)
    for place in rng.integers(len(content), size=60):
        damaged = bytearray(content)
        damaged[place] ^= rng.integers(1, 256)
        path.write_bytes(damaged)
        found = read_or_refused(folder)
        assert found is None or found == original
        refusals += found is None
    assert refusals > 40


@pytest.mark.parametrize("extra", ["train/d/0.png", "test/d/0.png"])
def test_classes_of_train_and_test_that_differ_are_refused(tmp_path, extra):
    folder = write_folders(tmp_path / "set", {**some_files(), extra: np.zeros((6, 4, 3), np.uint8)})
    refused(folder, r"the classes of train \(a, b, c(, d)?\) are not those of test")


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_part_without_images_is_refused(tmp_path, part):
    folder = write_folders(tmp_path / "set", some_files())
    for file in (folder / part).glob("*/*"):
        file.unlink()
    refused(folder, "no images")


@pytest.mark.parametrize(("kept", "missing"), [("train", "test"), ("test", "train")])
def test_a_missing_part_is_named(tmp_path, kept, missing):
    files = {name: pixels for name, pixels in some_files().items() if name.startswith(kept)}
    refused(write_folders(tmp_path / "set", files), f"{missing} is missing")


def test_folders_without_classes_are_refused(tmp_path):
    for part in ("train", "test"):
        (tmp_path / "set" / part).mkdir(parents=True)
    refused(tmp_path / "set", r"the classes of train \(none\)")


# ---- what is none of these


@pytest.mark.parametrize("name", ["nowhere", "nowhere.npz", "nowhere/data_batch_1"])
def test_a_path_that_does_not_exist_is_a_file_error(tmp_path, name):
    refused(tmp_path / name, "no images at .*nowhere")


def test_a_path_of_something_else_is_a_usage_error(tmp_path):
    refused(tmp_path, "holds no images that can be told", kind=UsageError)
    (tmp_path / "set.txt").write_text("no images")
    refused(tmp_path / "set.txt", "holds no images that can be told", kind=UsageError)


# ---- CIFAR-10 itself


@pytest.mark.skipif(not (DATA / "cifar10_exact_first1017.npz").is_file(), reason=f"needs the files of {DATA}")
def test_exact_batches_of_cifar_show_what_its_jpeg_files_show(tmp_path):
    """JPEG of quality 75 differs from the exact pixels by little; planes out of order differ by much."""
    with np.load(DATA / "cifar10_exact_first1017.npz") as exact, np.load(DATA / "cifar10_jpeg.npz") as lossy:
        batches = [(exact[f"exact_{b}"], exact["labels"][b, :1017].tolist()) for b in range(6)]
        jpeg, offsets, labels = lossy["jpeg"], lossy["offsets"], lossy["labels"].reshape(6, 10000)
    found = read_images(write_batches(tmp_path / "cifar", batches), check_md5=False)
    np.testing.assert_array_equal(found.training.labels.reshape(5, 1017).numpy(), labels[:5, :1017])
    np.testing.assert_array_equal(found.test.labels.numpy(), labels[5, :1017])
    files = [
        jpeg[start:end].tobytes()
        for b in (1, 5)
        for start, end in itertools.pairwise(offsets[10000 * b : 10000 * b + 201])
    ]
    content = {
        "jpeg": np.frombuffer(b"".join(files), np.uint8),
        "offsets": np.cumsum([0, *map(len, files)]),
        "labels": labels[[1, 5], :200].ravel(),
    }
    decoded = read_images(write_npz(tmp_path / "part.npz", content, np.savez))
    decoded = np.concatenate([decoded.training.pixels.numpy(), decoded.test.pixels.numpy()]).astype(int)
    exactly = np.concatenate([found.training.pixels[1017:1217].numpy(), found.test.pixels[:200].numpy()]).astype(int)
    for half in (slice(0, 200), slice(200, None)):
        right = np.abs(decoded[half] - exactly[half]).mean()
        swapped = np.abs(decoded[half] - exactly[half, ::-1]).mean()
        assert right < 8.0 < swapped
