"""The start of a server: what one that was killed has left is removed, and nothing else."""

import pytest

from convoy.control.records import Job
from convoy.control.state import LiveJob, State
from convoy.server import start
from convoy.server.files import Workspace

OPEN, ENDED, STRANGE = "a" * 32, "b" * 32, "c" * 32


class Jobs:
    """A history that knows two jobs."""

    def known(self, names):
        return {*names} & {OPEN, ENDED}


@pytest.fixture
def workspace(tmp_path):
    """A workspace with the files of three jobs."""
    found = Workspace(tmp_path)
    for job in (OPEN, ENDED, STRANGE):
        files = found.job(job)
        files.make(b"a bundle")
        for folder in (files.code, files.out, files.drafts, files.artifacts):
            folder.mkdir()
        (files.blobs.folder / "model").touch()
    return found


def tidied(workspace):
    job = LiveJob(Job(OPEN, "n", "ada", "org", "d" * 64, 9, "{}", "submitted", "", 1.0), start.NOTHING)
    start.tidy(State(4, {}, {OPEN: job}), Jobs(), workspace, start.Found())
    return {path.name for path in workspace.job(ENDED).folder.iterdir()}


def test_the_working_files_of_a_job_that_ended_go_though_the_server_was_killed_before_it_removed_them(workspace):
    workspace.job(ENDED).kept.touch()
    assert tidied(workspace) == {"bundle", "logs"}
    assert not workspace.job(STRANGE).folder.exists()
    assert workspace.job(OPEN).code.exists()


def test_models_that_are_not_among_the_results_stay(workspace):
    assert tidied(workspace) == {"bundle", "logs", "blobs", "artifacts"}
    workspace.job(ENDED).blobs.folder.joinpath("model").unlink()
    assert tidied(workspace) == {"bundle", "logs", "blobs", "artifacts"}
