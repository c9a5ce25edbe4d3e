"""The JSON models of the REST API: frozen views of jobs, rounds, sites and the server."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from convoy.control import presence
from convoy.control.presence import Standing
from convoy.control.records import JobState, MemberState
from convoy.spec import names

JobId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Digest = Annotated[str, Field(pattern="^([0-9a-f]{32,128})?$")]  # of a model; empty: none
Name = Annotated[str, Field(pattern=f"^{names.WORD_PATTERN}$")]  # of a job, a site, a project
Time = Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]  # seconds since the epoch, 0: never
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Measured = Annotated[float, BeforeValidator(lambda said: float("nan") if said is None else said)]  # JSON has no NaN


class View(BaseModel):
    """The base of all views: frozen, unknown keys refused; validators are built at their first use."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class CostView(View):
    """What answers took, see `control/costs.py`; 0: nothing, or not measured. What a site says is rounded there."""

    pull_s: Number = 0
    train_s: Number = 0
    release_s: Number = 0
    cpu_s: Number = 0
    memory: Count = 0
    gpu_s: Number = 0
    gpu_memory: Count = 0
    energy_j: Number = 0
    took_s: Number = 0
    down: Count = 0
    up: Count = 0
    answers: Count = 0


class MemberView(View):
    """A site in a job; `missing` is what jobs are not isolated from there (files, processes, network), and why."""

    site: Name
    state: MemberState
    reason: str = ""
    missing: dict[str, str] = {}
    state_bytes: int = 0  # bytes of state that its trainer keeps there
    cost: CostView | None = None  # what all its answers to this job took


class LeftOut(View):
    """A site whose update is missing in a round, and why; `norm` and `cosine` as in `Contribution`, if it came."""

    site: Name
    reason: str
    norm: Number | None = None
    cosine: Annotated[float, Field(ge=-1, le=1)] | None = None


class Contribution(View):
    """A site that took part in a round.

    `norm` is the L2 norm of (update - model), `cosine` that of its angle to the fold of all; neither where the workflow
    folds no updates. `cost` is what the site's answers in this round took; lists of rounds are without it.
    """

    site: Name
    weight: Measured
    norm: Number | None = None
    cosine: Annotated[float, Field(ge=-1, le=1)] | None = None
    cost: CostView | None = None


class RoundView(View):
    """A round; `committed_at` is seconds since the epoch. Without a `model` it is the round in which the job ended.

    In lists of rounds `took_part` and `left_out` have 100 sites at most, and in the detail of a job 20; the counts are
    of all.
    """

    round: Count
    model: Digest
    metrics: dict[str, Measured]
    best: bool
    took_part: list[Contribution]
    left_out: list[LeftOut]
    committed_at: Time
    took_part_count: Count
    left_out_count: Count


class RoundPage(View):
    """Some rounds of a job, in their order; `more`: whether more rounds follow."""

    rounds: list[RoundView]
    more: bool


class JobView(View):
    """A job in one line; `rounds` is 0 while the workflow has not said how many; `patience_out`: its patience ran out.

    `waiting_for` has 20 sites at most, `waiting` counts all; `metrics` are those of the last committed round.
    """

    id: JobId
    name: Name
    state: JobState
    cause: str
    submitter: str
    org: str
    submitted_at: Time
    started_at: Time
    ended_at: Time
    round: Count
    rounds: Count
    waiting_for: list[Name]
    waiting: Count
    metrics: dict[str, Measured]
    patience_out: bool = False


class JobPage(View):
    """A page of jobs; `next`, if not empty, requests the following page."""

    jobs: list[JobView]
    next: str


class OpenView(View):
    """A question that sites are answering: who is waited for (100 sites at most; `waiting` counts all), and how long.

    `asked_at` is seconds since the epoch.
    """

    question: str
    kind: str
    round: Count
    asked_at: Time
    answered: Count
    left_out: Count
    waiting: Count
    waiting_for: list[Name]


class JobDetail(View):
    """A job with its newest rounds; `traceback` is the traceback of what failed, with the name of the site."""

    job: JobView
    traceback: str
    members: list[MemberView]
    rounds: list[RoundView]
    spec: dict[str, object]
    results: list[str]
    state_bytes: int = 0  # bytes of state that the workflow keeps
    open: list[OpenView] = []  # questions that are not answered by all, at most 20


class Progress(View):
    """One item of a watch: the job now, and the rounds since the previous item; `more`: whether more follow.

    `traceback` is given when it is new, and in the last item.
    """

    job: JobView
    rounds: list[RoundView]
    traceback: str = ""
    more: bool = False


