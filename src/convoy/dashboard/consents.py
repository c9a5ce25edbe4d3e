"""The pages of what a site refused: why, the files of a bundle to be read, and its approval and withdrawal."""

from __future__ import annotations

import asyncio
import time
from typing import Final
from urllib.parse import quote

from starlette.responses import RedirectResponse, Response

from convoy.dashboard import site_state
from convoy.dashboard.route import Route
from convoy.dashboard.site_state import Side, Turn
from convoy.errors import BadInput, ConvoyError, NotFound
from convoy.owner import consent, differences
from convoy.owner.account import Account
from convoy.spec.approvals import DIGEST
from convoy.trust.bundle import Bundle

SHOWN: Final = 50  # newest refusals and answers that stayed
MAX_NOTE: Final = 200  # characters that an owner writes beside an approval
DONE: Final = {
    "approved": "The bundle is approved. The site's agent asks for the job again.",
    "later": "The bundle is approved. The site's agent is not running; it takes the job at its next start.",
    "withdrawn": "The approval is withdrawn. A job that runs already goes on.",
}


async def refused(turn: Turn) -> Response:
    """Show what waits for a decision, what is approved, and what was refused before."""
    return turn.page("own/refused.html", rows=await _rows(turn)(turn.seen), done=DONE.get(turn.query("done"), ""))


async def watch(turn: Turn) -> Response:
    """Push the lists as they change."""
    return site_state.push(turn, {"rows": _rows(turn)})


def _rows(turn: Turn) -> site_state.Part:
    async def rows(seen: Side) -> str:
        jobs = list(reversed(seen.accounts.refused))[:SHOWN]
        stayed = list(reversed(seen.accounts.stayed))[:SHOWN]
        return turn.text("own/_refused.html", jobs=jobs, stayed=stayed, approved=list(reversed(seen.approved)))

    return rows


async def bundle(turn: Turn) -> Response:
    """Show the files of a refused bundle, and what changed against the bundle of this name that was approved before."""
    digest = _digest(turn)
    held, checked = await asyncio.to_thread(consent.refused_bundle, turn.kit, digest)
    earlier, before = await asyncio.to_thread(_earlier, turn, held.name, digest)
    files = await asyncio.to_thread(differences.shown, checked.files, before.files if before else None)
    known = digest in {it.digest for it in turn.seen.approved}
    hidden = [file.name for file in files if file.why and file.change not in ("same", "removed")]
    return turn.page(
        "own/bundle.html",
        held=held,
        bundle=checked,
        files=files,
        hidden=hidden,
        earlier=earlier,
        known=known,
    )


def _earlier(turn: Turn, name: str, digest: str) -> tuple[Account | None, Bundle | None]:
    """Return the newest approved bundle of a name that ran here and is still kept."""
    approved = {it.digest for it in consent.approved(turn.kit)} - {digest}
    for account in reversed(list(turn.seen.accounts.jobs.values())):
        if account.name == name and account.digest in approved:
            try:
                found = consent.kept_bundle(turn.kit, account.digest)
            except ConvoyError:  # it can no longer be verified, so nothing is compared with it
                continue
            if found is not None:
                return account, found
    return None, None


async def approve(turn: Turn) -> Response:
    """Approve exactly the bytes that were shown: the form has their digest, and so has the address."""
    digest = _digest(turn)
    if turn.form.get("digest") != digest:
        raise BadInput("the form is not for this bundle", fix="reload the page and read its files again")
    held, _ = await asyncio.to_thread(consent.refused_bundle, turn.kit, digest)
    note = turn.form.get("note", "").strip()[:MAX_NOTE] or f"{held.name} of {held.submitter}"
    told = await asyncio.to_thread(consent.approve, turn.kit, digest, note, now=time.time())
    await turn.site_state.watch.look()
    return RedirectResponse(f"/refused?done={'approved' if told else 'later'}", 303)


async def withdraw(turn: Turn) -> Response:
    """Withdraw an approval."""
    await asyncio.to_thread(consent.withdraw, turn.kit, _digest(turn))
    await turn.site_state.watch.look()
    return RedirectResponse("/refused?done=withdrawn", 303)


def _digest(turn: Turn) -> str:
    digest = turn.path("digest")
    if not DIGEST.fullmatch(digest):
        raise NotFound(f"{quote(digest[:64])} is no digest of a bundle", fix="go to the list of refused jobs")
    return digest


ROUTES: Final = (
    Route("GET", "/refused", refused),
    Route("GET", "/refused/live", watch),
    Route("GET", "/refused/{digest}", bundle),
    Route("POST", "/refused/{digest}/approve", approve),
    Route("POST", "/refused/{digest}/withdraw", withdraw),
)
