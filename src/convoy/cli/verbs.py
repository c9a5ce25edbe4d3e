"""What a person may ask of a server, once for the commands and the console: a client, a screen, the words."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from convoy.admin import findings
from convoy.admin.client import Client
from convoy.cli import heatmaps, output, rows, statistics
from convoy.cli.output import Screen
from convoy.cli.progress import awaited, round_line
from convoy.errors import JobFailed, NotFound, PatienceOut, Refused

if TYPE_CHECKING:
    from convoy.admin import views

NEWEST: Final = 100  # jobs that a list shows unless it is asked for more
CAUSE: Final = 100  # characters of a job's cause in a row of the list; `show` has all of it
SHOWN: Final = 30  # names of results; the model, the rounds and the logs of some sites


async def submit(client: Client, screen: Screen, folder: Path, *, follow: bool = False) -> None:
    """Sign and submit a job's folder; with `follow`, watch it to its end."""
    sent = await client.send(await client.pack(folder))
    if folder.name not in ("", "..", sent.name):
        screen.line(f"{folder.name} is called {sent.name} from now on, as in its job.yaml")
    if follow:
        screen.line(f"submitted {sent.name} as {sent.id}")
        await watch(client, screen, sent.id)
        return
    screen.data({"id": sent.id, "name": sent.name})
    screen.line(f"submitted {sent.name} as {sent.id}")
    screen.line(f"follow it with: convoy job watch {sent.id[:8]}")


async def jobs(client: Client, screen: Screen, *, name: str = "", count: int = NEWEST) -> None:
    """List the newest jobs whose name or id begins with `name`: at most `count`, all of them if that is 0."""
    found = await client.jobs(begins=name, count=count)
    screen.data(found)
    rows = [
        (
            job.id[:8],
            job.name,
            job.state,
            f"{job.round}/{job.rounds or '?'}",
            output.metrics(job.metrics),
            job.submitter,
            output.clock(job.submitted_at),
            output.span(job.ended_at - job.started_at) if job.ended_at and job.started_at else "-",
            output.cut(job.cause, CAUSE),
        )
        for job in found
    ]
    heads = ("id", "name", "state", "round", "metrics", "submitter", "submitted", "took", "cause")
    none = (
        f"no job's name or id begins with {name!r}"
        if name
        else "there are no jobs yet: convoy job new NAME, then convoy job submit NAME"
    )
    screen.table(heads, rows, empty=none)
    if count and len(found) == count:
        screen.line(f"the newest {count}; all of them: convoy job list -n 0")


def _kept(size: int) -> str:
    """Return how much a trainer or a workflow keeps from round to round; nothing for nothing."""
    return output.size(size) if size else ""


def _listed(results: list[str]) -> str:
    """Return the names of results for people: artifacts, of which there may be thousands, come last."""
    ordered = sorted(results, key=lambda name: name.startswith("artifacts/"))
    more = [f"and {len(ordered) - SHOWN} more (--json has all)"] if len(ordered) > SHOWN else []
    return ", ".join(ordered[:SHOWN] + more)


async def show(client: Client, screen: Screen, job: str) -> None:
    """Show a job: its newest rounds, who took part, who was left out and why, the traceback of a failure."""
    detail = await client.job(await client.find(job))
    screen.data(detail)
    record = detail.job
    screen.pairs(
        {
            "job": f"{record.name} ({record.id})",
            "state": record.state + (f": {record.cause}" if record.cause else ""),
            "submitted": f"{output.clock(record.submitted_at)} by {record.submitter} of {record.org}",
            "started": output.clock(record.started_at),
            "ended": output.clock(record.ended_at),
            "workflow": f"{detail.spec.get('workflow', '')} {detail.spec.get('with') or ''}",
            "waiting for": awaited(record) or "-",
            **({"workflow keeps": _kept(detail.state_bytes)} if detail.state_bytes else {}),
            "results": _listed(detail.results) or "-",
        }
    )
    screen.line()
    told = [rows.of_round(made) for made in detail.rounds if made.round > 0]  # round 0: the model that they start from
    screen.table(rows.ROUND, told, empty="no round has been committed yet")
    if detail.rounds and detail.rounds[0].round > 1:
        screen.line(f"earlier rounds, from the first: convoy job rounds {record.id[:8]}")
    screen.line()
    members = [
        (
            member.site,
            member.state,
            isolation(member.missing),
            output.size(member.state_bytes) if member.state_bytes else "",
            member.reason,
        )
        for member in detail.members
    ]
    screen.table(("site", "state", "isolation", "keeps", "reason"), members, empty="no site has it yet")
    if spent := [(member.site, *rows.spent(member.cost)) for member in detail.members if member.cost]:
        screen.line()
        screen.table(("site", *rows.SPENT), spent)
    heatmaps.say(screen, record.metrics)
    if findings.FILE in detail.results:
        statistics.say(screen, await client.result(record.id, findings.FILE, findings.MAX_BYTES))
    if detail.traceback:
        _failed(screen, detail.traceback)
    elif out := sorted({out.site for made in detail.rounds for out in made.left_out}):
        screen.line()
        screen.line(f"for the log of a site that was left out: convoy job logs {record.id[:8]} --site {out[0]}")


