"""The learned step: conservation, independence of company, one file that refuses what does not belong to it."""

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from chemnet.gas import state
from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.status import Status
from chemnet.kinetics import RosenbrockReactor
from chemnet.runtime.errors import FileError, UsageError
from chemnet.surrogate import inference
from chemnet.surrogate.domain import Domain
from chemnet.surrogate.inference import available_engines
from chemnet.surrogate.model import Surrogate, _digest
from chemnet.surrogate.network import NetConfig, build
from chemnet.surrogate.transform import fit_transform

MECHANISM = load_mechanism("drm19")


@pytest.fixture(scope="module")
def states():
    """Rows of random composition, (300, 23), and as many that differ a little."""
    rng = np.random.default_rng(0)
    Y = rng.dirichlet(np.full(21, 0.2), 300)
    return np.column_stack([rng.uniform(300, 3000, 300), rng.uniform(8e4, 2e5, 300), Y])


@pytest.fixture(scope="module")
def surrogate(states):
    """An untrained network: what must hold holds whatever the network says."""
    rng = np.random.default_rng(1)
    after = states.copy()
    after[:, 0] += rng.standard_normal(300)
    after[:, 2:] *= np.exp(0.05 * rng.standard_normal((300, 21)))
    network = build(NetConfig(widths=(23, 48, 32, 23), activation="gelu"), seed=1)
    domain = Domain.box(MECHANISM, T=(250.0, 3100.0), P=(7e4, 3e5))
    return Surrogate(network, fit_transform(states, after, MECHANISM), MECHANISM, 1e-6, domain, {"seed": 1})


