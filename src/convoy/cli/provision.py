"""`convoy provision`: a project.yml, or the sample of one, becomes kits."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

from convoy.errors import BadInput, StorageFull
from convoy.provision import kits
from convoy.provision.sample import PROJECT
from convoy.spec import yamls
from convoy.spec.project import Project, read_project


@dataclass(frozen=True, slots=True)
class Provisioned:
    """What a run did: wrote a sample (`folder` is None), or made the kits in `folder`."""

    project_file: Path
    folder: Path | None = None
    project: str = ""
    server: str = ""
    sites: tuple[str, ...] = ()
    admins: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return the run as JSON values."""
        return {
            "project_file": str(self.project_file),
            "sample_written": self.folder is None,
            "folder": str(self.folder) if self.folder else None,
            "project": self.project,
            "server": self.server,
            "sites": list(self.sites),
            "admins": list(self.admins),
            "ignored": list(self.ignored),
        }

    def lines(self) -> list[str]:
        """Return the run as a person reads it."""
        if self.folder is None:
            return [
                f"Wrote a sample {self.project_file}, because there was none.",
                "Edit it, then run `convoy provision` again.",
            ]
        count = f"{len(self.sites)} site{'' if len(self.sites) == 1 else 's'}"
        people = f"{len(self.admins)} admin{'' if len(self.admins) == 1 else 's'}"
        return [
            *(f"ignored: {line}" for line in self.ignored),
            f"{self.project}: kits for 1 server, {count} and {people} are in {self.folder}",
            f"  server  {self.server}",
            *(f"  site    {name}" for name in self.sites[:_SHOWN]),
            *([f"  …       and {len(self.sites) - _SHOWN} more sites"] if len(self.sites) > _SHOWN else []),
            *(f"  admin   {name}" for name in self.admins),
            "Next: run all of them on this machine with `convoy up`, or give each participant its folder.",
        ]


_SHOWN = 20  # sites in the list for people; --json has them all


def provision(
    project_file: Path, workspace: Path, *, now: float, sample: bool = True, offline: bool = False
) -> Provisioned:
    """Make the next prod_NN from a project.yml; with `sample`, write one where there is none.

    Raises `BadInput` for a file or a workspace that does not do, `StorageFull` for a full disk.
    """
    if sample and not project_file.exists():
        _write_sample(project_file)
        return Provisioned(project_file)
    project, ignored = read_project(yamls.read_text(project_file), str(project_file))
    try:
        folder = kits.provision(project, workspace, now=now, offline=offline)
    except OSError as error:
        why = f"{error.filename or workspace}: {error.strerror}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                "there is no disk space for the kits", why=why, fix="free some disk space and provision again"
            ) from error
        raise BadInput("the kits cannot be written", why=why, fix="choose another workspace with -w") from error
    return _told(project_file, project, folder, ignored)


def _told(project_file: Path, project: Project, folder: Path, ignored: list[str]) -> Provisioned:
    """Return what was made."""
    return Provisioned(
        project_file,
        folder,
        project.name,
        project.server.name,
        tuple(site.name for site in project.sites),
        tuple(admin.name for admin in project.admins),
        tuple(ignored),
    )


def _write_sample(project_file: Path) -> None:
    """Write the sample where nothing is yet."""
    try:
        with project_file.open("x") as file:
            file.write(PROJECT)
    except OSError as error:
        raise BadInput(
            "a sample project file cannot be written here", why=error.strerror or "", where=str(project_file)
        ) from error
