"""Handwritten digits in several processes: each has a share of the site's rows, and gradients are averaged (DDP)."""

import zlib

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import distributed
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import convoy
import convoy.torch


def network():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))


def initial():
    """The model before the first round."""
    return convoy.torch.arrays(network())


def rows(site):
    """Return this site's own images and labels, the same in every process: 400 of 1797."""
    x, y = load_digits(return_X_y=True)
    mine = np.random.default_rng(zlib.crc32(site.encode())).choice(len(y), 400, replace=False)
    return torch.as_tensor(x[mine] / 16, dtype=torch.float32), torch.as_tensor(y[mine])


def measure(net, x, y):
    """Return the share of the images that the network names right."""
    with torch.no_grad():
        return float((net(x).argmax(1) == y).float().mean())


def main():
    distributed.init_process_group("gloo")
    rank, count = distributed.get_rank(), distributed.get_world_size()
    x, y = rows(convoy.get_site_name())
    net = DistributedDataParallel(network())
    for task in convoy.tasks():  # the same tasks in every process
        convoy.torch.load(net, task.model)
        if task.kind == "evaluate":  # with `evaluate: true` in job.yaml
            task.reply(metrics={"accuracy": measure(net, x, y)}, weight=len(y))
            continue
        optimiser = torch.optim.SGD(net.parameters(), lr=task.config["lr"], momentum=0.9)
        dice = torch.Generator().manual_seed(task.seed)  # the same in every process
        for _ in range(task.config["epochs"]):
            for batch in torch.randperm(len(y), generator=dice).split(32):
                mine = batch[rank::count]
                optimiser.zero_grad()
                functional.cross_entropy(net(x[mine]), y[mine]).backward()
                optimiser.step()
        accuracy = measure(net, x, y)
        print(f"round {task.round}: rank {rank} of {count}, accuracy {accuracy:.1%}", flush=True)
        task.reply(convoy.torch.arrays(net), weight=len(y), metrics={"accuracy": accuracy})  # rank 0's is sent
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
