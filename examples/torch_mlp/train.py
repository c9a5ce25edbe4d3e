"""Two moons, told apart by a small network in torch; each site sees its own part of them."""

import math
import zlib

import torch
from torch import nn

import convoy
import convoy.torch


def network():
    """Return the network, with weights that are the same whenever it is made."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.BatchNorm1d(16), nn.Linear(16, 1))


def initial():
    """The model before the first round."""
    return convoy.torch.arrays(network())


def moons(site, count=400):
    """Return this site's own points and labels, the same at every call."""
    dice = torch.Generator().manual_seed(zlib.crc32(site.encode()))
    label = (torch.rand(count, generator=dice) < 0.5).float()
    angle = math.pi * torch.rand(count, generator=dice)
    x = torch.where(label == 1, 1 - torch.cos(angle), torch.cos(angle))
    y = torch.where(label == 1, 0.5 - torch.sin(angle), torch.sin(angle))
    return torch.stack([x, y], dim=1) + 0.1 * torch.randn(count, 2, generator=dice), label


def fit(net, x, y, *, lr, epochs):
    """Train for some epochs; return the mean loss of the last one."""
    optimiser = torch.optim.Adam(net.parameters(), lr=lr)
    measure = nn.BCEWithLogitsLoss()
    net.train()
    for _ in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(y)).split(32):
            optimiser.zero_grad()
            loss = measure(net(x[rows]).squeeze(1), y[rows])
            loss.backward()
            optimiser.step()
            total += loss.item() * len(rows)
    return total / len(y)


def measure(net, x, y):
    """Return the share of the points that the network tells right."""
    net.eval()
    with torch.no_grad():
        return float(((net(x).squeeze(1) > 0) == (y == 1)).float().mean())


def main():
    net, config = network(), convoy.config
    x, y = moons(convoy.get_site_name())
    for task in convoy.tasks():
        convoy.torch.load(net, task.model)
        if task.kind == "evaluate":  # with `evaluate: true` in job.yaml
            task.reply(metrics={"accuracy": measure(net, x, y)}, weight=len(y))
            continue
        torch.manual_seed(task.seed)  # a task that is done again gives the same bits
        loss = fit(net, x, y, lr=config["lr"], epochs=config["epochs"])
        accuracy = measure(net, x, y)
        print(f"round {task.round}: loss {loss:.3f}, accuracy {accuracy:.1%}")
        task.reply(convoy.torch.arrays(net), weight=len(y), metrics={"loss": loss, "accuracy": accuracy})


if __name__ == "__main__":
    main()
