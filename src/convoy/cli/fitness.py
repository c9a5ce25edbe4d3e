"""What `convoy eks doctor` does: an account and its cluster asked, each finding said with its fix."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from convoy.cli.output import Screen
from convoy.eks import account, inside
from convoy.eks.doctor import Finding, judge
from convoy.eks.facts import Facts, Inside, Unseen
from convoy.eks.repair import Which
from convoy.errors import NotAllowed, Refused

_WIDTH: Final = len("not looked at")


def doctor(screen: Screen, which: Which) -> None:
    """Look, and print every finding. Raises as `say` does, and what `account.look` raises."""

    def look(endpoint: str) -> Inside | Unseen:
        return asyncio.run(inside.look(endpoint, inside.kubeconfigs(os.environ, Path.home()), which))

    say(screen, which, account.look(account.clients(which.region), which, look))


def say(screen: Screen, which: Which, facts: Facts) -> None:
    """Print every finding. Raises `Refused` where something is missing, `NotAllowed` where something was not seen."""
    found = judge(facts, which)
    missing = [finding.name for finding in found if finding.state == "missing"]
    unseen = [finding.name for finding in found if finding.state == "not looked at"]
    well = not missing and not unseen
    screen.data({"ok": well, "cluster": which.name, "findings": [asdict(finding) for finding in found]})
    for line in lines(found):
        screen.line(line)
    if missing:
        raise Refused(
            f"{which.name} is not fit for a federation yet: {len(missing)} of {len(found)} are missing",
            why=", ".join(missing),
            fix="do what stands under each, then `convoy eks doctor` again",
        )
    if unseen:
        raise NotAllowed(
            f"nothing is missing of what was looked at; {len(unseen)} of {len(found)} were not",
            why=", ".join(unseen),
            fix="what stands under each lets you look",
        )
    screen.line(f"{which.name} is fit for a federation. Next: `convoy kube up --image IMAGE`")


def lines(found: Sequence[Finding]) -> list[str]:
    """Return findings as lines for people, each fix on a line of its own, so that it can be pasted."""
    width = max(len(finding.name) for finding in found)
    said = []
    for finding in found:
        said.append(f"{finding.state.ljust(_WIDTH)}  {finding.name.ljust(width)}  {finding.seen}")
        if finding.fix:
            said.append(f"{' ' * _WIDTH}  fix: {finding.fix}")
    return said