def test_elements_and_enthalpy_hold_whatever_the_network_says(surrogate, states):
    before = states.copy()
    next_states, status = surrogate.advance(states)
    assert (status == Status.OK).all() and np.abs(next_states[:, 0] - states[:, 0]).max() > 1.0
    lost = state.elements(next_states, MECHANISM) - state.elements(states, MECHANISM)
    scale = state.heat_capacity(states, MECHANISM) * states[:, 0]
    gained = (state.enthalpy(next_states, MECHANISM) - state.enthalpy(states, MECHANISM)) / scale
    np.testing.assert_allclose(lost, 0.0, rtol=0, atol=1e-12)
    np.testing.assert_allclose(gained, 0.0, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(states, before)


@pytest.mark.parametrize("engine", available_engines())
def test_a_row_is_bitwise_the_same_alone_in_any_order_and_among_thousands(surrogate, states, engine):
    model = surrogate.with_engine(engine)
    together, _ = model.advance(states)
    alone = np.vstack([model.advance(row[None])[0] for row in states[:40]])
    np.testing.assert_array_equal(alone, together[:40])
    np.testing.assert_array_equal(model.advance(states[::-1])[0][::-1], together)
    many = np.tile(states, (9, 1))
    np.testing.assert_array_equal(model.advance(many)[0][-300:], together)
    parts = np.split(many, np.cumsum([7, 16, 17, 63, 250, 511, 600]))
    np.testing.assert_array_equal(np.vstack([model.advance(part)[0] for part in parts])[:300], together)


def test_engines_differ_by_the_precision_of_their_numbers_only(surrogate, states):
    """bf16 has eight bits; its error is that of the network's outputs and not of the states."""
    exact, _ = surrogate.advance(states)
    change = np.abs(exact - states)[:, 2:].max()
    for engine, tolerance in (("bf16", 0.05), ("onnx", 1e-5)):
        if engine in available_engines():
            found, status = surrogate.with_engine(engine).advance(states)
            assert (status == Status.OK).all()
            np.testing.assert_allclose(found[:, 2:], exact[:, 2:], rtol=0, atol=tolerance * change)


def test_an_engine_is_stored_with_the_model_and_another_may_be_asked_for(surrogate, tmp_path, monkeypatch):
    monkeypatch.setattr(inference, "has_bf16_instructions", lambda: True)
    surrogate.with_engine("bf16").save(tmp_path / "model.safetensors")
    assert Surrogate.load(tmp_path).engine == "bf16"
    assert Surrogate.load(tmp_path, engine="fp32").engine == "fp32"
    monkeypatch.setattr(inference, "has_bf16_instructions", lambda: False)
    assert Surrogate.load(tmp_path).engine == "fp32"
    with pytest.raises(UsageError, match="no engine fp64; there are fp32, bf16"):
        Surrogate.load(tmp_path, engine="fp64")


def test_weights_may_be_stored_in_half_of_their_size(surrogate, states, tmp_path):
    for storage in ("fp32", "bf16"):
        surrogate.save(tmp_path / f"{storage}.safetensors", storage)
    model = Surrogate.load(tmp_path / "bf16.safetensors")
    rounded = surrogate.network[0].weight.detach().to(torch.bfloat16).float()
    np.testing.assert_array_equal(model.network[0].weight.detach().numpy(), rounded.numpy())
    assert model.network[0].weight.dtype == torch.float32
    sizes = [(tmp_path / f"{storage}.safetensors").stat().st_size for storage in ("fp32", "bf16")]
    weights = sum(layer.weight.numel() for layer in surrogate.network[::2])
    assert abs(sizes[0] - sizes[1] - 2 * weights) < 64  # the header is padded


def test_rows_outside_the_domain_and_invalid_ones_come_back_as_they_were(surrogate, states):
    rows = states[:4].copy()
    rows[0, 0], rows[1, 1], rows[2, 5] = 3300.0, 5e5, np.nan
    next_states, status = surrogate.advance(rows)
    assert status.tolist() == [Status.OUTSIDE, Status.OUTSIDE, Status.INVALID, Status.OK]
    np.testing.assert_array_equal(next_states[:3], rows[:3])
    assert surrogate.advance(rows[:0])[0].shape == (0, 23)


def test_cold_gas_is_integrated_whatever_the_network_says_of_it_and_alone_as_in_company(surrogate, states, tmp_path):
    surrogate.with_limits(900.0, 0.0).save(tmp_path / "model.safetensors")
    model, rows = Surrogate.load(tmp_path), states.copy()
    rows[0, 1] = 5e5  # outside the network's domain, which is no matter for the integrator
    rows[:3, 0] = 400.0
    rows[1, 5] = np.nan
    next_states, status = model.advance(rows)
    cold = rows[:, 0] < 900.0
    assert model.cold_limit == 900.0 and 30 < model.integrated == cold.sum() < 150
    assert status[:3].tolist() == [Status.OK, Status.INVALID, Status.OK]
    expected, _ = RosenbrockReactor(MECHANISM, 1e-2, 1e-7).advance(rows[cold], 1e-6)
    np.testing.assert_array_equal(next_states[cold], expected)
    np.testing.assert_array_equal(next_states[~cold], surrogate.advance(rows[~cold])[0])
    alone = np.vstack([model.advance(row[None])[0] for row in rows[:20]])
    np.testing.assert_array_equal(alone, next_states[:20])


def test_calm_gas_is_integrated_and_alone_as_in_company(surrogate, states, tmp_path):
    """Calm is what changes by less than the limit in units of the label, which is the root of a change."""
    changes = np.abs(torch_outputs(surrogate, states)[:, surrogate.transform.active[1:]]).max(axis=1)
    limit = float(np.median(changes)) ** 2
    surrogate.with_limits(0.0, limit).save(tmp_path / "model.safetensors")
    model = Surrogate.load(tmp_path)
    rows = np.vstack([states, states[:2]])
    rows[-2, 1], rows[-1, 5] = 5e5, np.nan  # refused, calm or not
    next_states, status = model.advance(rows)
    calm = np.append(changes**2 < limit, [False, False])
    assert model.calm_limit == limit and model.integrated == calm.sum() == len(states) // 2
    assert status[-2:].tolist() == [Status.OUTSIDE, Status.INVALID]
    expected, _ = RosenbrockReactor(MECHANISM, 1e-2, 1e-7).advance(rows[calm], 1e-6)
    np.testing.assert_array_equal(next_states[calm], expected)
    np.testing.assert_array_equal(next_states[~calm], surrogate.advance(rows[~calm])[0])
    alone = np.vstack([model.advance(row[None])[0] for row in rows[:20]])
    np.testing.assert_array_equal(alone, next_states[:20])


def torch_outputs(surrogate, states):
    with torch.no_grad():
        return surrogate.network(torch.from_numpy(surrogate.transform.inputs(states))).numpy()


@pytest.mark.parametrize("limits", [(-1.0, 0.0), (0.0, float("nan"))])
def test_limits_that_are_none_are_refused(surrogate, limits):
    with pytest.raises(UsageError, match="begins at 0"):
        surrogate.with_limits(*limits)


def test_a_saved_model_is_loaded_from_its_path_alone_and_gives_the_same_bits(surrogate, states, tmp_path):
    surrogate.save(tmp_path / "model.safetensors")
    for place in (tmp_path / "model.safetensors", tmp_path):
        loaded = Surrogate.load(place)
        np.testing.assert_array_equal(loaded.advance(states)[0], surrogate.advance(states)[0])
    assert loaded.metadata == {"seed": 1} and loaded.dt == 1e-6 and loaded.domain.limits == surrogate.domain.limits
    assert isinstance(loaded.network, torch.nn.Sequential)


def test_a_model_for_a_mechanism_of_cantera_is_loaded_from_its_path_alone_too(tmp_path):
    mechanism = load_mechanism("h2o2.yaml")
    rng = np.random.default_rng(2)
    rows = np.column_stack([rng.uniform(300, 3000, 50), np.full(50, 1e5), rng.dirichlet(np.ones(10), 50)])
    transform = fit_transform(rows, rows[::-1], mechanism)
    network = build(NetConfig(widths=(12, 8, 12)))
    domain = Domain.box(mechanism, T=(250.0, 3100.0), P=(7e4, 3e5))
    Surrogate(network, transform, mechanism, 1e-6, domain).save(tmp_path / "model.safetensors")
    assert Surrogate.load(tmp_path).mechanism.sha256 == mechanism.sha256


def test_another_mechanism_or_time_step_is_refused(surrogate, states, tmp_path):
    surrogate.save(tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match="made for a mechanism named drm19"):
        Surrogate.load(tmp_path, load_mechanism("h2o2.yaml"))
    with pytest.raises(UsageError, match="dt = 1e-06 s"):
        surrogate.advance(states, 2e-6)
    with pytest.raises(UsageError, match=r"\(n, 23\)"):
        surrogate.advance(states[:, :20])


def refused_or_the_same(path, expected, states):
    """A damaged file is refused in a few words, or was damaged where it does not matter."""
    try:
        model = Surrogate.load(path)
    except FileError as error:
        assert path.name in str(error) and len(str(error).splitlines()) <= 3
        return True
    np.testing.assert_array_equal(model.advance(states)[0], expected)
    return False


def test_500_flipped_bytes_and_100_truncations_are_all_noticed(surrogate, states, tmp_path):
    path = tmp_path / "model.safetensors"
    surrogate.save(path)
    content = path.read_bytes()
    expected, _ = surrogate.advance(states[:5])
    rng = np.random.default_rng(3)
    refused = 0
    for position, bits in zip(rng.integers(len(content), size=500), rng.integers(1, 256, size=500), strict=True):
        damaged = bytearray(content)
        damaged[position] ^= int(bits)
        path.write_bytes(damaged)
        refused += refused_or_the_same(path, expected, states[:5])
    assert refused == 500
    for length in np.linspace(0, len(content) - 1, 100).astype(int):
        path.write_bytes(content[:length])
        assert refused_or_the_same(path, expected, states[:5])


def forged(path, **changes):
    """The model file with other entries in its description, and a checksum that fits."""
    with safe_open(path, "pt") as file:
        header = file.metadata()
    tensors = load_file(path)
    description = json.dumps({**json.loads(header["chemnet"]), **changes}, sort_keys=True)
    metadata = {**header, "chemnet": description, "sha256": _digest(description, tensors)}
    save_file(tensors, path, metadata=metadata)
    return path


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"dt": -1e-6}, "time step"),
        ({"dt": float("nan")}, "time step"),
        ({"dt": "soon"}, "could not convert"),
        ({"network": {"widths": [23, 10**9, 23]}}, "do not fit"),
        ({"network": {"widths": [23, 48, 32, 23], "activation": "exec"}}, "holds no model"),
        ({"network": {"widths": [23, 0, 23]}}, "holds no model"),
        ({"transform": {}}, "label|input_mean"),
        ({"domain": {}}, "low"),
        ({"domain": {"T": [300.0, 200.0], "P": [1e5, 2e5]}}, "no range"),
        ({"domain": None}, "holds no model"),
        ({"metadata": 3}, "holds no model"),
        ({"engine": "fp8"}, "no engine fp8"),
        ({"cold_limit": -1.0}, "a limit of -1"),
        ({"calm_limit": float("inf")}, "a limit of inf"),
        ({"cold_limit": "low"}, "could not convert"),
        ({"mechanism": ["drm19"]}, "no mechanism"),
    ],
)
def test_a_forged_description_is_refused(surrogate, tmp_path, changes, message):
    path = tmp_path / "model.safetensors"
    surrogate.save(path)
    with pytest.raises((FileError, UsageError), match=message) as caught:
        Surrogate.load(forged(path, **changes))
    assert len(str(caught.value).splitlines()) <= 3