async def rounds(client: Client, screen: Screen, job: str, *, after: int = 0, count: int = 0) -> None:
    """List the rounds of a job after a number, in a line each; at most `count` unless that is 0."""
    found, shown = await client.find(job), 0
    total = (await client.job(found, brief=True)).job.rounds
    async with aclosing(client.rounds(found, after=after)) as items:
        async for made in items:
            screen.data(made)
            screen.line(round_line(made, total))
            shown += 1
            if shown == count:
                return
    if not shown:
        screen.line(f"no round after {after} is committed yet")


async def show_round(client: Client, screen: Screen, job: str, number: int) -> None:
    """Show one round with every site: who took part with which weight, who was left out and why."""
    made = await client.round(await client.find(job), number)
    screen.data(made)
    screen.pairs(
        {
            "round": f"{made.round}{', the best so far' if made.best else ''}{'' if made.model else ', not committed'}",
            "committed": output.clock(made.committed_at),
            "model": made.model or "-",
            "metrics": output.metrics(made.metrics) or "-",
        }
    )
    screen.line()
    screen.table(rows.TOOK_PART, [rows.took_part(one, made) for one in made.took_part], empty="-")
    screen.line()
    screen.table(rows.LEFT_OUT, [rows.left_out(out) for out in made.left_out], empty="nobody was left out")


def _failed(screen: Screen, traceback: str) -> None:
    screen.line()
    screen.line("what failed:")
    screen.block(traceback)


async def watch(client: Client, screen: Screen, job: str, *, after: int = -1) -> None:
    """Follow a job until it has ended; raises `PatienceOut` or `JobFailed` unless it completed.

    Of the rounds those after a number are told.
    """
    from convoy.cli import progress

    found = await client.find(job)
    last = await progress.follow(client, screen, found, after=after)
    if last.job.state == "completed":
        screen.line(f"fetch its results with: convoy job fetch {found[:8]}")
        return
    if last.traceback:
        _failed(screen, last.traceback)
        screen.line()
    kind = PatienceOut if last.job.patience_out else JobFailed
    raise kind(
        f"job {last.job.name} {last.job.state}", why=last.job.cause, fix=f"see more with: convoy job logs {found[:8]}"
    )


async def logs(client: Client, screen: Screen, job: str, *, site: str = "", follow: bool = False) -> None:
    """Print the lines that the job's code printed, each after its site's name."""
    found = await client.find(job)
    async for line in client.logs(found, site=site or None, follow=follow):
        screen.data(line)
        screen.line(f"{line.site} | {line.text}")


async def fetch(client: Client, screen: Screen, job: str, folder: Path | None, transfer: Path) -> None:
    """Download a job's results into `folder`, by default a folder of its own under the kit's transfer/."""
    found = await client.find(job)
    record = (await client.job(found, brief=True)).job
    if folder is None:
        folder = transfer / f"{record.name}-{found[:8]}"
    files = await client.fetch(found, folder)
    screen.data({"job": found, "folder": str(folder), "files": [str(file) for file in files]})
    for file in files:
        screen.line(f"{output.size(file.stat().st_size):>9}  {file}")
    if findings.FILE in (file.name for file in files):
        statistics.draw(screen, folder)
    heatmaps.draw(screen, folder, record.metrics)


async def abort(client: Client, screen: Screen, job: str) -> None:
    """End a job."""
    record = await client.abort(await client.find(job))
    screen.data(record)
    screen.line(f"{record.name} ({record.id[:8]}) is {record.state}: {record.cause}")


async def delete(client: Client, screen: Screen, job: str) -> None:
    """Forget an ended job and its results."""
    record = (await client.job(await client.find(job), brief=True)).job
    await client.delete(record.id)
    screen.data({"deleted": record.id})
    screen.line(f"deleted {record.name} ({record.id[:8]}), {record.state} {output.ago(record.ended_at)}")


async def clone(client: Client, screen: Screen, job: str, *, yes: bool = False) -> None:
    """Submit a job once more, as one's own: its files are shown before they are signed.

    A whole id is the digest of what it stands for. A name or the beginning of an id means what the server says it
    means, so somebody looks at the files, or says `yes` without.
    """
    found = await client.find(job)
    bundle = await client.bundle(found)
    screen.line(f"job {found}, signed by {bundle.submitter} at {output.clock(bundle.created)}, has these files:")
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in bundle.files.items()}
    rows = [(name, output.size(len(bundle.files[name])), digest[:12]) for name, digest in digests.items()]
    screen.table(("file", "size", "sha256"), rows)
    if not (yes or found == job or _agreed(screen, "Sign these files as yours and submit them?")):
        raise Refused(
            f"{found[:8]} was not cloned",
            why="its files are signed only after you have looked at them",
            fix=f"convoy job clone {found}; or answer y at a terminal; or add --yes",
        )
    sent = await client.submit_files(bundle.files)
    screen.data({"id": sent.id, "name": sent.name, "files": digests})
    screen.line(f"submitted {sent.name} again as {sent.id}")


