"""Condensing dense layers: exact where it must be, and a refit never makes the calibration states worse."""

import contextlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from torch import nn

from chemnet.condensation.dense import condense_all, condense_layer
from chemnet.condensation.selection import refit, representing_columns, spanning_columns
from chemnet.runtime.errors import NumericalError, UsageError
from chemnet.surrogate.network import NetConfig, build, count, describe


def random_network(widths, activation="relu", seed=0):
    return build(NetConfig(widths=widths, activation=activation), seed=seed).double()


def inputs(n, m, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, m)))


def output(network, x):
    with torch.no_grad():
        return network(x).numpy()


def copy_neurons(network, layer, sources, scales):
    """Overwrite the last neurons of a hidden layer by scaled copies of `sources`, bias included."""
    linear = network[2 * (layer - 1)]
    with torch.no_grad():
        for i, (source, scale) in enumerate(zip(sources, scales, strict=True), start=1):
            linear.weight[-i] = scale * linear.weight[source]
            linear.bias[-i] = scale * linear.bias[source]


def next_layer_error(original, reduced, layer, x):
    """Mean square difference of what the layer after hidden layer `layer` receives."""
    stop = 2 * layer + 1
    return float(np.mean((output(original[:stop], x) - output(reduced[:stop], x)) ** 2))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(0, 3), st.floats(0.05, 20.0)), min_size=1, max_size=6),
    st.integers(0, 1000),
)
def test_merging_parallel_relu_neurons_keeps_the_output(layer, copies, seed):
    network = random_network((5, 12, 11, 10, 3), seed=seed)
    copy_neurons(network, layer, [source for source, _ in copies], [scale for _, scale in copies])
    reduced = condense_layer(network, layer, threshold=1.0)
    expected = describe(network).widths[layer] - len(copies)
    x = inputs(50, 5, seed)
    assert describe(reduced).widths[layer] == expected
    assert_allclose(output(reduced, x), output(network, x), rtol=1e-12, atol=1e-13)


def test_without_the_bias_in_the_vector_parallel_weights_with_another_bias_are_merged_and_change_the_output():
    network = random_network((4, 8, 2))
    copy_neurons(network, 1, [0], [1.0])
    with torch.no_grad():
        network[0].bias[-1] += 1.0
    assert describe(condense_layer(network, 1, threshold=0.99999)).widths[1] == 8
    merged = condense_layer(network, 1, threshold=0.99999, include_bias=False)
    assert describe(merged).widths[1] == 7
    assert np.abs(output(merged, inputs(20, 4)) - output(network, inputs(20, 4))).max() > 1e-3


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh"])
def test_equal_neurons_are_merged_exactly_for_every_activation(activation):
    network = random_network((5, 12, 9, 3), activation)
    copy_neurons(network, 2, [0, 1, 1], [1.0, 1.0, 1.0])
    reduced = condense_layer(network, 2, width=6)
    assert_allclose(output(reduced, inputs(40, 5)), output(network, inputs(40, 5)), rtol=1e-12, atol=1e-14)


