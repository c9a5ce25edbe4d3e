"""Writers with the verbs of TensorBoard, MLflow and Weights & Biases, whose numbers become live metrics of the job.

They are those of NVIDIA FLARE's `nvflare.client.tracking`: a script needs only a different import. Numbers take the way
of `convoy.metrics`. Texts, parameters and tags become lines of the job's log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convoy.worker import points, tasks

__all__ = ["MLflowWriter", "SummaryWriter", "TBWriter", "WandBWriter"]


class SummaryWriter:
    """TensorBoard's verbs. The `global_step` of a value is its step; further arguments are accepted and ignored."""

    def add_scalar(self, tag: str, scalar: Any, global_step: int | None = None, **_: Any) -> None:
        """Report one number. Raises `BadInput`, as `convoy.metrics` does."""
        points.metrics({tag: scalar}, step=global_step)

    def add_scalars(self, tag: str, scalars: Mapping[str, Any], global_step: int | None = None, **_: Any) -> None:
        """Report numbers together, each under the key `tag/name`."""
        points.metrics({f"{tag}/{name}": value for name, value in scalars.items()}, step=global_step)

    def add_text(self, tag: str, text: str, global_step: int | None = None, **_: Any) -> None:
        """Write a text into the job's log."""
        tasks.log(f"{tag}{'' if global_step is None else f' at step {global_step}'}: {text}")

    def flush(self) -> None:
        """Send what is gathered."""
        tasks.session().flush()

    def close(self) -> None:
        """Send what is gathered."""
        self.flush()


TBWriter = SummaryWriter  # its name in earlier versions of NVIDIA FLARE


class MLflowWriter:
    """MLflow's verbs."""

    def log_metric(self, key: str, value: Any, step: int | None = None) -> None:
        """Report one number. Raises `BadInput`, as `convoy.metrics` does."""
        points.metrics({key: value}, step=step)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Report numbers together."""
        points.metrics(metrics, step=step)

    def log_param(self, key: str, value: Any) -> None:
        """Write a parameter into the job's log."""
        tasks.log(f"parameter {key}: {value}")

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Write parameters into the job's log, a line for each."""
        for key, value in values.items():
            self.log_param(key, value)

    def log_text(self, text: str, artifact_file_path: str) -> None:
        """Write a text into the job's log, with the name that its file would have; no file is written."""
        tasks.log(f"{artifact_file_path}: {text}")

    def set_tag(self, key: str, tag: Any) -> None:
        """Write a tag into the job's log."""
        tasks.log(f"tag {key}: {tag}")

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Write tags into the job's log, a line for each."""
        for key, tag in tags.items():
            self.set_tag(key, tag)


class WandBWriter:
    """The verb of Weights & Biases."""

    def log(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Report numbers together. Raises `BadInput`, as `convoy.metrics` does."""
        points.metrics(metrics, step=step)
