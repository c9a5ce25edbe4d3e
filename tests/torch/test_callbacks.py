"""Callbacks of Lightning and of transformers: the model goes in, the reply goes out, optimisers go on."""

import numpy as np
import pytest

import convoy
from convoy import testing
from convoy.errors import BadInput
from convoy.flows.fleet import NotEnough

torch = pytest.importorskip("torch")
import convoy.torch  # noqa: E402 - it needs torch


# ---- Lightning -------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def lightning():
    found = pytest.importorskip("lightning")

    class Line(found.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch, _):
            loss = ((self.layer(batch[0]) - 3 * batch[0]) ** 2).mean()
            self.log("loss", loss)
            return loss

        def validation_step(self, batch, _):
            self.log("error", ((self.layer(batch[0]) - 3 * batch[0]) ** 2).mean())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)

    def made(callback):
        trainer = found.Trainer(
            max_epochs=2,
            callbacks=[callback],
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        return trainer, Line()

    return made


def rows(count=8):
    x = torch.arange(1, count + 1, dtype=torch.float32).reshape(-1, 1) / count
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=4)


def start():
    torch.manual_seed(1)
    return {f"layer.{name}": tensor for name, tensor in convoy.torch.arrays(torch.nn.Linear(1, 1)).items()}


@pytest.mark.filterwarnings("ignore")  # Lightning warns of few workers and of a missing validation
def test_lightning_trains_what_came_and_replies_with_metrics_weight_and_steps(lightning):
    from convoy.torch.lightning import Site

    def train(task):
        trainer, module = lightning(Site(task))
        trainer.validate(module, rows(), verbose=False)
        before = float(trainer.callback_metrics["error"])
        received = torch.as_tensor(task.model["layer.weight"].copy())
        assert torch.equal(module.layer.weight, received)
        trainer.fit(module, rows(), rows())
        assert before > 0
        assert not torch.equal(module.layer.weight, received)

    def evaluate(task):
        trainer, module = lightning(Site(task))
        trainer.validate(module, rows(), verbose=False)

    result = testing.run(
        "fedavg", {"train": train, "evaluate": evaluate}, sites=("a", "b"), model=start(),
        rounds=3, evaluate=True,
    )  # fmt: skip
    metrics = [it["metrics"] for it in result.history[1:]]
    assert all(it["steps"] == 4 for it in metrics)
    errors = [it["error"] for it in metrics]
    assert errors == sorted(errors, reverse=True)
    assert metrics[1]["received_error"] == pytest.approx(errors[0])
    assert [weight for _, weight in result.rounds[-1].took_part] == [8.0, 8.0]


@pytest.mark.filterwarnings("ignore")
def test_optimisers_of_lightning_go_on_where_they_were(lightning):
    from convoy.torch.lightning import Site

    def train(keep):
        def fit(task):
            trainer, module = lightning(Site(task, keep_optimizers=keep))
            trainer.fit(module, rows())

        return fit

    models = [testing.run("fedavg", train(keep), sites=("a",), model=start(), rounds=2).model for keep in (True, False)]
    trainer, module = lightning(callback=silent())
    convoy.torch.load(module, {name: tensor.numpy() for name, tensor in start().items()})
    trainer.fit_loop.max_epochs = 4
    trainer.fit(module, rows())
    np.testing.assert_array_equal(models[0]["layer.weight"], module.layer.weight.detach().numpy())
    assert not np.array_equal(models[1]["layer.weight"], models[0]["layer.weight"])


def silent():
    from lightning.pytorch.callbacks import Callback

    return Callback()


@pytest.mark.filterwarnings("ignore")
def test_a_loader_without_a_length_needs_a_weight(lightning):
    from convoy.torch.lightning import Site

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([(torch.ones(1),)] * 4)

    def train(task):
        trainer, module = lightning(Site(task))
        trainer.fit(module, torch.utils.data.DataLoader(Stream(), batch_size=2))

    with pytest.raises(NotEnough, match=r"how many rows .* is not known"):
        testing.run("fedavg", train, sites=("a",), model=start(), rounds=1)


# ---- transformers ----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def transformers():
    found = pytest.importorskip("transformers")

    class Line(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def forward(self, x, labels=None):
            return {"loss": ((self.layer(x) - labels) ** 2).mean(), "logits": self.layer(x)}

    def made(folder, callbacks, **settings):
        data = [{"x": torch.tensor([n / 8.0]), "labels": torch.tensor([3 * n / 8.0])} for n in range(1, 9)]
        arguments = found.TrainingArguments(
            str(folder), num_train_epochs=2, per_device_train_batch_size=4, learning_rate=0.1, report_to="none",
            save_strategy="no", disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False, **settings,
        )  # fmt: skip
        return found.Trainer(Line(), arguments, train_dataset=data, eval_dataset=data, callbacks=callbacks)

    return made


@pytest.mark.filterwarnings("ignore")
def test_transformers_trains_what_came_and_replies_without_times(transformers, tmp_path):
    from convoy.torch.transformers import Site

    def train(task):
        trainer = transformers(tmp_path, [Site(task, weight=8, keep_optimizer=True)])
        assert torch.equal(trainer.model.layer.weight, torch.as_tensor(task.model["layer.weight"].copy()))
        trainer.evaluate()
        trainer.train()

    def evaluate(task):
        transformers(tmp_path, [Site(task, weight=8)]).evaluate()

    result = testing.run(
        "fedavg", {"train": train, "evaluate": evaluate}, sites=("a",), model=start(), rounds=2, evaluate=True
    )
    metrics = [it["metrics"] for it in result.history[1:]]
    assert set(metrics[0]) == {"eval_loss", "received_eval_loss", "train_loss", "steps"}
    assert metrics[1]["received_eval_loss"] == pytest.approx(metrics[0]["eval_loss"], rel=1e-5)
    assert metrics[1]["eval_loss"] < metrics[0]["eval_loss"] < metrics[0]["received_eval_loss"]
    assert metrics[0]["steps"] == 4
    kept = result.states["a"]
    assert {name.partition("/")[0] for name in kept} == {"optimizer"}


@pytest.mark.filterwarnings("ignore")
def test_a_callback_that_is_added_later_is_told_so(transformers, tmp_path):
    from convoy.torch.transformers import Site

    def train(task):
        trainer = transformers(tmp_path, [])
        trainer.add_callback(Site(task, weight=1))
        trainer.train()

    with pytest.raises(NotEnough, match="does not have the task's model"):
        testing.run("fedavg", train, sites=("a",), model=start(), rounds=1)


# ---- packages that are not there -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("package", "module", "extra"),
    [
        ("lightning", "convoy.torch.lightning", "lightning"),
        ("transformers", "convoy.torch.transformers", "transformers"),
        ("peft", "convoy.torch.lora", "peft"),
        ("jax", "convoy.jax", "jax"),
    ],
)
def test_a_package_that_is_missing_is_named_with_the_line_that_installs_it(monkeypatch, package, module, extra):
    import importlib
    import sys

    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.pytorch.callbacks", None)
    with pytest.raises(BadInput, match=rf"(?s){package} is needed.*pip install 'convoy-fl\[{extra}\]'"):
        importlib.import_module(module)
