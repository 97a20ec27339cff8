"""Choices, merges and measures on fully connected networks: exact where it must be, and a refit mends what it can."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

import chemnet.condensation
from chemnet.condensation import Cosine, Ranked, condense
from chemnet.surrogate.network import NetConfig, build, count, describe

COSINE = {"choice": "cosine", "merge": "paper"}


def random_network(widths, activation="relu", seed=0):
    return build(NetConfig(widths=widths, activation=activation), seed=seed).double()


def inputs(n, m, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, m)))


def output(network, x):
    with torch.no_grad():
        return network(x).numpy()


def assert_same_outputs(reduced, network, m, seed=3):
    x = inputs(30, m, seed)
    assert_allclose(output(reduced, x), output(network, x), rtol=1e-12, atol=1e-13)


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


# ---- cosine and the paper's merge


def test_the_main_row_stays_and_the_columns_add_with_the_ratio_of_norms():
    network = random_network((2, 3, 1))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 1.0], [6.1, 0.1]], dtype=torch.float64))
        network[0].bias.copy_(torch.tensor([4.0, 0.0, 8.0]))
    reduced = condense(network, inputs(1, 2), threshold=0.99, **COSINE)
    u = network[2].weight[0].tolist()
    ratio = np.sqrt(6.1**2 + 0.1**2 + 8.0**2) / 5.0
    assert reduced[0].weight.tolist() == [[3.0, 0.0], [0.0, 1.0]]
    assert reduced[0].bias.tolist() == [4.0, 0.0]
    assert_allclose(reduced[2].weight[0].tolist(), [u[0] + ratio * u[2], u[1]], rtol=1e-14, atol=0)


def test_without_the_bias_in_the_vector_parallel_weights_with_another_bias_are_merged_and_change_the_output():
    network, x = random_network((4, 8, 2)), inputs(20, 4)
    copy_neurons(network, 1, [0], [1.0])
    with torch.no_grad():
        network[0].bias[-1] += 1.0
    assert condense(network, x, threshold=0.99999, **COSINE)[0].out_features == 8
    merged = condense(network, x, threshold=0.99999, choice=Cosine(include_bias=False))
    assert merged[0].out_features == 7
    assert np.abs(output(merged, x) - output(network, x)).max() > 1e-3


def test_merging_through_an_activation_that_is_not_homogeneous_warns_with_the_change_it_made():
    network, x = random_network((4, 10, 3), "gelu"), inputs(100, 4)
    with pytest.warns(UserWarning, match="changed the outputs by .* % on the calibration inputs") as caught:
        reduced = condense(network, x[:1], widths=5, calibration=x, **COSINE)
    change = np.abs(output(reduced, x) - output(network, x)).mean() / np.abs(output(network, x)).mean()
    assert f"by {100 * change:.2g} %" in str(caught[0].message)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="inputs drawn in the scale of the example"):
        condense(network, x[:1], widths=5, **COSINE)
    condense(network, x[:1], widths=5, choice="folded")  # which looks at the activations


@pytest.mark.filterwarnings("ignore:merging by the paper's rule")
@pytest.mark.parametrize(("choice", "left"), [("cosine", 8), ("folded", 10)])
def test_cosine_merges_parallel_neurons_in_front_of_any_activation_and_folded_only_where_it_is_exact(choice, left):
    network = random_network((4, 10, 3), "gelu")
    copy_neurons(network, 1, [0, 1], [3.0, 0.3])
    assert condense(network, inputs(1, 4), threshold=1.0, choice=choice)[0].out_features == left


def test_a_network_of_an_unknown_activation_without_biases_is_condensed_too():
    class Sine(nn.Module):
        def forward(self, x):
            return torch.sin(x)

    torch.manual_seed(0)
    layers = nn.Linear(4, 9, bias=False), Sine(), nn.Linear(9, 8, bias=False), nn.LeakyReLU(), nn.Linear(8, 2), Sine()
    network = nn.Sequential(*layers).double()
    with torch.no_grad():
        network[0].weight[3] = network[0].weight[1]
        network[2].weight[5] = 2.5 * network[2].weight[0]
    reduced = condense(network, inputs(1, 4), threshold=1.0, **COSINE)
    assert [reduced[i].out_features for i in (0, 2, 4)] == [8, 7, 2]
    assert reduced[0].bias is None and reduced[2].bias is None
    assert_same_outputs(reduced, network, 4)


# ---- constants


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh"])
@pytest.mark.parametrize("bias", [0.0, 0.7])
@pytest.mark.parametrize("merge", ["paper", "refit"])
def test_a_neuron_without_incoming_weights_is_dropped_into_the_next_bias(activation, bias, merge):
    network = random_network((5, 8, 3), activation)
    with torch.no_grad():
        network[0].weight[2] = 0.0
        network[0].bias[2] = bias
    calibration = inputs(50, 5) if merge == "refit" else None
    for choice in ("cosine", "folded"):
        options = {"choice": choice, "merge": merge, "calibration": calibration}
        reduced = condense(network, inputs(1, 5), threshold=1.0, **options)
        assert describe(reduced).widths == (5, 7, 3)
        assert_same_outputs(reduced, network, 5)
        assert describe(condense(network, inputs(1, 5), widths=8, **options)).widths == (5, 8, 3)


@pytest.mark.parametrize("merge", ["paper", "refit"])
def test_a_constant_neuron_gives_a_bias_to_a_next_layer_that_has_none(merge):
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2, bias=False)).double()
    with torch.no_grad():
        network[0].weight[1] = 0.0
    calibration = inputs(50, 3) if merge == "refit" else None
    reduced = condense(network, inputs(1, 3), threshold=1.0, merge=merge, calibration=calibration)
    assert reduced[0].out_features == 3 and reduced[2].bias is not None
    assert_same_outputs(reduced, network, 3)
    rebuilt = chemnet.condensation.resize(network, reduced.state_dict())
    assert_same_outputs(rebuilt, reduced, 3)


@pytest.mark.parametrize(
    ("reader", "left"),
    [
        (nn.Conv2d(4, 5, 3), 3),
        (nn.Conv2d(4, 5, 3, padding=1), 4),
        (nn.Conv2d(4, 5, 3, padding=1, padding_mode="reflect"), 3),
        (nn.Conv2d(4, 5, 3, bias=False), 4),
        (nn.ConvTranspose2d(4, 5, 3), 4),
        (nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(), nn.Conv2d(4, 5, 1)), 3),
        (nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Sigmoid(), nn.Conv2d(4, 5, 1)), 4),
    ],
)
def test_a_constant_channel_goes_where_its_readers_take_it_up_at_every_place(reader, left):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sigmoid(), reader).double().eval()
    with torch.no_grad():
        model[0].weight[1] = 0.0
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    reduced = condense(model, x, threshold=1.0)
    assert reduced[0].out_channels == left
    assert_allclose(output(reduced, x), output(model, x), rtol=1e-12, atol=1e-13)


# ---- refit


@pytest.mark.parametrize("bias", [True, False])
def test_refit_solves_the_penalised_least_squares_problem(bias):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 3, bias=bias)).double()
    x, ridge = inputs(50, 4), 0.1
    order = np.array([2, 3, 5, 7, 11])
    options = {"choice": lambda view: Ranked(lambda count: order[:count]), "merge": "refit", "ridge": ridge}
    reduced = condense(network, x[:1], widths=5, calibration=x, **options)
    every, target = output(network[:2], x), output(network, x)
    a, start = every[:, order], network[2].weight.detach().numpy()[:, order].T
    centred = a - a.mean(axis=0) * bias
    penalty = np.sqrt(ridge * (centred**2).sum(axis=0).mean())
    rows = np.block([[a, bias * np.ones((50, 1))], [penalty * np.eye(5), np.zeros((5, 1))]])
    expected = np.linalg.lstsq(rows, np.concatenate([target - a @ start, np.zeros((5, 3))]), rcond=None)[0]
    assert_allclose(reduced[2].weight.detach().numpy(), (start + expected[:5]).T, rtol=1e-9, atol=1e-11)
    if bias:
        assert_allclose(reduced[2].bias.detach().numpy(), expected[5], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize(("layer", "width"), [(1, 4), (1, 16), (2, 30)])
@pytest.mark.filterwarnings("ignore:merging by the paper's rule")
def test_refit_is_never_worse_than_the_papers_rule(activation, layer, width):
    network, x, unseen = random_network((6, 40, 36, 4), activation), inputs(300, 6), inputs(300, 6, seed=9)
    options = {"widths": {str(2 * layer - 2): width}, "choice": "cosine", "calibration": x}
    paper, mended = (condense(network, x, merge=merge, **options) for merge in ("paper", "refit"))
    assert describe(paper).widths == describe(mended).widths
    for states in (x, unseen):
        assert next_layer_error(network, mended, layer, states) < next_layer_error(network, paper, layer, states)


def test_later_layers_correct_the_errors_of_earlier_cuts():
    network, x = random_network((6, 64, 64, 64, 4), "gelu"), inputs(1000, 6)
    options = {"choice": "cosine", "calibration": x}
    together = condense(network, x[:1], widths=24, **options)
    one_by_one = network
    for layer in ("0", "2", "4"):
        one_by_one = condense(one_by_one, x[:1], widths=24, layers=layer, **options)
    assert next_layer_error(network, together, 3, x) < next_layer_error(network, one_by_one, 3, x)


# ---- rankings


def test_forward_selection_leaves_less_error_than_qr_where_the_next_layer_does_not_need_all_neurons():
    network, x = random_network((6, 64, 8, 3), "gelu"), inputs(1000, 6)
    errors = {}
    for choice in ("qr", "forward"):
        reduced = condense(network, x[:1], widths={"0": 16}, choice=choice, calibration=x)
        errors[choice] = next_layer_error(network, reduced, 1, x)
    assert errors["forward"] < 0.9 * errors["qr"]


def test_qr_with_refit_reproduces_a_layer_that_repeats_itself():
    network, x = random_network((5, 12, 8, 3), "gelu"), inputs(200, 5)
    copy_neurons(network, 1, [0, 1, 2, 3], [1.0, 1.0, 1.0, 1.0])
    reduced = condense(network, x[:1], widths={"0": 8}, choice="qr", calibration=x, ridge=1e-14)
    assert_allclose(output(reduced, x), output(network, x), rtol=1e-6, atol=1e-8)


def test_the_choice_of_the_page_runs_and_keeps_what_it_says():
    page = (Path(chemnet.condensation.__file__).parent / "README.md").read_text()
    names: dict[str, object] = {}
    exec(re.search(r"```python\n([^`]*def largest_weights.*?)```", page, re.DOTALL)[1], names)
    network, smaller = names["network"], names["smaller"]
    kept = network[0].weight.norm(dim=1).argsort(descending=True)[: smaller[0].out_features].sort()[0]
    assert torch.equal(smaller[0].weight, network[0].weight[kept])


# ---- measures


def test_all_layers_in_one_go_have_the_widths_asked_for_and_little_error():
    network, x = random_network((6, 64, 48, 32, 4), "gelu"), inputs(2000, 6)
    for choice in ("cosine", "qr", "forward"):
        reduced = condense(network, x[:1], widths={"0": 40, "2": 40, "4": 30}, choice=choice, calibration=x)
        assert describe(reduced).widths == (6, 40, 40, 30, 4)
        error = output(reduced, x) - output(network, x)
        assert np.sqrt(np.mean(error**2)) < 0.05 * output(network, x).std()


def test_measures_of_several_layers_can_be_combined():
    network, x = random_network((5, 20, 18, 16, 3)), inputs(300, 5)
    copy_neurons(network, 1, [0, 1, 2], [0.5, 1.0, 3.0])
    measures = {"threshold": {"0": 1.0}, "widths": {"2": 9}, "loss_increase": {"4": 0.0}}
    reduced = condense(network, x[:1], loss=squared_change(network, x), calibration=x, choice="cosine", **measures)
    assert describe(reduced).widths[:3] == (5, 17, 9) and 9 <= reduced[4].out_features <= 16


def test_the_papers_widths_give_the_counts_of_table_1():
    network = build(NetConfig(widths=(23, 3200, 1600, 800, 400, 23), activation="relu"), seed=0)
    counts = [count(network, biases=False)]
    for layer, width in (("0", 2205), ("0", 1105), ("2", 1309)):
        network = condense(network, torch.zeros(1, 23), widths={layer: width}, **COSINE)
        counts.append(count(network, biases=False))
    assert counts == [6_802_800, 5_187_915, 3_402_615, 2_848_260]


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
    loss, options = squared_change(network, x), {"choice": choice, "calibration": x, "layers": "0"}
    reduced = condense(network, x[:1], loss_increase=1e-4, loss=loss, round_to=round_to, **options)
    width = reduced[0].out_features
    assert round_to <= width < 40 and width % round_to == 0
    assert loss(reduced) <= 1.0001
    assert loss(condense(network, x[:1], widths=width - round_to, **options)) > 1.0001


def test_a_layer_that_can_lose_nothing_keeps_its_width():
    network, x = random_network((5, 8, 6, 3)), inputs(200, 5)
    options = {"loss": squared_change(network, x), "choice": "qr", "calibration": x}
    reduced = condense(network, x[:1], loss_increase={"2": 0.0}, **options)
    assert describe(reduced).widths == (5, 8, 6, 3)


def test_a_permitted_loss_increase_sees_statistics_that_are_estimated_anew():
    torch.manual_seed(0)
    layers = nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, 2)
    model = nn.Sequential(*layers).double().eval()
    x = inputs(300, 4)
    loss = squared_change(model, x)
    reduced = condense(model, x[:1], loss_increase={"0": 1e-3}, loss=loss, choice="forward", calibration=x)
    assert reduced[0].out_features < 20 and loss(reduced) <= 1.001


@pytest.mark.parametrize(("round_to", "width"), [(1, 14), (4, 16), (32, 21)])
def test_the_width_of_a_threshold_is_rounded_up_but_not_beyond_the_layer(round_to, width):
    network = random_network((5, 21, 7, 3))
    copy_neurons(network, 1, [0, 1, 2, 3, 4, 5, 6], [1.0] * 7)
    reduced = condense(network, inputs(1, 5), threshold=1.0, round_to=round_to, layers="0", **COSINE)
    assert reduced[0].out_features == width
