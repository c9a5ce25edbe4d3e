"""MLflow: a run for each job in an experiment named after the project, and in it a child run for each site.

How far the job is stands in a tag of each run, which goes to the server in the same request as the values. A request
that is repeated because its answer was lost adds nothing: the values have the same step, time and number, which is
what MLflow's database tells values apart by.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from convoy import errors
from convoy.errors import BadInput, Refused
from convoy.spec import printable
from convoy.trackers import events
from convoy.trackers.events import About, Batch, End, Place, Sample
from convoy.trackers.port import Away

JOB, SITE, PLACE, BEST = "convoy.job", "convoy.site", "convoy.place", "convoy.best_round"
PARENT, RUN_NAME, USER, SOURCE = "mlflow.parentRunId", "mlflow.runName", "mlflow.user", "mlflow.source.name"
METRICS: Final = 900  # of one request, beside its tags: MLflow takes 1,000 of both
PARAMS: Final = 100  # of one request
PAGE: Final = 1000  # runs that one request lists
STATUS: Final = {"completed": "FINISHED", "failed": "FAILED", "aborted": "KILLED"}
FINAL: Final = frozenset(
    {
        "BAD_REQUEST",
        "ENDPOINT_NOT_FOUND",
        "INVALID_PARAMETER_VALUE",
        "INVALID_STATE",
        "NOT_IMPLEMENTED",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
    }
)  # codes of errors that another attempt does not mend
DEFAULTS: Final = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # `follow` tries again, and says so
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",  # seconds
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_NO_NAME: Final = re.compile(r"[^\w\-. :/]", re.ASCII)  # what MLflow does not allow in names of metrics and parameters

_CREDENTIALS: Final = re.compile(r"//[^/\s]*@")  # of a URI: up to the last @ before its path
_REMOTE: Final = re.compile(r"[a-z][a-z0-9+.\-]*://[^/]", re.IGNORECASE)  # a URI with a host


@dataclass(slots=True)
class MLflow:
    """Implements `port.Tracker` for an MLflow tracking server; `uri` is what MLFLOW_TRACKING_URI would say."""

    uri: str
    _client: Any = None
    _about: About | None = None
    _runs: dict[str, str] = field(default_factory=dict)  # id of the run of each site; of the job: ""
    _experiment: str = ""
    _place: Place = field(default_factory=Place)

    def __post_init__(self) -> None:
        """Raise `BadInput` where MLflow is not installed, and for a URI whose password cannot be told from its path."""
        if _REMOTE.match(self.uri) and "@" in hidden(self.uri):
            why = "a / ends the host, so a password before this @ would be sent and shown as a part of the path"
            fix = "write %2F for each / of the password, and %40 for an @ elsewhere"
            raise BadInput("the URI of MLflow has an @ after its host", why=why, fix=fix)
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow import MlflowClient
        except ImportError as problem:
            raise errors.not_installed(problem, "mlflow-skinny", extra="mlflow") from problem
        with _answered(self.name):
            self._client = MlflowClient(tracking_uri=self.uri)

    @property
    def name(self) -> str:
        """The server, without a password that the URI may have."""
        return f"MLflow at {hidden(self.uri)}"

    @property
    def wants_results(self) -> bool:
        """The run keeps them as artifacts."""
        return True

    def begin(self, about: About) -> Place:
        """Find the job's runs, or make the first one."""
        self._about = about
        with _answered(self.name):
            self._experiment = self._experiment_of(about.project)
            found = self._found(about.job)
            if "" not in found:
                self._create("", about.name, {})
                found = self._found(about.job)
            self._runs = {site: run.info.run_id for site, run in found.items()}
            own = _said(found[""].data.tags)
            self._place = Place(
                int(own.get("round", -1)),
                {site: number for site, run in found.items() if site and (number := _point(run.data.tags)) >= 0},
                int(own.get("best", -1)),
                bool(own.get("ended", False)),
            )
            if not own:
                self._params(about.params)
                self._log("", [], self._place)
            if not self._place.ended and found[""].info.status != "RUNNING":
                self._client.update_run(self._runs[""], status="RUNNING")
        return self._place

    def write(self, batch: Batch) -> None:
        """Send the batch: first what belongs to sites, then the job's own values with its place."""
        after = self._place.after(batch)
        by_site: defaultdict[str, list[Sample]] = defaultdict(list)
        for one in events.samples(batch):
            by_site[one.site].append(one)
        with _answered(self.name):
            for site, found in by_site.items():
                if site:
                    self._log(site, found, after)
            if batch.rounds:
                self._log("", by_site[""], after)
        self._place = after

    def finish(self, end: End, results: Path | None) -> None:
        """Upload the results, and set the status of all runs; the job's own run is the last."""
        status, at = STATUS.get(end.state, "FAILED"), int(end.at * 1000)
        with _answered(self.name):
            if results is not None:
                self._client.log_artifacts(self._runs[""], str(results))
            for site, run in self._runs.items():
                if site:
                    self._client.set_terminated(run, status="FINISHED", end_time=at)
            place = Place(self._place.round, self._place.points, self._place.best, ended=True)
            self._client.set_terminated(self._runs[""], status=status, end_time=at)
            self._log("", [], place, dict(end.tags))
        self._place = place

    def close(self) -> None:
        """Do nothing: each request has its own connection."""

    def _experiment_of(self, project: str) -> str:
        found = self._client.get_experiment_by_name(project)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(project))
        except _mlflow_error() as problem:  # somebody else has just made it
            found = self._client.get_experiment_by_name(project)
            if found is None:
                raise problem from None
            return str(found.experiment_id)

    def _found(self, job: str) -> dict[str, Any]:
        """Return the job's runs by site; of two for one site, which one lost answer may have caused, the first."""
        found: dict[str, Any] = {}
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment], f"tags.`{JOB}` = '{job}'", max_results=PAGE, page_token=token
            )
            for run in page:
                site = run.data.tags.get(SITE, "")
                found[site] = min(found.get(site, run), run, key=_order)
            token = page.token
            if not token:
                return found

    def _create(self, site: str, name: str, tags: Mapping[str, str]) -> None:
        about = self._about
        assert about is not None  # noqa: S101 - `begin` was called
        own = {RUN_NAME: name, USER: about.tags.get("convoy.submitter", ""), SOURCE: f"convoy job {about.job}"}
        tags = {**about.tags, **own, JOB: about.job, SITE: site, **tags}
        at = int(about.submitted_at * 1000)
        run = self._client.create_run(self._experiment, start_time=at, tags=tags, run_name=name)
        self._runs[site] = run.info.run_id

    def _run_of(self, site: str) -> str:
        if site not in self._runs:
            self._create(site, site, {PARENT: self._runs[""]})
        return self._runs[site]

    def _params(self, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        named = {_named(key): value for key, value in params.items()}
        every = [Param(key, value) for key, value in named.items()]
        for start in range(0, len(every), PARAMS):
            self._client.log_batch(self._runs[""], params=every[start : start + PARAMS])

    def _log(self, site: str, found: Sequence[Sample], place: Place, tags: Mapping[str, str] | None = None) -> None:
        """Send values to a run; the last request has the place, too."""
        from mlflow.entities import Metric, RunTag

        run = self._run_of(site)
        values = [Metric(_named(one.key), one.value, int(one.at * 1000), one.step) for one in found]
        for start in range(0, len(values) - METRICS, METRICS):
            self._client.log_batch(run, metrics=values[start : start + METRICS])
        rest = values[len(values) - 1 - (len(values) - 1) % METRICS :] if values else []
        said: dict[str, Any] = {"round": place.round, "best": place.best, "ended": place.ended}
        said = {"point": place.points.get(site, -1)} if site else said
        best = {BEST: str(place.best)} if not site and place.best >= 0 else {}
        every = {**(tags or {}), **best, PLACE: json.dumps(said)}
        self._client.log_batch(run, metrics=rest, tags=[RunTag(key, value) for key, value in every.items()])


def _order(run: Any) -> tuple[bool, str]:
    """Return what decides between two runs of one site: the one that has values, else the smaller id."""
    return PLACE not in run.data.tags, run.info.run_id


def _said(tags: Mapping[str, str]) -> dict[str, Any]:
    """Return what the tag of a run says about its place. Raises `Refused` where somebody has changed it."""
    if PLACE not in tags:
        return {}
    try:
        said = json.loads(tags[PLACE][: events.MAX_TEXT])
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise Refused(f"the tag {PLACE} of the run is not what Convoy wrote", fix="delete the job's runs in MLflow")
    return said


def _point(tags: Mapping[str, str]) -> int:
    return int(_said(tags).get("point", -1))


def _named(key: str) -> str:
    """Return a name that MLflow allows, which may use it as a path: other characters, and other parts, become `_`."""
    parts = _NO_NAME.sub("_", key)[: events.MAX_NAME].split("/")
    return "/".join("_" if part in ("", ".", "..") else part for part in parts)[: events.MAX_NAME].rstrip("/")


def hidden(text: str) -> str:
    """Return a text whose URIs have no name and no password."""
    return _CREDENTIALS.sub("//", text)


def _mlflow_error() -> type[Exception]:
    from mlflow.exceptions import MlflowException

    return MlflowException  # type: ignore[no-any-return, unused-ignore]


@contextmanager
def _answered(name: str) -> Iterator[None]:
    """Turn the errors of MLflow into Convoy's."""
    error = _mlflow_error()
    try:
        yield
    except (error, OSError) as problem:  # an upload may give the errors of `requests`, which are OSErrors
        why = printable.one_line(hidden(str(problem))) or type(problem).__name__
        code = getattr(problem, "error_code", "")
        if code in FINAL:
            raise Refused(f"{name} refused what was sent", why=why, fix="check the URI and your rights there") from None
        raise Away(f"{name} does not answer", why=why, fix="see MLFLOW_TRACKING_URI, and its server's log") from None
