"""A submitted bundle: verified, checked and stored as the files of a job, before the state machine learns of it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from convoy.admin.port import Person
from convoy.control.records import Job, JobId
from convoy.control.view import ReadOnlyState
from convoy.errors import NotAllowed, Refused, StorageFull
from convoy.server.files import Workspace
from convoy.store.history import History
from convoy.trust import bundle as bundles
from convoy.trust.federation import Membership


@dataclass(frozen=True, slots=True)
class Intake:
    """Accepts bundles for one server."""

    state: ReadOnlyState
    workspace: Workspace
    membership: Membership
    custom_workflows: Collection[str]  # roles whose jobs may contain a workflow of their own
    history: History

    def take(self, person: Person, data: bytes) -> tuple[Job, bool]:
        """Return a job whose files are stored, and whether it was known before.

        Raises `BadInput`, `NotAllowed`, `Refused`, `StorageFull`, `Unreachable`.
        """
        from convoy.flows.check import check_job  # both come after the start: see `FOR_JOBS` in server/app.py
        from convoy.spec.job import read_bundle

        checked = bundles.verify(
            data, root_pem=self.membership.root_pem, project=self.membership.now.project, now=time.time()
        )
        if checked.submitter != person.name:
            raise Refused(
                "the bundle was signed by somebody else",
                why=f"you are {person.name}, it says {checked.submitter}",
                fix="submit it with the kit that signed it",
            )
        spec, document = read_bundle(checked.files)
        if (None if checked.sites is None else set(checked.sites)) != (None if spec.sites is None else set(spec.sites)):
            raise Refused(
                "the bundle is signed for other sites than its job.yaml names",
                why=f"signed: {_named(checked.sites)}; named: {_named(spec.sites)}",
                fix="submit the job folder again",
            )
        check_job(spec, document, checked.files, self.membership.now.sites(), self._room())
        known = JobId(checked.id) in self.state.jobs or self.history.owner(checked.id) is not None
        if not known:  # submitted again: it is stored already, or has ended
            self._keep(checked, data)
        record = Job(
            id=JobId(checked.id),
            name=spec.name,
            submitter=person.name,
            org=person.org,
            bundle=checked.digest,
            size=len(data),
            spec=spec.to_json(),
            state="submitted",
            cause="",
            submitted_at=time.time(),
        )
        return record, known

    def check_workflow(self, person: Person, job: Job) -> None:
        """Raise `NotAllowed` if the workflow is code of the job and the person may not submit one now."""
        from convoy.spec.job import Job as JobSpec

        workflow = JobSpec.from_json(job.spec).workflow
        if ":" in workflow and person.role not in self.custom_workflows:
            listed = ", ".join(self.custom_workflows) or "no role"
            raise NotAllowed(
                f"{person.name} may not run a workflow of their own at this server",
                why=f"{workflow} is code of the job; `custom_workflows` in the server's node.yaml lists {listed}, "
                f"and you are {person.role}",
                fix="use a built-in workflow, or ask the server's owner to add your role",
            )

    def _keep(self, checked: bundles.Bundle, data: bytes) -> None:
        files = self.workspace.job(checked.id)
        try:
            files.make(data)
            for old in (draft := files.folder / "code.tmp", files.code):
                shutil.rmtree(old, ignore_errors=True)
            bundles.unpack(checked, draft)
            draft.replace(files.code)
        except StorageFull:
            files.remove()
            raise

    def _room(self) -> dict[str, tuple[float, float, float]]:
        """Return the total resources of each connected site; a disconnected one may come back with more."""
        there = [site for site in list(self.state.sites.values()) if site.connected]
        return {site.name: (site.capacity.cpu, site.capacity.memory, site.capacity.gpu) for site in there}


def _named(sites: Sequence[str] | None) -> str:
    return "all" if sites is None else ", ".join(sites)
