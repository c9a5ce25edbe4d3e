"""The audit trail on a person's side: shown, saved, and verified against what sites kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from convoy.admin.client import Client
from convoy.cli import identity
from convoy.cli.connecting import Asked, How
from convoy.cli.output import Screen
from convoy.errors import BadInput
from convoy.site.checkpoints import FILE
from convoy.spec.kit import Kit
from convoy.spec.settings import read_settings
from convoy.trust import audit, membership


async def show(client: Client, screen: Screen, since: int) -> None:
    """Print the records, a line each; for programs the checkpoints, too."""
    async for entry in client.audit(since):
        if isinstance(entry, audit.Record):
            screen.data({"record": asdict(entry)})
            words = (str(entry.seq), audit.clock(entry.at), entry.actor, entry.action, entry.object, entry.outcome)
            screen.line("  ".join(filter(None, words)))
        else:
            screen.data({"checkpoint": asdict(entry)})


async def save(client: Client, screen: Screen, file: Path) -> None:
    """Write the trail into a file, whole or not at all."""
    draft, records = file.with_name(f".{file.name}.tmp"), 0
    try:
        with draft.open("w") as lines:
            async for entry in client.audit():
                lines.write(f"{audit.line(entry)}\n")
                records += isinstance(entry, audit.Record)
        draft.replace(file)
    except OSError as problem:
        raise BadInput(f"{file} cannot be written", why=problem.strerror or "") from problem
    finally:
        draft.unlink(missing_ok=True)
    screen.data({"file": str(file), "records": records})
    screen.line(f"{records} records in {file}; verify it with: convoy audit verify {file} --kit KIT")


def verify(how: How, file: Path | None, witnesses: tuple[Path, ...]) -> None:
    """Verify a trail, and say what it consists of. Raises `RemoteFault` for the first thing that is wrong."""
    kit = identity.find(how.kit, how.server, kube=how.kube, here=Path.cwd()).kit
    check = audit.Verifier(kit.project, membership.ever(kit))
    kept = witnesses or _own(kit)
    for place in kept:  # before the trail is fetched: what a site was told, the server must have
        check.witness(_checkpoints(place))
    if file is not None:
        for line, where in _lines(file):
            check.take(audit.read(line.removesuffix(b"\n"), where=where))
        _say(Screen(json=how.json), check.end(), kept)
        return
    if kit.kind != "admin":
        raise BadInput(
            f"a {kit.kind}'s kit cannot fetch the trail",
            why="the server gives the trail only to a project_admin or an org_admin",
            fix="have one of them run `convoy audit save FILE`, and verify that FILE with this kit",
        )

    async def fetched(to: Asked) -> None:
        async for entry in to.client.audit():
            check.take(entry)
        _say(to.screen, check.end(), kept)

    how.ask(fetched)


def _own(kit: Kit) -> tuple[Path, ...]:
    """Return the file in which a site keeps the checkpoints that it was sent; an admin has none."""
    file = read_settings(kit).workspace / FILE if kit.kind == "site" else None
    return (file,) if file is not None and file.exists() else ()


def _lines(file: Path) -> Iterator[tuple[bytes, str]]:
    """Yield the lines of a file, each with its name. Raises `BadInput` if it cannot be read."""
    try:
        with file.open("rb") as lines:
            number = 0
            while line := lines.readline(audit.MAX_LINE + 1):
                number += 1
                yield line, f"line {number} of {file}"
    except OSError as problem:
        raise BadInput(f"{file} cannot be read", why=problem.strerror or "") from problem


def _checkpoints(file: Path) -> Iterator[audit.Checkpoint]:
    """Yield what a witness kept; the last line may be one that is being written. Raises `RemoteFault` for nonsense."""
    for line, where in _lines(file):
        if line.endswith(b"\n"):
            entry = audit.read(line.removesuffix(b"\n"), where=where)
            if isinstance(entry, audit.Checkpoint):
                yield entry


def _say(screen: Screen, report: audit.Report, kept: Iterable[Path]) -> None:
    files = [str(place) for place in kept]
    screen.data({"ok": True, "witnesses": files, **asdict(report)})
    if not report.records:
        screen.line("the trail is empty")
        return
    last, loose = report.records - 1, report.records - 1 - report.signed_to
    screen.pairs(
        {
            "records": f"{report.records}, {audit.clock(report.began_at)} to {audit.clock(report.ended_at)}",
            "checkpoints": f"{report.checkpoints}, each signed by the server",
            "witnesses": f"{report.witnessed} checkpoints of {', '.join(files)}" if files else "none",
        }
    )
    screen.line(f"records 0 to {last} are complete and in order")
    if loose:
        screen.line(f"the last {loose} are not signed yet: the server signs within 10 s")
    if not files:
        screen.line(
            "without a witness, a trail that the server rewrote cannot be detected: name a witness with --witness"
        )
