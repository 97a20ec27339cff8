"""Condensation of a scientific network: a DeepONet that has learned an operator, beside two other choices.

    python docs/examples/condense_operator.py

The network learns the antiderivative: it takes a function by its values at 50 points and a place x, and gives the
integral from 0 to x. Both of its parts are condensed at once, by one call, though their outputs only meet in a sum of
products: those outputs stay as they are, as `survey` says. Three choices of the neurons that stay are compared at equal
parameters, with the same refit of the next layers; nothing is trained afterwards. At half of the parameters the groups
by weights are a little better than forward selection, at a tenth forward selection has half of their error.
Source: Lu, Jin, Pang, Zhang, Karniadakis, "Learning nonlinear operators via DeepONet", Nature Machine Intelligence 3
(2021). It takes half a minute.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

from chemnet import condense, survey

POINTS, WIDTH, TERMS = 50, 128, 64
RATIOS = (0.5, 0.25, 0.1)
METHODS = {
    "forward selection": {"choice": "forward"},
    "activations, refitted": {"choice": "activations"},
    "weights, refitted": {"choice": "cosine"},
}

torch.manual_seed(0)
rng = np.random.default_rng(0)
grid = np.linspace(0.0, 1.0, POINTS)
spread = np.exp(-0.5 * ((grid[:, None] - grid) / 0.2) ** 2)
root = np.linalg.cholesky(spread + 1e-8 * np.eye(POINTS))


def functions(number):
    """Random smooth functions at the points, and their integrals from 0 by the trapezoidal rule (number, points)."""
    values = rng.normal(size=(number, POINTS)) @ root.T
    steps = 0.5 * (values[:, 1:] + values[:, :-1]) * np.diff(grid)
    integrals = np.concatenate([np.zeros((number, 1)), np.cumsum(steps, axis=1)], axis=1)
    return torch.from_numpy(values).float(), torch.from_numpy(integrals).float()


class DeepONet(nn.Module):
    """Functions (n, points) and places (n, 1) -> values of the operator (n,)."""

    def __init__(self):
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(POINTS, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh())
        self.trunk = nn.Sequential(nn.Linear(1, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh())
        self.of_branch, self.of_trunk = nn.Linear(WIDTH, TERMS), nn.Linear(WIDTH, TERMS)

    def forward(self, values, places):
        """Sum of products of the two parts."""
        return (self.of_branch(self.branch(values)) * self.of_trunk(self.trunk(places))).sum(-1)


def pairs(values, integrals, number):
    """A batch of functions, each with a place and the integral there."""
    rows, places = torch.randint(len(values), (number,)), torch.randint(POINTS, (number,))
    where = torch.from_numpy(grid).float()[places, None]
    return (values[rows], where), integrals[rows, places]


def train(network, steps):
    """Adam at a rate that falls to zero."""
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        inputs, targets = pairs(*training, 512)
        optimizer.zero_grad()
        (network(*inputs) - targets).square().mean().backward()
        optimizer.step()
        schedule.step()
    return network


def error(network):
    """Relative l2 error on functions that it has not seen [%]."""
    inputs, targets = test
    with torch.no_grad():
        return 100.0 * float((network(*inputs) - targets).norm() / targets.norm())


def size(network):
    """Number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


training = functions(2000)
test = pairs(*functions(500), 20_000)
calibration, _ = pairs(*training, 1000)
example = tuple(each[:1] for each in calibration)
network = train(DeepONet(), 4000)
print(survey(network, example).text(), "\n")
print(f"{'network':24} parameters   error, %")
print(f"{'as trained':24} {size(network):10,} {error(network):10.2f}")
errors = {name: [] for name in METHODS}
for ratio in RATIOS:
    for name, options in METHODS.items():
        small = condense(network, example, ratio=ratio, calibration=calibration, **options)
        errors[name].append(error(small))
        print(f"{name:24} {size(small):10,} {errors[name][-1]:10.2f}")

figure, panel = plt.subplots(figsize=(5.0, 3.6), layout="constrained")
for name, values in errors.items():
    panel.plot([100.0 * ratio for ratio in RATIOS], values, "o-", label=name)
panel.axhline(error(network), color="black", linewidth=0.8, label="as trained")
panel.set(xlabel="parameters left [%]", ylabel="relative error [%]", yscale="log")
panel.legend()
Path("runs").mkdir(exist_ok=True)
figure.savefig("runs/condense_operator.png", dpi=120)
plt.close(figure)