def test_the_main_row_stays_and_the_columns_add_with_the_ratio_of_norms():
    network = random_network((2, 3, 1))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 1.0], [6.1, 0.1]], dtype=torch.float64))
        network[0].bias.copy_(torch.tensor([4.0, 0.0, 8.0]))
    reduced = condense_layer(network, 1, threshold=0.99)
    u = network[2].weight[0].tolist()
    ratio = np.sqrt(6.1**2 + 0.1**2 + 8.0**2) / 5.0
    assert reduced[0].weight.tolist() == [[3.0, 0.0], [0.0, 1.0]]
    assert reduced[0].bias.tolist() == [4.0, 0.0]
    assert_allclose(reduced[2].weight[0].tolist(), [u[0] + ratio * u[2], u[1]], rtol=1e-14, atol=0)


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh"])
@pytest.mark.parametrize("bias", [0.0, 0.7])
def test_a_neuron_without_incoming_weights_is_dropped_into_the_next_bias(activation, bias):
    network = random_network((5, 8, 3), activation)
    with torch.no_grad():
        network[0].weight[2] = 0.0
        network[0].bias[2] = bias
    reduced = condense_layer(network, 1, threshold=1.0)
    assert describe(reduced).widths == (5, 7, 3)
    assert_allclose(output(reduced, inputs(30, 5)), output(network, inputs(30, 5)), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("width", [4, 16, 30])
def test_refit_is_never_worse_than_the_papers_rule_on_the_calibration_states(activation, layer, width):
    network, x = random_network((6, 40, 36, 4), activation), inputs(300, 6)
    with contextlib.nullcontext() if activation == "relu" else pytest.warns(UserWarning, match="exact"):
        paper = condense_layer(network, layer, width=width)
    mended = condense_layer(network, layer, width=width, merge="refit", calibration=x)
    before, after = next_layer_error(network, paper, layer, x), next_layer_error(network, mended, layer, x)
    assert describe(paper).widths == describe(mended).widths
    assert after <= before
    unseen = inputs(300, 6, seed=9)
    assert next_layer_error(network, mended, layer, unseen) < next_layer_error(network, paper, layer, unseen)


def test_refit_keeps_what_is_exact():
    network = random_network((5, 12, 4))
    copy_neurons(network, 1, [0, 1], [0.5, 3.0])
    reduced = condense_layer(network, 1, threshold=1.0, merge="refit", calibration=inputs(100, 5))
    assert_allclose(output(reduced, inputs(9, 5, 1)), output(network, inputs(9, 5, 1)), rtol=1e-12, atol=1e-13)


def test_refit_solves_the_penalised_least_squares_problem():
    rng = np.random.default_rng(0)
    a, w, b = rng.normal(size=(50, 4)) + 1.0, rng.normal(size=(3, 4)), rng.normal(size=3)
    target, ridge = rng.normal(size=(50, 3)), 0.1
    weights, bias = refit(a, target, w, b, ridge)
    centred = a - a.mean(axis=0)
    penalty = np.sqrt(ridge * (centred**2).sum(axis=0).mean())
    rows = np.block([[a, np.ones((50, 1))], [penalty * np.eye(4), np.zeros((4, 1))]])
    right = np.concatenate([target - a @ w.T, np.zeros((4, 3))])
    expected = np.linalg.lstsq(rows, right, rcond=None)[0]
    assert_allclose(weights - w, expected[:4].T, rtol=1e-10, atol=1e-12)
    assert_allclose(bias, expected[4], rtol=1e-10, atol=1e-12)


def test_refit_without_bias_and_refit_of_silent_neurons():
    a, target = np.random.default_rng(1).normal(size=(30, 2)), np.ones((30, 1))
    weights, bias = refit(a, target, np.zeros((1, 2)), None, 1e-10)
    assert bias is None
    assert_allclose(weights[0], np.linalg.lstsq(a, target[:, 0], rcond=None)[0], rtol=1e-6, atol=1e-9)
    weights, bias = refit(np.zeros((30, 2)), target, np.ones((1, 2)), np.zeros(1), 1e-6)
    assert weights.tolist() == [[1.0, 1.0]]
    assert_allclose(bias, [1.0], rtol=1e-15, atol=0)


def test_qr_keeps_neurons_that_span_the_layer():
    rng = np.random.default_rng(2)
    basis = rng.normal(size=(100, 3))
    columns = np.column_stack([0.01 * basis @ rng.normal(size=(3, 5)), basis])
    assert sorted(spanning_columns(columns, 3)) == [5, 6, 7]


def unexplained(columns, target):
    """Squared residual of the best representation of `target` by `columns` and a constant."""
    a = np.column_stack([columns, np.ones(len(target))])
    return float(((target - a @ np.linalg.lstsq(a, target, rcond=None)[0]) ** 2).sum())


@pytest.mark.parametrize("seed", range(5))
def test_forward_selection_takes_the_neuron_that_explains_most_each_time(seed):
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(60, 12)) @ rng.normal(size=(12, 12)) + 3.0
    target = columns @ rng.normal(size=(12, 4)) + rng.normal(size=(60, 4))
    expected: list[int] = []
    for _ in range(7):
        left = {k: unexplained(columns[:, [*expected, k]], target) for k in range(12) if k not in expected}
        expected.append(min(left, key=left.__getitem__))
    assert representing_columns(columns, target, 7).tolist() == expected


