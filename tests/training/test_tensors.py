"""A training set as tensors: the same whether it comes at once or in blocks, read once, in a little more room."""

import tracemalloc

import numpy as np
import pytest

from chemnet.data import dataset
from chemnet.data.recipe import KINDS
from chemnet.gas import canonical
from chemnet.gas.mechanism import load_mechanism
from chemnet.runtime.errors import UsageError
from chemnet.surrogate.hybrid import slow_step
from chemnet.surrogate.transform import fit_transform
from chemnet.training import tensors as learning_set
from chemnet.training.tensors import load_learning_set

MECHANISM = load_mechanism("h2o2.yaml")
ROWS = 30_000


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """States along ignitions, and as labels those that come next in a shuffled order; the pressure rises slowly."""
    gas, rng, rows = MECHANISM.gas(), np.random.default_rng(0), []
    for phi in (0.5, 1.0, 2.0):
        start = np.hstack([1200.0, 1e5, canonical.premixed(MECHANISM, phi, {"H2": 1})])
        rows.append(canonical.states_along(*canonical.ignition_path(gas, start, 1e-2, 1e-3), ROWS // 3, rng))
    states = np.maximum(np.concatenate(rows), 0.0)
    states[:, 1] += np.linspace(0.0, 1e4, ROWS)
    states = np.sort(states.reshape(3, -1, states.shape[1]), axis=1).reshape(states.shape)  # blocks differ
    next_states = states * (1.0 + 1e-3 * rng.standard_normal(states.shape))
    split, zeros = (rng.random(ROWS) < 0.1).astype(np.int8), np.zeros(ROWS, np.int32)
    split[:5000] = 1  # the first block has no row to train on
    pairs = dataset.Pairs(states, next_states, split, zeros, zeros.astype(np.int8))
    path = tmp_path_factory.mktemp("learning_set") / "states.h5"
    facts = {"mechanism": MECHANISM.name, "mechanism_sha256": MECHANISM.sha256, "dt": 1e-6, "kinds": ["path"]}
    dataset.write(path, [pairs], facts)
    return path


@pytest.mark.parametrize("label", ["signed_root", "difference"])
def test_blocks_give_the_transform_and_the_tensors_of_all_rows_at_once(path, label):
    pairs, found = dataset.read(path), load_learning_set(path, label)
    training, validation = pairs.where(pairs.split == 0), pairs.where(pairs.split == 1)
    expected = fit_transform(training.states, training.next_states, MECHANISM, label)
    for name in ("input_mean", "input_gain", "output_scale"):
        np.testing.assert_allclose(getattr(found.transform, name), getattr(expected, name), rtol=1e-9, atol=1e-300)
    T = training.states[:, 0]
    np.testing.assert_allclose(found.transform.input_mean[0], T.mean(), rtol=1e-12, atol=0)
    np.testing.assert_allclose(1.0 / found.transform.input_gain[0], T.std(), rtol=1e-9, atol=0)
    tensors = found.tensors
    for rows, x, y in ((training, tensors.x, tensors.y), (validation, tensors.x_val, tensors.y_val)):
        np.testing.assert_allclose(x.numpy(), expected.inputs(rows.states), rtol=1e-6, atol=2e-6)
        np.testing.assert_allclose(y.numpy(), expected.labels(rows.states, rows.next_states), rtol=1e-6, atol=1e-6)
    assert tensors.active.tolist() == expected.active.tolist()


def test_a_share_of_the_calm_rows_is_kept_and_all_others(tmp_path):
    """Of an ignition and the burnt gas after it."""
    start = np.hstack([1200.0, 1e5, canonical.premixed(MECHANISM, 1.0, {"H2": 1})])
    path = canonical.ignition_path(MECHANISM.gas(), start, 1e-3)
    states = np.maximum(canonical.states_along(*path, 4000, np.random.default_rng(0)), 0.0)
    step = slow_step(MECHANISM)
    split = (np.arange(len(states)) % 10 == 0).astype(np.int8)
    kinds = np.full(len(states), KINDS.index("flow"), np.int8)
    pairs = dataset.Pairs(states, step.advance(states, 1e-6)[0], split, np.zeros(len(states), np.int32), kinds)
    facts = {"mechanism": MECHANISM.name, "mechanism_sha256": MECHANISM.sha256, "dt": 1e-6, "kinds": list(KINDS)}
    dataset.write(tmp_path / "states.h5", [pairs], facts)
    _, calm = step.advance_calm(states[split == 0], 1e-6)
    assert 0.2 < calm.mean() < 0.9
    whole, found = (load_learning_set(tmp_path / "states.h5", changes=True, calm_share=share) for share in (1.0, 0.25))
    kept = len(found.tensors) - np.count_nonzero(~calm)
    np.testing.assert_allclose(kept / calm.sum(), 0.25, rtol=0, atol=0.03)
    everything, chosen = (
        np.hstack([data.x.numpy(), data.y.numpy(), data.changes.numpy()]) for data in (whole.tensors, found.tensors)
    )
    rows = {row.tobytes() for row in chosen}
    assert rows <= {row.tobytes() for row in everything}
    assert {row.tobytes() for row in everything[~calm]} <= rows
    np.testing.assert_array_equal(found.tensors.x_val, whole.tensors.x_val)
    np.testing.assert_array_equal(found.transform.output_scale, whole.transform.output_scale)


def test_a_given_transform_is_kept(path):
    given = load_learning_set(path, "difference").transform
    found, pairs = load_learning_set(path, transform=given), dataset.read(path)
    assert found.transform is given
    np.testing.assert_array_equal(found.tensors.x.numpy(), given.inputs(pairs.states[pairs.split == 0]))


def test_several_files_are_one_set_in_their_order_and_must_have_one_time_step(path, tmp_path):
    pairs, facts = dataset.read(path), dict(dataset.read_attributes(path))
    parts = [tmp_path / "one.h5", tmp_path / "two.h5"]
    for part, rows in zip(parts, (slice(0, 7000), slice(7000, None)), strict=True):
        dataset.write(part, [pairs.where(np.arange(ROWS)[rows])], {k: facts[k] for k in facts if k != "rows"})
    found, expected = load_learning_set(parts), load_learning_set(path)
    for name in ("x", "y", "x_val", "y_val"):
        ours, theirs = getattr(found.tensors, name).numpy(), getattr(expected.tensors, name).numpy()
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    dataset.write(parts[1], [pairs], {**facts, "dt": 2e-6})
    with pytest.raises(UsageError, match="two.h5 has the time step 2e-06 s, .*one.h5 has 1e-06 s"):
        load_learning_set(parts)


def test_a_large_set_is_read_once_in_the_room_of_its_tensors_and_a_fifth(path, monkeypatch):
    """Its size is pretended; all that is kept for the domain beside the tensors counts, and so do the blocks."""
    monkeypatch.setattr(learning_set, "_MANY_ROWS", ROWS // 2)
    monkeypatch.setattr(learning_set, "_DOMAIN_ROWS", ROWS // 50)
    monkeypatch.setattr(learning_set, "_BLOCK_ROWS", ROWS // 100)
    read, blocks, asked = [], dataset.blocks, []
    monkeypatch.setattr(dataset, "read", lambda path: pytest.fail("all of it at once"))
    monkeypatch.setattr(dataset, "read_column", _noted(dataset.read_column, asked))
    monkeypatch.setattr(dataset, "blocks", lambda *arguments: read.append(arguments) or blocks(*arguments))
    load_learning_set(path)  # compiles
    read.clear(), asked.clear()
    tracemalloc.start()
    tensors = load_learning_set(path).tensors
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    room = 4 * sum(t.numel() for t in (tensors.x, tensors.y, tensors.x_val, tensors.y_val))
    assert len(read) == 1 and asked == ["split"]
    assert room <= peak <= 1.2 * room


def _noted(function, names):
    def call(path, name):
        names.append(name)
        return function(path, name)

    return call
