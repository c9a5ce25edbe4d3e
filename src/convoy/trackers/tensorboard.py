"""TensorBoard: event files in a folder of the job, and in a folder of each site beneath it, so that curves overlay.

A small file beside them says how long each event file is and how far the job is; it is written after them, all or
nothing. So a kill in between is undone at the next start: each file is cut to the length that is known to be whole.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from convoy import errors
from convoy.errors import BadInput, Refused
from convoy.spec import jsons
from convoy.trackers import events
from convoy.trackers.events import About, Batch, End, Place, Sample
from convoy.trust import files

if TYPE_CHECKING:
    from collections.abc import Iterator

STATE: Final = "convoy.json"
MAX_STATE: Final = 4 << 20  # bytes: a line for each of some thousand sites
MOST: Final = 10  # lists and mappings in it
VERSION: Final = "brain.Event:2"  # what an event file begins with
STATUS: Final = {"completed": "STATUS_SUCCESS", "failed": "STATUS_FAILURE", "aborted": "STATUS_FAILURE"}


@dataclass(slots=True)
class TensorBoard:
    """Implements `port.Tracker` for a folder that TensorBoard shows (`tensorboard --logdir FOLDER`)."""

    folder: Path
    _run: Path = Path()
    _place: Place = field(default_factory=Place)
    _about: About | None = None
    _sizes: dict[str, int] = field(default_factory=dict)  # bytes of each event file that are known to be whole
    _lock: IO[bytes] | None = None

    def __post_init__(self) -> None:
        """Raise `BadInput` where TensorBoard is not installed."""
        try:
            import tensorboard.compat.proto  # noqa: F401 - whether it is there
        except ImportError as problem:
            raise errors.not_installed(problem, "tensorboard", extra="tensorboard") from problem

    @property
    def name(self) -> str:
        """The folder."""
        return f"TensorBoard's folder {self.folder}"

    @property
    def wants_results(self) -> bool:
        """Event files have no place for them."""
        return False

    def begin(self, about: About) -> Place:
        """Open the job's folder, which nobody else may write to meanwhile; undo what a kill left half written."""
        self.close()
        self._about, self._run = about, self.folder / f"{about.name}-{about.job[:8]}"
        with _disk():
            self._run.mkdir(parents=True, exist_ok=True)
            self._hold()
            known = self._run / STATE
            state = _read(known) if known.exists() else {}
            if state.get("job", about.job) != about.job:
                raise Refused(f"{self._run} holds another job", why=f"{state['job']}", fix="use another folder")
            self._sizes = {str(name): int(size) for name, size in state.get("sizes", {}).items()}
            self._place = Place(
                int(state.get("round", -1)),
                {str(site): int(number) for site, number in state.get("points", {}).items()},
                int(state.get("best", -1)),
                bool(state.get("ended", False)),
            )
            for file in self._run.rglob("events.out.tfevents.*.convoy"):
                name = file.relative_to(self._run).as_posix()
                os.truncate(file, min(self._sizes.get(name, 0), file.stat().st_size))
            if not state:
                self._append("", about.submitted_at, [*_texts(about), _session(about)], step=0)
                self._keep(self._place)
        return self._place

    def write(self, batch: Batch) -> None:
        """Append the batch to the event files of the job and of its sites."""
        by_site: defaultdict[str, list[Sample]] = defaultdict(list)
        for one in events.samples(batch):
            by_site[one.site].append(one)
        with _disk():
            for site, found in by_site.items():
                self._append_all(site, [(one.at, one.step, [_scalar(one)]) for one in found])
            for made in batch.rounds:
                if made.left_out:
                    said = "\n".join(f"- **{site}**: {why}" for site, why in made.left_out)
                    self._append("", made.at, [_text("round/left_out_reasons", said)], step=made.number)
            self._keep(self._place.after(batch))

    def finish(self, end: End, results: Path | None) -> None:
        """Append how the job ended. Results stay where they are: TensorBoard shows no files."""
        del results
        with _disk():
            tags = dict(end.tags) | {"convoy.best_round": str(self._place.best)}
            step = max(self._place.round, 0)
            self._append("", end.at, [_text("convoy/end", _table(tags)), _session_end(end)], step=step)
            place = self._place
            self._keep(Place(place.round, place.points, place.best, ended=True))

    def close(self) -> None:
        """Let somebody else write to the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _hold(self) -> None:
        self._lock = (self._run / ".convoy.lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            self.close()
            raise Refused(
                f"{self._run} is written by another process", why="one process follows a job for a folder"
            ) from problem

    def _append(self, site: str, at: float, values: list[Any], *, step: int) -> None:
        self._append_all(site, [(at, step, values)])

    def _append_all(self, site: str, found: Iterable[tuple[float, int, list[Any]]]) -> None:
        """Append events (time, step, values) to the file of a site, or of the job, and onto the disk."""
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        assert self._about is not None  # noqa: S101 - `begin` was called
        folder = self._run / site
        folder.mkdir(exist_ok=True)
        path = folder / f"events.out.tfevents.{int(self._about.submitted_at):010d}.convoy"
        with path.open("ab") as file:
            writer = RecordWriter(file)
            if not file.tell():
                first = event_pb2.Event(wall_time=self._about.submitted_at, file_version=VERSION)
                writer.write(first.SerializeToString())
            for at, step, values in found:
                summary = summary_pb2.Summary(value=values)
                writer.write(event_pb2.Event(wall_time=at, step=step, summary=summary).SerializeToString())
            file.flush()
            os.fsync(file.fileno())
            self._sizes[path.relative_to(self._run).as_posix()] = file.tell()

    def _keep(self, place: Place) -> None:
        """Write down how long the files are and how far the job is."""
        assert self._about is not None  # noqa: S101 - `begin` was called
        state = {
            "job": self._about.job,
            "round": place.round,
            "best": place.best,
            "ended": place.ended,
            "points": dict(place.points),
            "sizes": self._sizes,
        }
        files.write(self._run / STATE, json.dumps(state).encode(), mode=0o644)
        self._place = place


def _read(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        data = file.read(MAX_STATE + 1)
    try:
        said = jsons.load(data, most=MOST) if len(data) <= MAX_STATE else None
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise BadInput(f"{path} is not what Convoy writes there", fix="remove it: the job is then written anew")
    return said


@contextmanager
def _disk() -> Iterator[None]:
    """Turn what the disk refuses into Convoy's errors: a full one is tried again later."""
    try:
        yield
    except OSError as problem:
        raise errors.of_files(problem) or Refused("the event files are not written", why=str(problem)) from problem