def test_forward_selection_takes_no_neuron_that_another_one_stands_for():
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(50, 3))
    columns = np.column_stack([basis, 2.0 * basis, np.zeros((50, 2))])
    chosen = representing_columns(columns, basis @ rng.normal(size=(3, 6)), 3)
    assert sorted(chosen % 3) == [0, 1, 2]


def test_forward_selection_leaves_less_error_than_qr_where_the_next_layer_does_not_need_all_neurons():
    network, x = random_network((6, 64, 8, 3), "gelu"), inputs(1000, 6)
    reduced = {
        c: condense_layer(network, 1, width=16, choice=c, merge="refit", calibration=x) for c in ("qr", "forward")
    }
    errors = {choice: next_layer_error(network, one, 1, x) for choice, one in reduced.items()}
    assert errors["forward"] < 0.9 * errors["qr"]


def test_qr_with_refit_reproduces_a_layer_that_repeats_itself():
    network = random_network((5, 12, 8, 3), "gelu")
    copy_neurons(network, 1, [0, 1, 2, 3], [1.0, 1.0, 1.0, 1.0])
    x = inputs(200, 5)
    reduced = condense_layer(network, 1, width=8, choice="qr", merge="refit", calibration=x, ridge=1e-14)
    assert_allclose(output(reduced, x), output(network, x), rtol=1e-6, atol=1e-8)


def test_all_layers_in_one_go_have_the_widths_asked_for_and_little_error():
    network, x = random_network((6, 64, 48, 32, 4), "gelu"), inputs(2000, 6)
    for choice in ("cosine", "qr", "forward"):
        reduced = condense_all(network, (40, 40, 30), choice=choice, merge="refit", calibration=x)
        assert describe(reduced).widths == (6, 40, 40, 30, 4)
        error = output(reduced, x) - output(network, x)
        assert np.sqrt(np.mean(error**2)) < 0.05 * output(network, x).std()


def test_later_layers_mend_what_earlier_cuts_have_broken():
    network, x = random_network((6, 64, 64, 64, 4), "gelu"), inputs(1000, 6)
    options = {"merge": "refit", "calibration": x}
    together = condense_all(network, (24, 24, 24), **options)
    one_by_one = network
    for layer in (1, 2, 3):
        one_by_one = condense_layer(one_by_one, layer, width=24, **options)
    assert next_layer_error(network, together, 3, x) < next_layer_error(network, one_by_one, 3, x)


def test_the_papers_widths_give_the_counts_of_table_1():
    network = build(NetConfig(widths=(23, 3200, 1600, 800, 400, 23), activation="relu"), seed=0)
    counts = [count(network, biases=False)]
    for layer, width in ((1, 2205), (1, 1105), (2, 1309)):
        network = condense_layer(network, layer, width=width)
        counts.append(count(network, biases=False))
    assert counts == [6_802_800, 5_187_915, 3_402_615, 2_848_260]


def test_the_network_given_is_not_changed_and_dtype_and_random_state_stay():
    network, x = random_network((4, 9, 7, 2)).float(), inputs(50, 4).float()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = torch.random.get_rng_state()
    reduced = condense_layer(network, 1, width=5, merge="refit", calibration=x)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert {parameter.dtype for parameter in reduced.parameters()} == {torch.float32}
    assert reduced[2].weight.data_ptr() != network[2].weight.data_ptr()
    assert all(parameter.requires_grad for parameter in reduced.parameters())


