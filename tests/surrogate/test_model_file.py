"""The file of a model: the same bits from every format, and nothing from what is damaged, forged or no model."""

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_model import save_tiny_model

from chemnet.gas.mechanism import load_mechanism
from chemnet.runtime.errors import FileError, UsageError
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.model_file import checksum, fingerprint
from chemnet.surrogate.network import NetConfig, build


def test_a_saved_model_is_loaded_from_its_path_alone_and_gives_the_same_bits(surrogate, states, tmp_path):
    surrogate.save(tmp_path / "model.safetensors")
    for place in (tmp_path / "model.safetensors", tmp_path):
        loaded = Surrogate.load(place)
        np.testing.assert_array_equal(loaded.advance(states)[0], surrogate.advance(states)[0])
    assert loaded.metadata == {"seed": 1} and loaded.dt == 1e-6 and loaded.domain.limits == surrogate.domain.limits
    assert isinstance(loaded.network, torch.nn.Sequential)


def test_a_model_for_a_mechanism_of_cantera_is_loaded_from_its_path_alone_too(tmp_path):
    model = Surrogate.load(save_tiny_model(tmp_path / "model.safetensors", 1e-6, "h2o2.yaml"))
    assert model.mechanism.sha256 == load_mechanism("h2o2.yaml").sha256


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


def rewritten(path, number, **changes):
    """The model file in another format, with other entries in its description, and without those of None."""
    with safe_open(path, "pt") as file:
        description = {**json.loads(file.metadata()["chemnet"]), **changes}
    text = json.dumps({name: value for name, value in description.items() if value is not None}, sort_keys=True)
    tensors = load_file(path)
    header = {"format": f"chemnet-model-{number}", "chemnet": text, "sha256": checksum(text, tensors)}
    save_file(tensors, path, metadata=header)
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
        ({"domain": 3}, "holds no model"),
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
        Surrogate.load(rewritten(path, 4, **changes))
    assert len(str(caught.value).splitlines()) <= 3


def test_weights_and_numbers_that_are_not_finite_are_refused(surrogate, tmp_path):
    path = tmp_path / "model.safetensors"
    surrogate.save(path)
    transform = surrogate.transform.as_dict()
    with pytest.raises(FileError, match="not finite"):
        Surrogate.load(rewritten(path, 4, transform={**transform, "input_gain": [float("inf")] * 23}))
    with pytest.raises(FileError, match="columns"):
        Surrogate.load(rewritten(path, 4, transform={**transform, "input_gain": [1.0] * 22}))
    network = build(NetConfig(widths=(23, 8, 23)))
    network[0].weight.data[0, 0] = float("nan")
    surrogate.with_network(network).save(path)
    with pytest.raises(FileError, match="no numbers"):
        Surrogate.load(path)


def test_a_file_of_a_newer_chemnet_is_refused(surrogate, tmp_path):
    surrogate.save(tmp_path / "model.safetensors")
    with pytest.raises(FileError, match="written by a newer chemnet"):
        Surrogate.load(rewritten(tmp_path / "model.safetensors", 17))


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6])
def test_files_of_every_format_so_far_give_the_same_bits(surrogate, states, tmp_path, number):
    """The first had ranges of T and P as its domain, the first two no engine, the first three no limits; the fifth may
    say that calm gas is integrated first."""
    surrogate.save(tmp_path / "model.safetensors")
    limits = {name: list(values) for name, values in surrogate.domain.limits.items()}
    later = {"domain": 1, "engine": 2, "cold_limit": 3, "calm_limit": 3, "calm_first": 4}
    changes = {name: limits if name == "domain" else None for name, last in later.items() if number <= last}
    model = Surrogate.load(rewritten(tmp_path / "model.safetensors", number, **changes))
    assert (model.engine, model.cold_limit, model.calm_limit) == ("fp32", 0.0, 0.0)
    np.testing.assert_array_equal(model.advance(states)[0], surrogate.advance(states)[0])


def test_the_fingerprint_is_that_of_the_content_and_not_of_the_order_in_the_file(surrogate, tmp_path):
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for path, calm_first in zip(paths, (None, None, "widest"), strict=True):
        surrogate.with_calm_first(calm_first).save(path)
    first, same, other = map(fingerprint, paths)
    assert first == same != other
    (tmp_path / "text").write_text("no model")
    with pytest.raises(FileError, match="is no model file of chemnet"):
        fingerprint(tmp_path / "text")


@pytest.mark.parametrize("calm_first", [None, "never", "usual", "widest"])
def test_which_step_takes_calm_gas_is_kept(surrogate, tmp_path, calm_first):
    surrogate.with_calm_first(calm_first).save(tmp_path / "model.safetensors")
    assert Surrogate.load(tmp_path / "model.safetensors").calm_first == calm_first


@pytest.mark.parametrize(("kept", "calm_first"), [(None, None), (False, "never"), (True, "usual")])
def test_what_a_file_of_the_fifth_format_says_of_calm_gas_is_understood(surrogate, tmp_path, kept, calm_first):
    surrogate.save(tmp_path / "model.safetensors")
    model = Surrogate.load(rewritten(tmp_path / "model.safetensors", 5, calm_first=kept))
    assert model.calm_first == calm_first


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