def _scalar(one: Sample) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary.Value(tag=one.key, simple_value=one.value)


def _text(tag: str, said: str) -> Any:
    from tensorboard.compat.proto import summary_pb2, tensor_pb2, types_pb2

    plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name="text")
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[said.encode()])
    tensor.tensor_shape.dim.add().size = 1
    metadata = summary_pb2.SummaryMetadata(plugin_data=plugin, data_class=summary_pb2.DATA_CLASS_TENSOR)
    return summary_pb2.Summary.Value(tag=tag, tensor=tensor, metadata=metadata)


def _table(rows: Mapping[str, str]) -> str:
    """Return rows as a table of Markdown, which TensorBoard shows as one."""
    cells = [f"| {key} | {' '.join(value.split()).replace('|', chr(92) + '|')} |" for key, value in rows.items()]
    return "\n".join(["| name | value |", "|---|---|", *cells])


def _texts(about: About) -> list[Any]:
    return [_text("convoy/parameters", _table(about.params)), _text("convoy/job", _table(about.tags))]


def _session(about: About) -> Any:
    """Return the record from which the HParams page takes the job's parameters."""
    from tensorboard.plugins.hparams import plugin_data_pb2

    start = plugin_data_pb2.SessionStartInfo(start_time_secs=about.submitted_at, group_name=about.name)
    for key, value in about.params.items():
        try:
            start.hparams[key].number_value = float(value)
        except ValueError:
            start.hparams[key].string_value = value
    return _hparams("_hparams_/session_start_info", plugin_data_pb2.HParamsPluginData(session_start_info=start))


def _session_end(end: End) -> Any:
    from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

    status = getattr(api_pb2, STATUS.get(end.state, "STATUS_UNKNOWN"))
    info = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=end.at)
    return _hparams("_hparams_/session_end_info", plugin_data_pb2.HParamsPluginData(session_end_info=info))


def _hparams(tag: str, data: Any) -> Any:
    from tensorboard.compat.proto import summary_pb2, tensor_pb2, types_pb2

    plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name="hparams", content=data.SerializeToString())
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[0.0])  # the page reads the metadata alone
    tensor.tensor_shape.SetInParent()
    return summary_pb2.Summary.Value(tag=tag, tensor=tensor, metadata=summary_pb2.SummaryMetadata(plugin_data=plugin))
