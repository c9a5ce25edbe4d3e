"""What the pages of a site's owner share: what a look at the site's files found, again and again, and the request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from convoy import errors
from convoy.admin.views import PersonView
from convoy.dashboard import changed, streams
from convoy.dashboard.latest import Latest
from convoy.dashboard.rendering import Place
from convoy.dashboard.route import Frame, Visit
from convoy.dashboard.streams import Event, Sent
from convoy.errors import ConvoyError
from convoy.node.isolation import probe
from convoy.owner import consent, standing
from convoy.owner.account import Accounts, Book
from convoy.owner.standing import Certificate, Datum
from convoy.site.refusals import Refusal
from convoy.spec.approvals import Approval
from convoy.spec.kit import Kit
from convoy.spec.policy import Policy, read_policy
from convoy.spec.settings import Settings, read_settings

DATA_S: Final = 30.0  # between two looks at what `data` names: a folder may have thousands of files
ROLE: Final = "this site"  # what stands in the frame in place of a person's role


@dataclass(frozen=True, slots=True)
class Side:
    """What one look at the site's own files found; times are seconds since the epoch. `fault`: what cannot be read."""

    at: float = 0.0
    person: PersonView | None = None
    fault: ConvoyError | None = None
    settings: Settings | None = None
    policy: Policy | None = None
    policy_fault: ConvoyError | None = None
    pid: int = 0
    trouble: str = ""  # why it is not connected
    certificate: Certificate | None = None
    missing: Mapping[str, str] = field(default_factory=dict)  # what jobs are not isolated from
    accounts: Accounts = field(default_factory=Accounts)
    data: tuple[Datum, ...] = ()
    problems: tuple[str, ...] = ()
    logged: bool = False  # there is a file with the site's log
    waiting: tuple[Refusal, ...] = ()
    approved: tuple[Approval, ...] = ()

    @property
    def person_mark(self) -> str:
        """A word that differs for another site."""
        return sha256(self.person.model_dump_json().encode()).hexdigest()[:16] if self.person else ""


@dataclass(slots=True)
class Watch:
    """Looks at the site's files for as long as `run` runs, and tells every page that waits for a newer look."""

    kit: Kit
    pause_s: float = changed.PAUSE_S
    ages_s: float = changed.AGES_S
    latest: Latest[Side] = field(default_factory=lambda: Latest(Side()))
    book: Book = field(init=False)
    _missing: Mapping[str, str] | None = None
    _data: tuple[float, object, tuple[Datum, ...]] = (0.0, None, ())  # when it was looked at, by what, what was there

    def __post_init__(self) -> None:
        """Read nothing yet."""
        self.book = Book(self.kit.work)

    @property
    def seen(self) -> Side:
        """What was seen last."""
        return self.latest.value

    async def run(self) -> None:
        """Look whenever files may have changed, until cancelled."""
        kit = self.kit
        folders = (kit.root, kit.local, kit.startup, kit.work, kit.work / "jobs")
        async with aclosing(changed.changes(folders, pause_s=self.pause_s, ages_s=self.ages_s)) as changes:
            async for _ in changes:
                await self.look()

    async def look(self) -> None:
        """Look once; files that cannot be read are said, and the rest stays what it was."""
        accounts = self.seen.accounts
        try:
            accounts = self.book.refresh()  # here and not in a thread: pages read what it changes
            found = await asyncio.to_thread(self._read)
        except (ConvoyError, OSError) as problem:
            found = replace(self.seen, fault=errors.shown(problem))
        await self.latest.tell(replace(found, accounts=accounts, person=self._person()))

    def _person(self) -> PersonView:
        return PersonView(name=self.kit.name, org=self.kit.org, role=ROLE)

    def _read(self) -> Side:
        settings, policy, fault = read_settings(self.kit), None, None
        try:
            policy = read_policy(self.kit.local / "policy.yaml")
        except ConvoyError as problem:
            fault = problem
        if self._missing is None:
            self._missing = {} if settings.pods is not None else probe(self.kit.root).missing
        pid = consent.running(self.kit)
        return Side(
            at=time.time(),
            settings=settings,
            policy=policy,
            policy_fault=fault,
            pid=pid,
            trouble=standing.connection(settings, pid),
            certificate=standing.certificate(self.kit),
            missing=self._missing,
            data=self._data_now(settings, policy),
            problems=tuple(standing.problems(self.kit)),
            logged=bool(standing.logs(self.kit)),
            waiting=tuple(consent.waiting(self.kit)),
            approved=consent.approved(self.kit),
        )

    def _data_now(self, settings: Settings, policy: Policy | None) -> tuple[Datum, ...]:
        at, by, found = self._data
        if by != (settings, policy) or time.monotonic() - at > DATA_S:
            found = tuple(standing.data(settings, policy))
            self._data = time.monotonic(), (settings, policy), found
        return found


@dataclass(frozen=True, slots=True)
class SiteState:
    """What all pages of a site's owner share."""

    kit: Kit
    watch: Watch
    frame: Frame
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Turn(Visit):
    """A request to the dashboard of a site."""

    site_state: SiteState
    request: Request
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def frame(self) -> Frame:
        """What all pages share."""
        return self.site_state.frame

    @property
    def seen(self) -> Side:
        """What was seen last."""
        return self.site_state.watch.seen

    @property
    def kit(self) -> Kit:
        """The site's kit."""
        return self.site_state.kit

    def shown(self) -> dict[str, Any]:
        """Return what the frame of a page shows."""
        kit = self.site_state.kit
        return {
            "seen": self.seen,
            "places": self.site_state.places,
            "project": kit.project,
            "site": kit.name,
            "kit": kit,
        }


Part = Callable[[Side], Awaitable[str]]


def push(turn: Turn, made: Mapping[str, Part]) -> Response:
    """Return an answer that sends each part of a page, under its name, whenever a look has changed its text."""

    def told(problem: ConvoyError) -> str:
        return turn.text("_fault.html", fault=problem)

    return streams.push(turn.frame.streams, _parts(turn, made), told)


async def _parts(turn: Turn, made: Mapping[str, Part]) -> AsyncGenerator[Event, None]:
    sent, before = Sent(), turn.seen
    async with aclosing(turn.site_state.watch.latest.changes()) as changes:
        async for seen in changes:
            texts: dict[str, str] = {"fault": "", "banner": turn.text("own/_banner.html")}
            if said := news(before, seen):
                texts["news"] = turn.text("own/_said.html", said=said)
            before = seen
            for name, make in made.items():
                texts[name] = await make(seen)
            for event in sent.fresh(texts):
                yield event


def news(before: Side, now: Side) -> str:
    """Return what a screen reader should say of a change; empty if there is nothing."""
    known = {it.digest for it in before.waiting}
    said = [f"The job {it.name} of {it.submitter} was refused." for it in now.waiting if it.digest not in known]
    if before.at and bool(before.trouble) != bool(now.trouble):
        said.append("The site is connected." if not now.trouble else "The site is not connected.")
    return " ".join(said[:5])
