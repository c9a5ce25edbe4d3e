"""What the REST API says: frozen views of jobs, rounds, sites and the server."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class View(BaseModel):
    """The base of all views: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MemberView(View):
    """A site in a job; `missing` is what jobs are not isolated from there (files, processes, network), and why."""

    site: str
    state: str
    reason: str = ""
    missing: dict[str, str] = {}


class LeftOut(View):
    """A site that gave no update to a round, and why."""

    site: str
    reason: str


class Share(View):
    """A site that took part in a round."""

    site: str
    weight: float


class RoundView(View):
    """A round; `committed_at` is seconds since the epoch. Without a `model` it is the one that the job ended in."""

    round: int
    model: str
    metrics: dict[str, float]
    best: bool
    took_part: list[Share]
    left_out: list[LeftOut]
    committed_at: float


class JobView(View):
    """A job in one line; `rounds` is 0 while the workflow has not said how many; `patience_out`: it failed of that."""

    id: str
    name: str
    state: str
    cause: str
    submitter: str
    org: str
    submitted_at: float
    started_at: float
    ended_at: float
    round: int
    rounds: int
    waiting_for: list[str]
    metrics: dict[str, float]
    patience_out: bool = False


class JobDetail(View):
    """A job in full; `story` is the traceback of what failed, with the site that said it."""

    job: JobView
    story: str
    members: list[MemberView]
    rounds: list[RoundView]
    spec: dict[str, object]
    results: list[str]


class Progress(View):
    """One item of a watch: the job now, and the rounds that are new since the item before."""

    job: JobView
    rounds: list[RoundView]
    story: str = ""


class LogLine(View):
    """One line of a job's log, of `site` ("server" for the workflow)."""

    site: str
    text: str


class SiteView(View):
    """A site as the server sees it; `seen_at` and `revoked_at` are seconds since the epoch, 0: never.

    `missing` is what jobs are not isolated from there (files, processes, network), and why.
    """

    name: str
    org: str
    connected: bool
    enabled: bool
    version: str
    seen_at: float
    revoked_at: float
    cpu: float
    memory: int
    gpu: float
    jobs: list[str]
    missing: dict[str, str] = {}


class ServerView(View):
    """The server in one look; `problem` says in words what keeps it from taking new work."""

    project: str
    version: str
    started_at: float
    jobs_running: int
    jobs_waiting: int
    sites_connected: int
    sites_known: int
    problem: str
    disk_free: int
    python: str
    platform: str
    memory: int


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

    number: int
    sites: list[str]


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
