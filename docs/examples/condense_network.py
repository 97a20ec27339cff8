"""Condensation of a network that has nothing to do with chemistry: plain PyTorch, one call, a little retraining.

    python docs/examples/condense_network.py

A network learns a bumpy surface; `survey` says what of it can be condensed; `condense` makes it a tenth of its size by
keeping the neurons that the next layer needs. A network of that size, trained from scratch for as long as it is
retrained, stands beside it. It takes five seconds.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn

from chemnet import condense, survey

RETRAINING = 300  # steps

torch.manual_seed(1)
inputs = 2.0 * torch.rand(1000, 2) - 1.0
x, y = inputs.T
targets = (torch.sin(4.0 * x) * torch.cos(3.0 * y) + 0.5 * x * y).unsqueeze(1)


def network(*widths):
    """A network of fully connected layers."""
    layers = [part for a, b in zip(widths, widths[1:], strict=False) for part in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers[:-1])


def loss(model):
    """Mean squared error."""
    return (model(inputs) - targets).square().mean()


def train(model, steps):
    """Train on all inputs at once."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()
        schedule.step()
    return model


def size(model):
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


large = train(network(2, 128, 128, 1), 1000)
print(survey(large, inputs[:1]).text(), "\n")
small = condense(large, inputs[:1], ratio=0.1, choice="forward", calibration=inputs)
at_once = loss(small).item()
train(small, RETRAINING)
widths = [layer.out_features for layer in small if isinstance(layer, nn.Linear)]
anew = train(network(2, *widths), RETRAINING)

print(f"{'network':28} parameters       loss")
for name, model, value in (
    ("large", large, loss(large).item()),
    ("condensed, at once", small, at_once),
    ("condensed, retrained", small, loss(small).item()),
    ("of that size, from scratch", anew, loss(anew).item()),
):
    print(f"{name:28} {size(model):10,} {value:10.2e}")

axis = torch.linspace(-1.0, 1.0, 100)
grid = torch.cartesian_prod(axis, axis)
figure, panels = plt.subplots(1, 2, figsize=(8.0, 3.6), sharey=True, layout="constrained")
for panel, (name, model) in zip(panels, {"large": large, "condensed": small}.items(), strict=True):
    surface = model(grid).detach().reshape(100, 100).T.numpy()
    image = panel.imshow(surface, origin="lower", extent=(-1, 1, -1, 1), vmin=-1.3, vmax=1.3, cmap="RdBu_r")
    panel.set(title=f"{name}, {size(model):,} parameters", xlabel="x")
panels[0].set_ylabel("y")
figure.colorbar(image, ax=panels)
Path("runs").mkdir(exist_ok=True)
figure.savefig("runs/condense_network.png", dpi=120)
plt.close(figure)
