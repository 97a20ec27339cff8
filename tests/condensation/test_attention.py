"""Transformers: the values of attention are condensed head by head, queries and keys stay, and the layers that are fed
forward are condensed."""

import copy

import pytest
import torch
from net_zoo import randomised
from numpy.testing import assert_allclose
from torch import nn
from torch.nn import functional as F

from chemnet.condensation import condense, resize, survey
from chemnet.condensation.channels import Channels


def output(model, x):
    with torch.no_grad():
        return model(x)


def states(model, example):
    return {layer: state for layers, _, state in survey(model, example).rows for layer in layers.split(", ")}


def tokens(n=4, seed=1):
    return torch.randn(n, 6, 8, generator=torch.Generator().manual_seed(seed))


class Attention(nn.Module):
    """Two heads of four channels; `attend` makes a result of queries, keys and values."""

    def __init__(self, attend, heads=2):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4 * heads)
        self.out, self.heads, self.attend = nn.Linear(8, 8), heads, attend

    def forward(self, x):
        n, length = x.size(0), x.size(1)
        q, k = (part(x).view(n, length, 2, 4).transpose(1, 2) for part in (self.q, self.k))
        v = self.v(x).view(n, length, self.heads, -1).transpose(1, 2)
        return self.out(self.attend(q, k, v).transpose(1, 2).reshape(n, length, -1))


def fused(q, k, v):
    return F.scaled_dot_product_attention(q, k, v)


def by_hand(q, k, v):
    return (q @ k.transpose(-2, -1) * 0.5).softmax(-1) @ v


def transposed(q, k, v):
    weights = torch.matmul(q, k.transpose(-2, -1)).softmax(-1)
    return torch.matmul(v.transpose(-2, -1), weights.transpose(-2, -1)).transpose(-2, -1)


def summed(q, k, v):
    weights = torch.einsum("bhid, bhjd -> bhij", q, k).softmax(-1)
    return torch.einsum("bhij, bhjd -> bihd", weights, v).transpose(1, 2)


def grouped_queries(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)


def repeated(q, k, v):
    n, length = v.size(0), v.size(2)
    more = v[:, :, None].expand(-1, -1, 2, -1, -1).reshape(n, 2, length, -1)
    return F.scaled_dot_product_attention(q, k, more)


