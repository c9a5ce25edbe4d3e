"""Reads back what arrived at each experiment tracker, with the tracker's own means."""

import json
import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.trackers.memory_tracker import MemoryTracker, Store


@dataclass
class Seen:
    """One job at one tracker; `curves`: (step, value) by site and key, in the order in which they arrived."""

    curves: dict = field(default_factory=dict)
    params: dict = field(default_factory=dict)
    tags: dict = field(default_factory=dict)
    results: list = field(default_factory=list)
    state: str = ""


class Memory:
    """Opens and reads memory trackers."""

    def __init__(self):
        self.store = Store()

    def open(self):
        return MemoryTracker(self.store)

    def seen(self, job):
        store = self.store
        return Seen(store.curves, store.params, store.tags, store.results, store.state)


class TensorBoardFolder:
    """Reads event files as TensorBoard does, with its own readers."""

    def __init__(self, folder: Path):
        self.folder = folder

    def open(self):
        from convoy.trackers.tensorboard import TensorBoard

        return TensorBoard(self.folder)

    def seen(self, job):
        from tensorboard.backend.event_processing import event_accumulator

        (run,) = self.folder.glob(f"*-{job[:8]}")
        seen = Seen()
        for folder in (run, *sorted(path for path in run.iterdir() if path.is_dir())):
            site = "" if folder == run else folder.name
            files = [str(file) for file in folder.glob("events.out.tfevents.*")]
            assert len(files) == 1
            whole = event_accumulator.EventAccumulator(
                files[0], size_guidance={"scalars": 0, "tensors": 0}, purge_orphaned_data=False
            )
            whole.Reload()
            for tag in whole.Tags()["scalars"]:
                seen.curves[site, tag] = [(one.step, round(one.value, 6)) for one in whole.Scalars(tag)]
            for tag in whole.Tags()["tensors"]:
                self._text(seen, tag, whole.Tensors(tag)[-1].tensor_proto)
            if not site:
                self._hparams(seen, whole)
        return seen

    def _text(self, seen, tag, tensor):
        if not tensor.string_val:
            return
        rows = [line.split(" | ") for line in tensor.string_val[0].decode().splitlines()[2:]]
        found = {row[0].removeprefix("| "): row[1].removesuffix(" |") for row in rows if len(row) == 2}
        if tag == "convoy/parameters":
            seen.params = found
        elif tag.startswith("convoy/"):
            seen.tags |= found
            seen.state = found.get("convoy.state", seen.state)

    def _hparams(self, seen, whole):
        from tensorboard.plugins.hparams import metadata

        content = whole.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        assert set(metadata.parse_session_start_info_plugin_data(content).hparams) == set(seen.params)


class MLflowRuns:
    """Reads a real MLflow server with MLflow's own client."""

    def __init__(self, uri):
        self.uri = uri

    def open(self):
        from convoy.trackers.mlflow import MLflow

        return MLflow(self.uri)

    def runs(self, job):
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self.uri)
        every = [one.experiment_id for one in client.search_experiments()]
        return client, client.search_runs(every, f"tags.`convoy.job` = '{job}'")

    def seen(self, job):
        client, runs = self.runs(job)
        seen = Seen()
        (own,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        for run in runs:
            site = "" if run is own else run.info.run_name
            if site:
                assert run.data.tags["mlflow.parentRunId"] == own.info.run_id
            for key in run.data.metrics:
                found = client.get_metric_history(run.info.run_id, key)
                ordered = sorted(found, key=lambda one: one.timestamp)
                seen.curves[site, key] = [(one.step, one.value) for one in ordered]
        seen.params, seen.tags = dict(own.data.params), dict(own.data.tags)
        seen.state = {"FINISHED": "completed", "FAILED": "failed", "KILLED": "aborted"}.get(own.info.status, "")
        seen.results = sorted(self._files(client, own.info.run_id, None))
        return seen

    def _files(self, client, run, folder):
        for one in client.list_artifacts(run, folder):
            if one.is_dir:
                yield from self._files(client, run, one.path)
            else:
                yield one.path


class WandBFolder:
    """Reads runs that were written without a network: W&B's files, with the messages of W&B."""

    def __init__(self, folder: Path, monkeypatch):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        monkeypatch.setenv("WANDB_MODE", "offline")
        monkeypatch.setenv("WANDB_DIR", str(folder))

    def open(self):
        from convoy.trackers.wandb import WandB

        self._end_process()
        return WandB("trials")

    def _end_process(self):
        """Wait for W&B's own process, as the end of ours does: only then all of a run is in its file."""
        import wandb

        wandb.teardown()

    def records(self, job):
        """Yield all records of a run, over all of its starts."""
        from wandb.proto import wandb_internal_pb2 as pb

        from convoy.trackers import wandblog

        self._end_process()
        for path in sorted((self.folder / "wandb").glob(f"offline-run-*-{job}*/run-{job}.wandb"), key=os.path.getmtime):
            with path.open("rb") as file:
                for data in wandblog.records(file):
                    yield pb.Record.FromString(data)

    def seen(self, job):
        curves, seen, sites = defaultdict(list), Seen(), set()
        steps, rows = [], []
        for record in self.records(job):
            match record.WhichOneof("record_type"):
                case "history":
                    row = {"/".join(it.nested_key) or it.key: json.loads(it.value_json) for it in record.history.item}
                    steps.append(row["_step"])
                    rows.append(row)
                    sites |= {key.removeprefix("_convoy/point/") for key in row if key.startswith("_convoy/point/")}
                case "run":
                    config = {
                        it.key or "/".join(it.nested_key): json.loads(it.value_json) for it in record.run.config.update
                    }
                    seen.params = seen.tags = config
                case "summary":
                    said = {it.key: json.loads(it.value_json) for it in record.summary.update if it.key}
                    seen.state = said.get("convoy.state", seen.state)
                    seen.tags = seen.tags | {key: value for key, value in said.items() if key.startswith("convoy.")}
                case "artifact":
                    seen.results = sorted(entry.path for entry in record.artifact.manifest.contents)
        assert steps == sorted(set(steps)), "rows of one run have growing numbers"
        sites |= {key.split("/")[0] for row in rows for key in row if key.endswith("/round/weight")}
        for row in rows:
            for key, value in row.items():
                site, _, rest = key.partition("/")
                if site in sites and rest != "step":
                    curves[site, rest].append((row.get("_convoy/round") or row.get(f"{site}/step", 0), value))
                elif "_convoy/round" in row and key != "round" and not key.startswith("_"):
                    curves["", key].append((row["_convoy/round"], value))
        seen.curves = dict(curves)
        return seen
