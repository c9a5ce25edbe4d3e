"""A network that knows digits, and LoRA that teaches it digits upside down; each site has the network itself."""

import functools
import os
import zlib

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is downloaded

import convoy
from convoy.torch import lora  # first: without the package, it says what to install

# isort: split
import numpy as np
import peft
import torch
from sklearn.datasets import load_digits
from torch.nn import functional


def fit(net, x, y, *, lr, epochs):
    """Train for some epochs; return the last loss."""
    optimiser = torch.optim.Adam([it for it in net.parameters() if it.requires_grad], lr=lr)
    for _ in range(epochs):
        for rows in torch.randperm(len(y)).split(32):
            optimiser.zero_grad()
            loss = functional.cross_entropy(net(x[rows]), y[rows])
            loss.backward()
            optimiser.step()
    return loss.item()


def adapted(base):
    torch.manual_seed(2)
    return peft.get_peft_model(base, peft.LoraConfig(r=4, lora_alpha=4, target_modules=["0", "2"]))


def base():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))


def initial():
    """The adapters before the first round; the base model is not among them."""
    return lora.arrays(adapted(base()))


def digits():
    x, y = load_digits(return_X_y=True)
    return torch.as_tensor(x / 16, dtype=torch.float32), torch.as_tensor(y)


@functools.cache
def network():
    """Return the network with adapters. Its base has learned 600 digits; it stands for one that a site has on disk."""
    net, (x, y) = base(), digits()
    fit(net, x[:600], y[:600], lr=0.01, epochs=10)
    return adapted(net)


def rows(site):
    """Return this site's own images, upside down, and their labels: 300 of those that the base has not seen."""
    x, y = digits()
    mine = 600 + np.random.default_rng(zlib.crc32(site.encode())).choice(len(y) - 600, 300, replace=False)
    return x[mine].flip(1), y[mine]


def train(task):
    net, (x, y) = network(), rows(task.site)
    lora.load(net, task.model)
    torch.manual_seed(task.seed)  # a task that is done again gives the same bits
    with torch.no_grad():
        received = float((net(x).argmax(1) == y).float().mean())
    loss = fit(net, x, y, lr=task.config["lr"], epochs=task.config["epochs"])
    print(f"round {task.round}: accuracy of the model that came {received:.1%}, loss {loss:.3f}")
    return convoy.Reply(lora.arrays(net, task.model), weight=len(y), metrics={"loss": loss, "accuracy": received})