def _agreed(screen: Screen, question: str) -> bool:
    """Return whether the person at the terminal says yes; without a terminal nobody does."""
    if screen.json or not sys.stdin.isatty():
        return False
    screen.line(f"{question} [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


async def status(client: Client, screen: Screen) -> None:
    """Show the server in one look."""
    server = await client.status()
    screen.data(server)
    screen.pairs(
        {
            "server": f"{client.link.name}, project {server.project}, Convoy {server.version}",
            "up since": f"{output.clock(server.started_at)} ({output.ago(server.started_at)})",
            "state": server.problem or "takes jobs",
            "jobs": f"{server.jobs_running} running, {server.jobs_waiting} waiting",
            "sites": f"{server.sites_connected} of {server.sites_known} connected",
            "disk free": output.size(server.disk_free),
            "memory": output.size(server.memory),
            "runs on": f"Python {server.python}, {server.platform}",
        }
    )


async def sites(client: Client, screen: Screen, *names: str) -> None:
    """List the sites: all of them, or those named."""
    found = await _sites(client, names)
    screen.data(found)
    _site_table(screen, found)


async def site(client: Client, screen: Screen, name: str) -> None:
    """Show one site."""
    found = await _sites(client, (name,))
    screen.data(found[0])
    _site_table(screen, found)
    for part, why in found[0].missing.items():
        screen.line(f"jobs are not isolated from {part} there: {why}")
    if ends := found[0].certificate_ends_at:
        renews = f"is renewed at {output.clock(at)}" if (at := found[0].renews_at) else "is not renewed by itself"
        screen.line(f"its certificate ends at {output.clock(ends)} and {renews}")


async def _sites(client: Client, names: tuple[str, ...]) -> list[views.SiteView]:
    every = await client.sites()
    found = [site for site in every if not names or site.name in names]
    missing = set(names) - {site.name for site in found}
    if missing:
        names_known = ", ".join(site.name for site in every) or "none"
        raise NotFound(
            f"there is no site {', '.join(sorted(missing))}", why=f"there are: {names_known}", fix="convoy site list"
        )
    return found


def _site_state(site: views.SiteView) -> str:
    if not site.enabled:
        return "disabled"
    if site.connected:
        return "connected"
    return f"away, revoked {output.ago(site.revoked_at)}" if site.revoked_at else "away"


def isolation(missing: Mapping[str, str]) -> str:
    """Return in a word or two how jobs are isolated at a site."""
    return f"no {', '.join(missing)}" if missing else "full"


def _site_table(screen: Screen, found: list[views.SiteView]) -> None:
    rows = [
        (
            site.name,
            site.org,
            _site_state(site),
            "now" if site.connected else output.ago(site.seen_at),
            f"{site.cpu:g}",
            output.size(site.memory),
            f"{site.gpu:g}",
            ", ".join(site.jobs) or "-",
            isolation(site.missing) if site.version else "-",
            site.version or "-",
        )
        for site in found
    ]
    heads = ("site", "org", "state", "seen", "cores", "memory", "gpus", "jobs", "isolation", "version")
    screen.table(heads, rows, empty="the federation has no sites")


async def enable(client: Client, screen: Screen, site: str, *, enabled: bool = True) -> None:
    """Let a site take part in jobs, or not."""
    found = await client.enable(site, enabled=enabled)
    screen.data(found)
    screen.line(f"{found.name} is {'enabled' if found.enabled else 'disabled'}")


async def revoke(client: Client, screen: Screen, site: str) -> None:
    """Take a site's certificate back."""
    found = await client.revoke(site)
    screen.data(found)
    screen.line(f"the certificate of {found.name} is revoked; to let it come back: convoy site invite {found.name}")


async def revoke_admin(client: Client, screen: Screen, name: str) -> None:
    """Take a person's certificates back."""
    await client.revoke_admin(name)
    screen.data({"name": name})
    screen.line(f"the certificates of {name} are revoked; to let them come back: convoy kit invite {name}")


async def problems(client: Client, screen: Screen, *, count: int = 50) -> None:
    """Show the newest warnings and errors of the server."""
    found = await client.problems(count)
    screen.data(found)
    for line in found:
        screen.line(f"{line.site} | {line.text}")
    if not found:
        screen.line("no warnings and no errors since the server started")


async def leave(client: Client, screen: Screen, targets: list[str], *, restart: bool) -> None:
    """Drain and stop, or restart, the server or sites by name; "all": every connected site, then the server."""
    if "all" in targets:
        targets = [*(site.name for site in await client.sites() if site.connected), "server"]
    for target in targets:
        await client.leave(target, restart=restart)
        screen.line(f"{target} drains and {'restarts' if restart else 'stops'}")
    screen.data({"restart" if restart else "stop": targets})