def test_weights_and_numbers_that_are_not_finite_are_refused(surrogate, tmp_path):
    path = tmp_path / "model.safetensors"
    surrogate.save(path)
    transform = surrogate.transform.as_dict()
    with pytest.raises(FileError, match="not finite"):
        Surrogate.load(forged(path, transform={**transform, "input_gain": [float("inf")] * 23}))
    with pytest.raises(FileError, match="columns"):
        Surrogate.load(forged(path, transform={**transform, "input_gain": [1.0] * 22}))
    network = build(NetConfig(widths=(23, 8, 23)))
    network[0].weight.data[0, 0] = float("nan")
    surrogate.with_network(network).save(path)
    with pytest.raises(FileError, match="no numbers"):
        Surrogate.load(path)


def test_a_file_of_a_newer_chemnet_and_one_of_the_first_format_are_told_apart(surrogate, states, tmp_path):
    path = tmp_path / "model.safetensors"
    surrogate.save(path)
    with safe_open(path, "pt") as file:
        header = file.metadata()
    tensors = load_file(path)
    save_file(tensors, path, metadata={**header, "format": "chemnet-model-17"})
    with pytest.raises(FileError, match="written by a newer chemnet"):
        Surrogate.load(path)
    limits = {name: list(values) for name, values in surrogate.domain.limits.items()}
    description = {**json.loads(header["chemnet"]), "domain": limits}
    del description["engine"], description["cold_limit"], description["calm_limit"]
    text = json.dumps(description, sort_keys=True)
    first = {"format": "chemnet-model-1", "chemnet": text, "sha256": _digest(text, tensors)}
    save_file(tensors, path, metadata=first)
    np.testing.assert_array_equal(Surrogate.load(path).advance(states)[0], surrogate.advance(states)[0])


def test_what_is_no_model_is_refused_and_a_pickle_runs_nothing(surrogate, tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was run",))

    (tmp_path / "trap.safetensors").write_bytes(pickle.dumps(Trap()))
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    surrogate.save(tmp_path / "whole.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-7])
    for name in ("trap", "other", "cut", "nowhere"):
        with pytest.raises(FileError) as caught:
            Surrogate.load(tmp_path / f"{name}.safetensors")
        assert name in str(caught.value) and len(str(caught.value).splitlines()) <= 3


def test_weights_that_were_exchanged_for_others_are_noticed(surrogate, tmp_path):
    path = tmp_path / "model.safetensors"
    surrogate.save(path)
    with safe_open(path, "pt") as file:
        header = file.metadata()
    tensors = load_file(path)
    tensors["0.weight"][0, 0] += 1.0
    save_file(tensors, path, metadata=header)
    with pytest.raises(FileError, match="checksum"):
        Surrogate.load(path)
    assert json.loads(header["chemnet"])["dt"] == 1e-6
