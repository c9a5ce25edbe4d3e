"""What `convoy eks doctor` does: an account and its cluster asked, each finding said with its fix."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from convoy.cli.output import Screen
from convoy.eks import account, inside
from convoy.eks.doctor import judge
from convoy.eks.facts import Facts, Inside, Unseen
from convoy.eks.repair import Which
from convoy.errors import NotAllowed, Refused
from convoy.kube.findings import State, lines


def doctor(screen: Screen, which: Which) -> None:
    """Look, and print every finding. Raises as `say` does, and what `account.look` raises."""

    def look(endpoint: str) -> Inside | Unseen:
        return asyncio.run(inside.look(endpoint, inside.kubeconfigs(os.environ, Path.home()), which))

    say(screen, which, account.look(account.clients(which.region), which, look))


def say(screen: Screen, which: Which, facts: Facts) -> None:
    """Print every finding. Raises `Refused` where there is trouble, `NotAllowed` where something was not seen."""
    found = judge(facts, which)
    trouble = [finding.name for finding in found if finding.state is State.TROUBLE]
    unseen = [finding.name for finding in found if finding.state is State.UNSEEN]
    well = not trouble and not unseen
    screen.data({"ok": well, "cluster": which.name, "findings": [finding.to_json() for finding in found]})
    for line in lines(found):
        screen.line(line)
    if trouble:
        raise Refused(
            f"{which.name} is not fit for a federation yet: trouble in {len(trouble)} of {len(found)} findings",
            why=", ".join(trouble),
            fix="run the command under each problem, then `convoy eks doctor` again",
        )
    if unseen:
        raise NotAllowed(
            f"no trouble was found, but {len(unseen)} of {len(found)} checks could not be made",
            why=", ".join(unseen),
            fix="the command under each of them makes the check possible",
        )
    screen.line(f"{which.name} is fit for a federation. Next: `convoy kube up --image IMAGE`")
