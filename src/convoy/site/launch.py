"""What a job's trainer at a site is started with: its first message, its folder, and the resources that it wants."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from convoy.node.launcher import Order, Wants
from convoy.spec.settings import Settings
from convoy.wire import convoy_pb2 as pb

if TYPE_CHECKING:
    from convoy.spec.job import Job


def order_of(spec: Job, job: str, *, site: str, folder: Path, settings: Settings, withheld: Collection[str]) -> Order:
    """Return the order for the launcher; `folder`: the job's here, `withheld`: data that its code may not see."""
    begin = pb.BeginTrainer(
        job=job,
        name=spec.name,
        site=site,
        code=str(folder / "code"),
        blobs=str(folder / "blobs"),
        out=str(folder / "out"),
        trainer=spec.trainer,
        config_json=json.dumps(spec.config),
        data_json=json.dumps({name: it for name, it in settings.data.items() if name not in withheld}),
        withheld=withheld,
        seed=spec.seed,
        model=spec.model or "",
    )
    wants = Wants(spec.image or "", spec.resources.cpu, spec.resources.memory, spec.resources.gpu, spec.patience_s)
    return Order("convoy.worker.trainer", pb.WorkerDown(trainer=begin), folder / "code", settings.env, wants)
