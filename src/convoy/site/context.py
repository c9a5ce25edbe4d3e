"""What every job at a site shares: its kit and settings, the line to the server, and what judges and records."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convoy.node.launcher import Launcher
from convoy.node.phases import Phases
from convoy.node.supervisor import Supervisor
from convoy.site.history import History
from convoy.site.line import Line
from convoy.site.meters import NO_METERS, Meters
from convoy.site.quarantine import Quarantine
from convoy.site.release import Release
from convoy.spec.kit import Kit
from convoy.spec.settings import Settings


@dataclass(frozen=True, slots=True)
class Site:
    """What every job at this site shares."""

    kit: Kit
    settings: Settings
    folder: Path
    line: Line
    launcher: Launcher
    log: Any
    supervisor: Supervisor
    quarantine: Quarantine
    release: Release
    history: History
    meters: Meters = NO_METERS
    phases: Phases = field(default_factory=Phases)
