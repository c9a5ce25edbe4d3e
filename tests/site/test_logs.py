"""A job's log at a site: sent from where the server is, or kept."""

import pytest

from convoy.site.line import Line
from convoy.site.logs import JobLog


@pytest.fixture
async def line():
    made = Line(None, None)
    made.connected.set()
    return made


def sent(line) -> bytes:
    """Return what was sent since the last look, each piece where the one before it ended."""
    data = b""
    while not line._ups.empty():
        data += line._ups.get_nowait().log.data
    return data


async def test_nothing_leaves_before_the_policy_has_been_asked(line, tmp_path):
    log = JobLog("j", "site-1", tmp_path, line)
    log.print(b"early\n")
    await log.close()
    assert sent(line) == b""
    log.open(leaves=True)
    await log.close()
    assert sent(line).endswith(b" early\n")


async def test_what_is_not_gone_yet_stays_when_the_policy_has_changed_and_that_is_said_once(line, tmp_path):
    log = JobLog("j", "site-1", tmp_path, line)
    log.open(leaves=True)
    log.print(b"one\n")
    await log.close()
    first = sent(line)
    log.print(b"two\n")  # while the server is away
    for _ in range(2):  # and the site starts anew
        log = JobLog("j", "site-1", tmp_path, line)
        log.resumed(len(first))
        log.open(leaves=False)
        log.print(b"three\n")
        await log.close()
        said = sent(line)
        assert said.endswith(b"convoy: the log stays at site-1\n")
        assert said.count(b"\n") == 1
    assert log.kept.read_text().count("three") == 2