def test_the_same_network_gives_the_same_result_twice():
    network = random_network((4, 30, 20, 2))
    copy_neurons(network, 1, [0, 1, 2, 3], [1.0, 1.0, 2.0, 2.0])
    first, second = (condense_all(network, (11, 9)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_strangers_sequential_is_condensed_too():
    class Sine(nn.Module):
        def forward(self, x):
            return torch.sin(x)

    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(4, 9, bias=False),
        Sine(),
        nn.Linear(9, 8, bias=False),
        nn.LeakyReLU(),
        nn.Linear(8, 2),
        nn.Tanh(),
    ).double()
    with torch.no_grad():
        network[0].weight[3] = network[0].weight[1]
        network[2].weight[5] = 2.5 * network[2].weight[0]
    reduced = condense_layer(condense_layer(network, 1, threshold=1.0), 2, threshold=1.0)
    assert [reduced[i].out_features for i in (0, 2, 4)] == [8, 7, 2]
    assert reduced[0].bias is None and reduced[2].bias is None
    assert_allclose(output(reduced, inputs(20, 4)), output(network, inputs(20, 4)), rtol=1e-12, atol=1e-14)


def test_a_constant_neuron_gives_a_bias_to_a_next_layer_that_has_none():
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2, bias=False)).double()
    with torch.no_grad():
        network[0].weight[1] = 0.0
    reduced = condense_layer(network, 1, threshold=1.0)
    assert reduced[2].bias is not None
    assert_allclose(output(reduced, inputs(20, 3)), output(network, inputs(20, 3)), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": 3, "width": 2}, "layer 3: the network has hidden layers 1 to 2"),
        ({"layer": 0, "width": 2}, "layer"),
        ({"layer": 1, "width": 9}, "layer 1: width 9 of 8 neurons"),
        ({"layer": 1}, "one of threshold, width and loss_increase"),
        ({"layer": 1, "width": 2, "threshold": 0.5}, "one of threshold, width and loss_increase"),
        ({"layer": 1, "threshold": 1.5}, "threshold"),
        ({"layer": 1, "threshold": 0.0}, "threshold"),
        ({"layer": 1, "loss_increase": -0.1}, "loss_increase"),
        ({"layer": 1, "loss_increase": 0.1}, "needs the loss"),
        ({"layer": 1, "width": 6, "round_to": 4}, "width 6 is no multiple of round_to 4"),
        ({"layer": 1, "width": 2, "choice": "magic"}, "choice"),
        ({"layer": 1, "width": 2, "merg": "paper"}, "did you mean merge"),
        ({"layer": 1, "width": 2, "choice": "qr"}, "use merge: refit"),
        ({"layer": 1, "width": 2, "merge": "refit"}, "needs calibration states"),
        ({"layer": 1, "threshold": 0.5, "choice": "qr", "merge": "refit"}, "choice qr needs a width"),
    ],
)
def test_a_wrong_request_says_what_is_wrong(options, message):
    with pytest.raises(UsageError, match=message) as error:
        condense_layer(random_network((3, 8, 6, 2)), **options)
    assert len(str(error.value).splitlines()) <= 3


@pytest.mark.parametrize(
    "network",
    [
        nn.Linear(3, 2),
        nn.Sequential(nn.Linear(3, 2)),
        nn.Sequential(nn.Linear(3, 4), nn.Softmax(dim=1), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(3, 4), nn.PReLU(4), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(3, 4), nn.Flatten(0), nn.Linear(4, 2)),
    ],
)
def test_a_network_that_cannot_be_condensed_is_refused(network):
    with pytest.raises(UsageError, match="cannot condense"):
        condense_layer(network, 1, width=1)


