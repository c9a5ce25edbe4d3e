"""Handwritten digits as sequences of eight words, a tiny BERT made on the spot, and the Trainer of transformers."""

import os
import zlib

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is downloaded

import numpy as np
import torch
import transformers
from sklearn.datasets import load_digits

import convoy
import convoy.torch
from convoy.torch.transformers import Site


def network():
    """Return a BERT that reads each row of an image as one word, with weights that are the same whenever it is made."""
    transformers.set_seed(1)
    return transformers.BertForSequenceClassification(
        transformers.BertConfig(
            vocab_size=1,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=8,
            num_labels=10,
            hidden_dropout_prob=0.0,
        )
    )


def initial():
    """The model before the first round."""
    return convoy.torch.arrays(network())


def rows(site):
    """Return this site's own images and labels, the same at every call: 400 of 1797."""
    x, y = load_digits(return_X_y=True)
    mine = np.random.default_rng(zlib.crc32(site.encode())).choice(len(y), 400, replace=False)
    words = (
        torch.as_tensor(x[mine] / 16, dtype=torch.float32).reshape(-1, 8, 8).repeat(1, 1, 4)
    )  # 8 words of 32 numbers
    return [{"inputs_embeds": word, "labels": int(label)} for word, label in zip(words, y[mine], strict=True)]


def accuracy(found):
    scores, labels = found
    return {"accuracy": float((scores.argmax(1) == labels).mean())}


def main():
    data, net = rows(convoy.get_site_name()), network()
    fit, validate = data[:320], data[320:]
    for task in convoy.tasks():
        trainer = transformers.Trainer(
            net,
            transformers.TrainingArguments(
                "trainer",
                num_train_epochs=convoy.config["epochs"],
                per_device_train_batch_size=16,
                learning_rate=convoy.config["lr"],
                seed=task.seed,  # a task that is done again gives the same bits
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
                use_cpu=True,
            ),
            train_dataset=fit,
            eval_dataset=validate,
            compute_metrics=accuracy,
            callbacks=[Site(task, weight=len(fit))],
        )
        if task.kind == "train":
            trainer.train()
        else:
            trainer.evaluate()


if __name__ == "__main__":
    main()
