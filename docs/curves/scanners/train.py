"""A network with batch normalisation on scikit-learn's handwritten digits, each site with a scanner of its own."""

import numpy as np
import torch

import convoy

SCANNERS = (  # what five scanners with settings of their own make of one image
    lambda x: x,
    lambda x: 3 * x - 1,
    lambda x: 0.2 * x + 0.8,
    lambda x: 5 * x**2,
    lambda x: 0.3 * x - 0.2,
)


def network():
    torch.manual_seed(1)
    return torch.nn.Sequential(
        torch.nn.Linear(64, 32), torch.nn.BatchNorm1d(32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
    )


def initial():
    return network().state_dict()


def digits():
    """Return `x` (1797, 64) in 0..1 and `y` (1797,), 0 to 9."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return found.data / 16, found.target


def read(task):
    """Return this site's training and test rows as its scanner sees them: every fifth row is for tests."""
    with np.load(task.data["digits"]) as arrays:
        x, y = torch.tensor(arrays["x"], dtype=torch.float32), torch.tensor(arrays["y"])
    x, test = SCANNERS[int(task.site.rpartition("-")[2]) % len(SCANNERS)](x), torch.arange(len(y)) % 5 == 4
    return (x[~test], y[~test]), (x[test], y[test])


def loaded(task):
    net = network()
    net.load_state_dict(task.model.torch())
    return net


def train(task):
    net, (x, y) = loaded(task), read(task)[0]
    steps, dice = torch.optim.SGD(net.parameters(), lr=task.config["lr"]), torch.Generator().manual_seed(task.seed)
    for _ in range(task.config["epochs"]):
        for rows in torch.randperm(len(y), generator=dice).split(task.config["batch"]):
            if len(rows) > 1:  # one image alone has no variance
                steps.zero_grad()
                torch.nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
                steps.step()
    return convoy.Reply(net.state_dict(), weight=len(y))


def evaluate(task):
    net, (x, y) = loaded(task).eval(), read(task)[1]
    with torch.no_grad():
        right = float((net(x).argmax(1) == y).float().mean())
    return convoy.Reply(weight=len(y), metrics={"accuracy": right})