def test_the_module_that_is_in_the_way_is_named():
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.LayerNorm(4), nn.Linear(4, 2))
    with pytest.raises(UsageError, match="module 2, LayerNorm"):
        condense_layer(network, 1, width=1)


def test_layers_that_share_their_weights_are_named():
    first, middle = nn.Linear(3, 4), nn.Linear(4, 4)
    network = nn.Sequential(first, nn.ReLU(), middle, nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    network[4].weight = middle.weight
    for shared in (network, nn.Sequential(first, nn.ReLU(), middle, nn.ReLU(), middle)):
        with pytest.raises(UsageError, match="modules 2 and 4 share their weights"):
            condense_layer(shared, 1, width=2)


def test_weights_or_states_that_are_not_finite_are_refused():
    network = random_network((3, 5, 2))
    with pytest.raises(NumericalError, match="calibration"):
        condense_layer(network, 1, width=2, merge="refit", calibration=torch.full((5, 3), torch.nan))
    with torch.no_grad():
        network[2].weight[0, 0] = torch.inf
    with pytest.raises(NumericalError, match="not all finite"):
        condense_layer(network, 1, width=2)


def test_the_number_of_widths_must_be_the_number_of_hidden_layers():
    with pytest.raises(UsageError, match="1 widths for a network with 2 hidden layers"):
        condense_all(random_network((3, 8, 6, 2)), [4])


def squared_change(network, x):
    """A loss that is zero for `network` itself, plus one."""
    expected = network(x).detach()

    def loss(other):
        with torch.no_grad():
            return 1.0 + float(((other(x) - expected) ** 2).mean())

    return loss


@pytest.mark.parametrize(("choice", "round_to"), [("cosine", 1), ("qr", 1), ("forward", 1), ("forward", 8)])
def test_a_permitted_loss_increase_finds_the_smallest_width_that_keeps_it(choice, round_to):
    network, x = random_network((5, 40, 20, 3), "gelu"), inputs(500, 5)
    loss, rule = squared_change(network, x), {"choice": choice, "merge": "refit", "calibration": x}
    reduced = condense_layer(network, 1, loss_increase=1e-4, loss=loss, round_to=round_to, **rule)
    width = describe(reduced).widths[1]
    assert round_to <= width < 40 and width % round_to == 0
    assert loss(reduced) <= 1.0001
    assert loss(condense_layer(network, 1, width=width - round_to, **rule)) > 1.0001


def test_a_layer_that_can_lose_nothing_keeps_its_width():
    network, x = random_network((5, 8, 6, 3)), inputs(200, 5)
    loss = squared_change(network, x)
    reduced = condense_layer(network, 2, loss_increase=0.0, loss=loss, choice="qr", merge="refit", calibration=x)
    assert describe(reduced).widths == (5, 8, 6, 3)


def test_the_width_of_a_threshold_is_rounded_up_but_not_beyond_the_layer():
    network = random_network((5, 21, 7, 3))
    copy_neurons(network, 1, [0, 1, 2, 3, 4, 5, 6], [1.0] * 7)
    assert describe(condense_layer(network, 1, threshold=1.0)).widths[1] == 14
    assert describe(condense_layer(network, 1, threshold=1.0, round_to=4)).widths[1] == 16
    assert describe(condense_layer(network, 1, threshold=1.0, round_to=32)).widths[1] == 21


def test_merging_through_an_activation_that_is_not_homogeneous_warns_with_the_change_it_made():
    network, x = random_network((4, 10, 3), "gelu"), inputs(100, 4)
    with pytest.warns(UserWarning, match="changed the outputs by .* % on the calibration states") as caught:
        reduced = condense_layer(network, 1, width=5, calibration=x)
    change = np.abs(output(reduced, x) - output(network, x)).mean() / np.abs(output(network, x)).mean()
    assert f"by {100 * change:.2g} %" in str(caught[0].message)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="normally distributed inputs"):
        condense_all(network, [5])