class LogLine(View):
    """One line of a job's log, of `site` ("server" for the workflow)."""

    site: Name
    text: str


class PointView(View):
    """Live metrics that were measured together at `site` ("server" for the workflow); `at` is seconds since the epoch.

    `number` counts the points of a site. Numbers are missing where a curve was thinned because it has many points.
    """

    site: Name
    number: Count
    at: Time
    round: Count
    step: Count | None = None
    phase: str = ""
    values: dict[str, float]


class SiteView(View):
    """A site as the server sees it; `seen_at` and `revoked_at` are seconds since the epoch, 0: never.

    `certificate_ends_at` and `renews_at` are those of the certificate of its connection, 0: not connected, or, for
    `renews_at`, a certificate that the root signed itself and that is not renewed. `missing` is what jobs are not
    isolated from there (files, processes, network), and why.
    """

    name: Name
    org: str
    connected: bool
    enabled: bool
    version: str
    seen_at: Time
    revoked_at: Time
    cpu: Number
    memory: Count
    gpu: Number
    jobs: list[Name]
    missing: dict[str, str] = {}
    certificate_ends_at: Time = 0
    renews_at: Time = 0

    @property
    def standing(self) -> Standing:
        """How the site is, in one word."""
        return presence.standing(
            enabled=self.enabled, connected=self.connected, seen_at=self.seen_at, revoked_at=self.revoked_at
        )


class AdminView(View):
    """A person of federation.json; `revoked_at` is seconds since the epoch, 0: never."""

    name: str
    org: str
    role: str
    revoked_at: Time


class InviteView(View):
    """A join token that the server knows; times are seconds since the epoch, `used_at` 0: not yet."""

    kind: Literal["site", "admin"]
    name: str
    expires_at: Time
    used_at: Time


class ServerView(View):
    """The state of the server; `problem` says why it accepts no new work, if it does not."""

    project: Name
    version: str
    started_at: Time
    jobs_running: Count
    jobs_waiting: Count
    sites_connected: Count
    sites_known: Count
    problem: str
    disk_free: Count
    python: str
    platform: str
    memory: Count


class AuditRecord(View):
    """An action, or a refused one; `at` is milliseconds since the epoch, `prev` the hash of the previous record."""

    seq: Count
    at: Count
    actor: str
    action: str
    object: str
    outcome: str
    prev: str
    hash: str


class AuditCheckpoint(View):
    """The server's signature (base64) over the hash of record `seq`, with its certificate (PEM)."""

    seq: Count
    hash: str
    at: Count
    certificate: str
    signature: str


class AuditPage(View):
    """Records of the audit trail, newest first; `next`, if not 0, is `before` of the request for older ones."""

    records: list[AuditRecord]
    next: Count


class AuditLine(View):
    """A line of the audit trail: a record, or the checkpoint of the one before."""

    record: AuditRecord | None = None
    checkpoint: AuditCheckpoint | None = None


class NonceView(View):
    """What a login signs: the project and a nonce that is valid for one login within a minute."""

    project: str
    nonce: str


class LoginAsk(View):
    """Proof of a key: the certificate (PEM) and the signature over the challenge."""

    nonce: str
    certificate: str
    signature: str = Field(repr=False)


class EnrolAsk(View):
    """A join token, its participant, and a certificate request (PKCS 10, PEM) for the new key."""

    kind: Literal["site", "admin"]
    name: str
    token: str = Field(repr=False)
    request: str


class RenewAsk(View):
    """A certificate request (PKCS 10, PEM) for a new key of the caller."""

    request: str


class CertificateView(View):
    """A certificate, and the certificates between it and the root, as PEM."""

    certificate: str


class RequestView(View):
    """A certificate request (PKCS 10, PEM)."""

    request: str


class InviteAsk(View):
    """A join token to register: its hash (hexadecimal), its participant, and its expiry."""

    hash: str = Field(pattern="^[0-9a-f]{64}$")
    kind: Literal["site", "admin"]
    name: str
    expires_at: float


class FederationView(View):
    """The current federation.json."""

    number: Count
    sites: list[Name]


class PersonView(View):
    """The caller, as federation.json lists them."""

    name: str
    org: str
    role: str


class BearerView(View):
    """A bearer token for the Authorization header, valid for `ends_in_s` seconds."""

    token: str = Field(repr=False)
    ends_in_s: float
    person: PersonView
    federation: int = 0  # the number of the current federation.json


class Done(View):
    """Success without further data."""


class Fault(View):
    """An error: its kind, what, why, what to do next, where in a file, and the exit code of the command."""

    kind: str
    what: str
    why: str
    fix: str
    where: str
    code: int