ATTENTION = {
    "fused": (fused, 2),
    "by hand": (by_hand, 2),
    "transposed": (transposed, 2),
    "einsum": (summed, 2),
    "grouped queries": (grouped_queries, 1),
    "repeated heads": (repeated, 1),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_values_are_condensed_head_by_head(name):
    attend, heads = ATTENTION[name]
    torch.manual_seed(0)
    net, x = randomised(Attention(attend, heads)), tokens()
    with torch.no_grad():
        for head in range(heads):
            for parameter in (net.v.weight, net.v.bias):
                parameter[4 * head + 1] = parameter[4 * head]
    found = states(net, x)
    assert found["v"] == "can be condensed" and "can be" not in found["q"] and "can be" not in found["k"]
    assert Channels(net, x).named("v").blocks == heads
    reduced = condense(net, x, threshold=1.0)
    assert (reduced.q.out_features, reduced.v.out_features, reduced.out.in_features) == (8, 3 * heads, 6)
    assert_allclose(output(reduced, 2.0 * x), output(net, 2.0 * x), rtol=1e-5, atol=1e-5)
    half = condense(net, x, widths={"v": 2 * heads}, calibration=tokens(40, 3))
    half.train()(x).square().mean().backward()
    rebuilt = resize(copy.deepcopy(net), half.state_dict())
    assert_allclose(output(rebuilt, x), output(half, x), rtol=1e-6, atol=1e-7)


def test_the_copies_of_one_head_alone_stay():
    net = randomised(Attention(fused))
    with torch.no_grad():
        net.v.weight[1], net.v.bias[1] = net.v.weight[0], net.v.bias[0]
        net.v.weight[4], net.v.bias[4] = net.v.weight[2], net.v.bias[2]  # in the other head: no copy
    assert condense(net, tokens(), threshold=1.0).v.out_features == 8


def test_values_of_a_head_whose_size_is_fixed_are_left_alone():
    def attend(q, k, v):
        return fused(q, k, v.reshape(-1, 2, 6, 4))

    net = randomised(Attention(attend))
    assert "reshape" in states(net, tokens())["v"] and "fixed size" in states(net, tokens())["v"]


class Heads(nn.Module):
    """Four heads of a fixed size, of which every two have the same keys and values where they are `shared`."""

    def __init__(self, attend, shared):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(8, 16), nn.Linear(8, 16 // shared), nn.Linear(8, 16 // shared)
        self.out, self.bias, self.attend = nn.Linear(16, 8), nn.Embedding(6, 4), attend

    def forward(self, x):
        q, k, v = (part(x).view(*x.shape[:-1], -1, 4).transpose(1, 2) for part in (self.q, self.k, self.v))
        bias = self.bias(torch.arange(x.shape[1])).T[None, :, None]
        return self.out(self.attend(q, k, v, bias).transpose(1, 2).reshape(*x.shape[:-1], -1))


def fused_with_bias(q, k, v, bias):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def by_hand_with_bias(q, k, v, bias):
    return (0.5 * (q @ k.transpose(-2, -1)) + bias).softmax(-1) @ v


def summed_with_bias(q, k, v, bias):
    weights = (0.5 * torch.einsum("bhid, bhjd -> bhij", q, k) + bias).softmax(-1)
    return torch.einsum("bhij, bhjd -> bhid", weights, v)


def repeated_with_bias(q, k, v, bias):
    k, v = (x[:, :, None].expand(-1, -1, 2, -1, -1).reshape(len(x), -1, x.shape[2], 4) for x in (k, v))
    return by_hand_with_bias(q, k, v, bias)


def grouped_with_bias(q, k, v, bias):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, enable_gqa=True)


@pytest.mark.parametrize(
    ("attend", "shared"),
    [
        *((each, 1) for each in (fused_with_bias, by_hand_with_bias, summed_with_bias)),
        *((each, 2) for each in (repeated_with_bias, grouped_with_bias)),
    ],
)
def test_where_the_number_of_heads_is_open_a_head_of_queries_keys_and_values_is_one_channel(attend, shared):
    net, x = randomised(Heads(attend, shared)), tokens()
    with torch.no_grad():
        for layer, size in ((net.q, 4 * shared), (net.k, 4), (net.v, 4)):
            for parameter in (layer.weight, layer.bias):
                parameter[size : 2 * size] = parameter[:size]
        net.bias.weight[:, shared : 2 * shared] = net.bias.weight[:, :shared]
    (found, width, state), _ = survey(net, x).rows
    assert (set(found.split(", ")), width, state) == ({"q", "k", "v", "bias"}, 4 // shared, "can be condensed")
    reduced = condense(net, x, threshold=1.0)
    left = 16 - 4 * shared
    assert (reduced.q.out_features, reduced.out.in_features, reduced.bias.embedding_dim) == (left, left, left // 4)
    assert reduced.k.out_features == reduced.v.out_features == left // shared
    assert_allclose(output(reduced, 2.0 * x), output(net, 2.0 * x), rtol=1e-5, atol=1e-5)
    half = condense(net, x, widths={"q": 2 // shared}, calibration=tokens(40, 3))
    assert half.q.out_features == 8
    half.train()(x).square().mean().backward()
    rebuilt = resize(copy.deepcopy(net), half.state_dict())
    assert_allclose(output(rebuilt, x), output(half, x), rtol=1e-6, atol=1e-7)


def test_heads_that_are_weighed_by_an_input_are_left_alone():
    class Weighed(Heads):
        def forward(self, x, weights):
            q, k, v = (part(x).view(*x.shape[:-1], -1, 4).transpose(1, 2) for part in (self.q, self.k, self.v))
            return self.out((weights @ v).transpose(1, 2).reshape(*x.shape[:-1], -1)) + (q * k).sum()

    net = randomised(Weighed(None, 1))
    assert "sums over" in states(net, (tokens(), torch.ones(4, 4, 6, 6)))["v"]


class Packed(nn.Module):
    """A block of a vision transformer as it is usually written: one projection for queries, keys and values, whose
    sizes come from the width of the input."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm1, self.norm2 = nn.Linear(8, 8), nn.LayerNorm(8), nn.LayerNorm(8)
        self.qkv, self.proj = nn.Linear(8, 24), nn.Linear(8, 8)
        self.fc1, self.fc2, self.head = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 2)

    def forward(self, x):
        x = self.embed(x)
        n, length, width = x.size(0), x.size(1), x.size(2)
        qkv = self.qkv(self.norm1(x)).reshape(n, length, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2]).transpose(1, 2).reshape(n, length, width)
        x = x + self.proj(y)
        return self.head(x + self.fc2(F.gelu(self.fc1(self.norm2(x)))))


def test_the_usual_block_of_a_transformer_keeps_its_attention_and_is_condensed_where_it_feeds_forward():
    net, x = randomised(Packed()), tokens()
    with torch.no_grad():
        for parameter in (net.fc1.weight, net.fc1.bias):
            parameter[1::2] = parameter[::2]
    found = states(net, x)
    assert found["fc1"] == "can be condensed"
    assert all("reads its width" in found[name] or "sums over" in found[name] for name in ("embed", "qkv", "proj"))
    reduced = condense(net, x, threshold=1.0)
    assert (reduced.fc1.out_features, reduced.qkv.out_features) == (8, 24)
    assert_allclose(output(reduced, x), output(net, x), rtol=1e-5, atol=1e-5)
    assert condense(net, x, ratio=0.8, calibration=tokens(40, 3)).fc1.out_features < 16


def test_a_gate_of_two_halves_is_condensed_in_a_transformer():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.both, self.down = nn.Linear(8, 24), nn.Linear(12, 8)

        def forward(self, x):
            gate, up = self.both(x).chunk(2, dim=-1)
            return x + self.down(F.silu(gate) * up)

    net, x = randomised(Gated()), tokens()
    with torch.no_grad():
        for parameter in (net.both.weight, net.both.bias):
            parameter[1], parameter[13] = parameter[0], parameter[12]
    assert Channels(net, x).named("both").width == 12
    reduced = condense(net, x, threshold=1.0)
    assert (reduced.both.out_features, reduced.down.in_features) == (22, 11)
    assert_allclose(output(reduced, x), output(net, x), rtol=1e-5, atol=1e-5)
    assert condense(net, x, widths={"both": 5}, calibration=tokens(40, 3)).both.out_features == 10


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_transformer_of_torch_itself_is_condensed_in_its_parts_that_feed_forward(norm_first):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first, dropout=0.0)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    with torch.no_grad():
        for each in model.layers:
            each.linear1.weight[8:], each.linear1.bias[8:] = each.linear1.weight[:8], each.linear1.bias[:8]
    reduced = condense(model, tokens(), threshold=1.0)
    assert [each.linear1.out_features for each in reduced.layers] == [8, 8]
    assert_allclose(output(reduced, tokens()), output(model, tokens()), rtol=0, atol=1e-5)  # by torch's fast path
    assert_allclose(output(reduced.train(), tokens()), output(model.train(), tokens()), rtol=0, atol=1e-5)
