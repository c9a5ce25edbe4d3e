"""Handwritten digits and a LightningModule; the callback takes the model in before each fit and replies after it."""

import logging
import zlib

import convoy
import convoy.torch
from convoy.torch.lightning import Site  # first: without the package, it says what to install

# isort: split
import lightning
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # it says at each start what the machine has


class Digits(lightning.LightningModule):
    def __init__(self, lr=0.005):
        super().__init__()
        self.lr = lr
        self.net = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))

    def training_step(self, batch, _):
        x, y = batch
        loss = functional.cross_entropy(self.net(x), y)
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, _):
        x, y = batch
        self.log("val_accuracy", (self.net(x).argmax(1) == y).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)


def initial():
    """The model before the first round."""
    lightning.seed_everything(1, verbose=False)
    return convoy.torch.arrays(Digits())


def rows(site):
    """Return this site's own images and labels, the same at every call: 400 of 1797."""
    x, y = load_digits(return_X_y=True)
    mine = np.random.default_rng(zlib.crc32(site.encode())).choice(len(y), 400, replace=False)
    return TensorDataset(torch.as_tensor(x[mine] / 16, dtype=torch.float32), torch.as_tensor(y[mine]))


def main():
    data, module = rows(convoy.get_site_name()), Digits(convoy.config["lr"])
    fit, validate = torch.utils.data.Subset(data, range(320)), torch.utils.data.Subset(data, range(320, 400))
    for task in convoy.tasks():
        lightning.seed_everything(task.seed, verbose=False)  # a task that is done again gives the same bits
        trainer = lightning.Trainer(
            max_epochs=convoy.config["epochs"],
            callbacks=[Site(task)],
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        if task.kind == "train":
            trainer.fit(module, DataLoader(fit, batch_size=32, shuffle=True))
        else:
            trainer.validate(module, DataLoader(validate, batch_size=80), verbose=False)


if __name__ == "__main__":
    main()
