"""What the REST API says: frozen views of jobs, rounds, sites and the server."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from convoy.control.records import JobState, MemberState
from convoy.spec import names

JobId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Digest = Annotated[str, Field(pattern="^([0-9a-f]{32,128})?$")]  # of a model; empty: none
Name = Annotated[str, AfterValidator(names.word)]  # of a job, a site, a project
Time = Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]  # seconds since the epoch, 0: never
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Measured = Annotated[float, BeforeValidator(lambda said: float("nan") if said is None else said)]  # JSON has no NaN


class View(BaseModel):
    """The base of all views: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MemberView(View):
    """A site in a job; `missing` is what jobs are not isolated from there (files, processes, network), and why."""

    site: Name
    state: MemberState
    reason: str = ""
    missing: dict[str, str] = {}
    state_bytes: int = 0  # that its trainer keeps there from task to task


class LeftOut(View):
    """A site that gave no update to a round, and why."""

    site: Name
    reason: str


class Contribution(View):
    """A site that took part in a round."""

    site: Name
    weight: Measured


class RoundView(View):
    """A round; `committed_at` is seconds since the epoch. Without a `model` it is the one that the job ended in.

    In lists of rounds `took_part` and `left_out` have 100 sites at most; the counts are of all.
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
    """Some rounds of a job, in their order; `more`: others follow."""

    rounds: list[RoundView]
    more: bool


class JobView(View):
    """A job in one line; `rounds` is 0 while the workflow has not said how many; `patience_out`: it failed of that.

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
    """Some jobs; `next`, where it is not empty, asks for those that follow."""

    jobs: list[JobView]
    next: str


class JobDetail(View):
    """A job with its newest rounds; `traceback` is the traceback of what failed, with the site that said it."""

    job: JobView
    traceback: str
    members: list[MemberView]
    rounds: list[RoundView]
    spec: dict[str, object]
    results: list[str]
    state_bytes: int = 0  # that the workflow keeps beside its model


class Progress(View):
    """One item of a watch: the job now, and the rounds that are new since the item before; `more`: others follow.

    `traceback` stands where it is new, and in the last item.
    """

    job: JobView
    rounds: list[RoundView]
    traceback: str = ""
    more: bool = False


class LogLine(View):
    """One line of a job's log, of `site` ("server" for the workflow)."""

    site: Name
    text: str


class SiteView(View):
    """A site as the server sees it; `seen_at` and `revoked_at` are seconds since the epoch, 0: never.

    `missing` is what jobs are not isolated from there (files, processes, network), and why.
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


class ServerView(View):
    """The server in one look; `problem` says in words what keeps it from taking new work."""

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
    """Something that somebody did, or was not let do; `at` is milliseconds since the epoch, `prev` the hash before."""

    seq: int
    at: int
    actor: str
    action: str
    object: str
    outcome: str
    prev: str
    hash: str


class AuditCheckpoint(View):
    """The server's signature (base64) over the hash of record `seq`, with its certificate (PEM)."""

    seq: int
    hash: str
    at: int
    certificate: str
    signature: str


class AuditLine(View):
    """A line of the audit trail: a record, or the checkpoint of the one before."""

    record: AuditRecord | None = None
    checkpoint: AuditCheckpoint | None = None


class NonceView(View):
    """What a login signs: the project and a nonce good for one login within a minute."""

    project: str
    nonce: str


class LoginAsk(View):
    """Proof of a key: the certificate (PEM) and the signature over the challenge."""

    nonce: str
    certificate: str
    signature: str = Field(repr=False)


class EnrolAsk(View):
    """A join token, for whom it is, and a certificate request (PKCS 10, PEM) for the key that is to be certified."""

    kind: Literal["site", "admin"]
    name: str
    token: str = Field(repr=False)
    request: str


class RenewAsk(View):
    """A certificate request (PKCS 10, PEM) for another key of whoever asks."""

    request: str


class CertificateView(View):
    """A certificate and what stands between it and the root, as PEM."""

    certificate: str


class RequestView(View):
    """A certificate request (PKCS 10, PEM)."""

    request: str


class InviteAsk(View):
    """What a server is to know of a join token: its hash (hexadecimal), for whom it is, until when."""

    hash: str = Field(pattern="^[0-9a-f]{64}$")
    kind: Literal["site", "admin"]
    name: str
    expires_at: float


class FederationView(View):
    """The federation.json that counts now."""

    number: Count
    sites: list[Name]


class PersonView(View):
    """Who one is, as federation.json has it."""

    name: str
    org: str
    role: str


class BearerView(View):
    """A bearer for the Authorization header, good for `ends_in_s` seconds."""

    token: str = Field(repr=False)
    ends_in_s: float
    person: PersonView
    federation: int = 0  # the number of the federation.json that counts now


class Done(View):
    """It is done; there is nothing to tell."""


class Fault(View):
    """An error: its kind, what, why, what to do next, where in a file, and the exit code of the command."""

    kind: str
    what: str
    why: str
    fix: str
    where: str
    code: int
