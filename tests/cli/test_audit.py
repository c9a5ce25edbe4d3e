"""The audit trail as people see, save and verify it, with an admin's kit and with a site's."""

import json
import time

import pytest

from convoy.site.checkpoints import Checkpoints
from convoy.trust import audit, keys


@pytest.fixture
def trail(rest):
    """A trail of thirty records and three checkpoints of this federation's server."""
    kit, entries, last = rest.kit("server"), [], None
    for number in range(30):
        at = int(time.time() * 1000)
        last = audit.following(
            last,
            project=kit.project,
            at=at,
            actor="admin:lead@a.org",
            action="submit",
            object=f"job:{number}",
            outcome="done",
        )
        entries.append(last)
        if number % 10 == 9:
            key, pem = keys.load(kit.key_file), kit.certificate.decode()
            entries.append(audit.sign(last, project=kit.project, key=key, certificate=pem, at=at))
    rest.fake.entries = entries
    return entries


@pytest.fixture
def site(rest, trail):
    """The kit of a site that heard every checkpoint."""
    kit = rest.kit("site-1")
    kit.work.mkdir(exist_ok=True)
    witness = Checkpoints(kit.work / "witness.jsonl")
    for entry in trail:
        if isinstance(entry, audit.Checkpoint):
            witness.keep(entry)
    return kit


async def test_the_records_are_shown_a_line_each(convoy, trail):
    said = await convoy("audit", "show", "--since", "28")
    assert said.code == 0, said.err
    assert [line.split("  ")[0] for line in said.out.splitlines()] == ["28", "29"]
    assert said.out.splitlines()[0].endswith("admin:lead@a.org  submit  job:28  done")
    lines = [json.loads(line) for line in (await convoy("audit", "show", "--json", who="boss@b.org")).out.splitlines()]
    assert [list(line) for line in lines].count(["checkpoint"]) == 3


async def test_the_trail_is_nobody_elses(convoy, trail):
    refused = await convoy("audit", "show", who="lead@a.org")
    assert refused.code == 2
    assert "a lead has the right 'audit' for nothing" in refused.err


async def test_an_admin_verifies_what_the_server_says_and_is_told_that_no_witness_was_asked(convoy, trail):
    said = await convoy("audit", "verify")
    assert said.code == 0, said.err
    assert "records 0 to 29 are complete and in order" in said.out
    assert "without a witness" in said.out
    assert json.loads((await convoy("audit", "verify", "--json")).out)["checkpoints"] == 3


async def test_a_site_verifies_a_saved_trail_with_its_own_root_and_its_own_witness(convoy, trail, site, tmp_path):
    saved = await convoy("audit", "save", "trail.jsonl")
    assert saved.code == 0, saved.err
    said = await convoy("audit", "verify", "trail.jsonl", "--kit", site.root, who="root@a.org")
    assert said.code == 0, said.err
    assert f"witnesses    3 checkpoints of {site.work}/witness.jsonl" in said.out

    lines = (tmp_path / "trail.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "cut.jsonl").write_text("".join(lines[:25]))
    said = await convoy("audit", "verify", "cut.jsonl", "--kit", site.root)
    assert said.code == 1
    assert "the end of the trail is missing: records 23 to 29" in said.err
    (tmp_path / "edited.jsonl").write_text("".join(lines).replace('"job:7"', '"job:8"'))
    said = await convoy("audit", "verify", "edited.jsonl", "--kit", site.root)
    assert said.code == 1
    assert "record 7 was changed" in said.err
    (tmp_path / "odd.jsonl").write_text("{}\n")
    assert "line 1 of odd.jsonl is neither a record" in (await convoy("audit", "verify", "odd.jsonl")).err


async def test_an_admin_verifies_what_the_server_says_with_the_witness_of_a_site(convoy, rest, trail, site):
    said = await convoy("audit", "verify", "--witness", site.work / "witness.jsonl")
    assert said.code == 0, said.err
    rest.fake.entries = trail[:-3]
    said = await convoy("audit", "verify", "--witness", site.work / "witness.jsonl", "--json")
    assert said.code == 1
    assert json.loads(said.err)["error"]["what"] == "the end of the trail is missing: records 28 to 29"


async def test_what_a_site_cannot_do_is_said_with_the_way_round_it(convoy, site):
    said = await convoy("audit", "verify", "--kit", site.root)
    assert said.code == 4
    assert "convoy audit save FILE" in said.err
    said = await convoy("audit", "verify", "nowhere.jsonl", "--kit", site.root)
    assert said.code == 4
    assert "nowhere.jsonl cannot be read" in said.err
