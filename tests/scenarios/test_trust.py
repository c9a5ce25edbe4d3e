"""Keys that never leave their owner: joining, renewing, revoking, and who is who, in a federation that runs on."""

import asyncio
import itertools
import json
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from safetensors.numpy import load_file

from convoy.admin import joining, link
from convoy.admin.sync import Session
from convoy.cli import joining as words
from convoy.cli import trail
from convoy.cli.connecting import How
from convoy.cli.joining import Place
from convoy.errors import NotAllowed, Refused
from convoy.provision import kits
from convoy.spec.kit import read_kit
from convoy.spec.project import read_project, with_site
from convoy.trust import enrolment, federation, keys
from convoy.trust.authority import Authority, read_certificate, read_chain
from convoy.trust.peers import identity_of
from tests.federation import ADMIN, Federation, Node, free_ports
from tests.scenarios.conftest import GATES, Gate, adding, overheard, put_job, readyz


@contextmanager
def joined(folder, *, moved=False, **options):
    """A federation of which everybody joins with a token, and the gates of its sites.

    The server's kit is `moved` to a machine of its own: nobody who types finds it beside the root.
    """
    made = Federation(folder, settings=GATES, offline=False, **options)
    if moved:
        made.server.kit = made.server.kit.rename(folder / "elsewhere")
    gates = {name: Gate(node.kit / "local") for name, node in made.nodes.items()}
    try:
        yield made.up(), gates
    finally:
        made.down()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    with joined(tmp_path_factory.mktemp("joined"), sites=2) as (made, gates):
        yield made, gates


CA = "basicConstraints=CA:TRUE"


def pem_of(key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def invited(made, name):
    """Invite a participant, tell the running server, and return the invitation."""
    project, _ = read_project(made.project_yml, "project.yml")
    invitation = kits.invite(project, made.folder, name, now=time.time())
    known = invitation.known
    with made.session() as session:
        session.publish(invitation.federation)
        session.invite(known.hash, known.kind, known.name, known.expires_at)
    return invitation


def sites(session):
    return {site.name: site for site in session.sites()}


def test_who_joins_makes_its_own_key_and_only_its_own_kit_has_it(two, tmp_path):
    made, _ = two
    with made.session() as session:
        assert all(site.connected for site in session.sites())
        folder = put_job(tmp_path / "job", {"train.py": adding()}, with_={"rounds": 1})
        assert session.wait(session.submit(folder).id).job.state == "completed"
    found = {name: read_kit(made.prod / name) for name in ("site-1", "site-2", ADMIN, "server")}
    held = {}
    for name, kit in found.items():
        assert kit.key_file == kit.identity_file
        assert kit.identity_file.stat().st_mode & 0o777 == 0o600
        key = keys.load(kit.identity_file)
        cert = read_certificate(kit.identity_file.read_bytes())
        assert cert.public_key() == key.public_key()
        life = (cert.not_valid_after_utc - cert.not_valid_before_utc).total_seconds() - 60
        assert life == (8 if name == ADMIN else 24) * 3600
        held[name] = pem_of(key)
    for name, key in held.items():
        body = key.split(b"-----")[2].strip()
        for file in made.folder.rglob("*"):
            if file.is_file() and file != found[name].identity_file:
                assert body not in file.read_bytes()
                assert body.replace(b"\n", b"\\n") not in file.read_bytes()


def test_a_site_that_cannot_join_yet_says_so_and_joins_when_the_server_is_there(tmp_path):
    made = Federation(tmp_path / "fed", sites=1, offline=False)
    try:
        with overheard(made.nodes["site-1"]) as until:
            until("not enrolled")
            assert "not enrolled yet: no server answers at localhost" in readyz(made.nodes["site-1"])[1]
            made.server.start()
            until("registered")
    finally:
        made.down()


def test_a_token_is_used_once_and_for_its_own_name_alone(two, tmp_path):
    made, _ = two
    stolen = tmp_path / "site-1"
    shutil.copytree(made.prod / "site-1", stolen, ignore=shutil.ignore_patterns("work", "local"))
    with pytest.raises(NotAllowed, match="no good any more") as refused:
        asyncio.run(joining.enrol(read_kit(stolen), server="localhost"))
    assert "convoy kit invite" in refused.value.fix
    token = invited(made, "site-1").token
    for kind, name in (("site", "site-2"), ("admin", ADMIN), ("admin", "site-1"), ("site", "site-9")):
        with pytest.raises(NotAllowed, match=r"unknown|has no "):
            enrol(made, kind, name, token)
    assert enrol(made, "site", "site-1", token).startswith("-----BEGIN CERTIFICATE-----")
    for file in made.folder.rglob("*"):
        assert not file.is_file() or file.name == "join.token" or token.encode() not in file.read_bytes()


def enrol(made, kind, name, token, request=b""):
    """Ask past our own client."""
    request = request or enrolment.request(keys.make())

    async def ask():
        line = link.Link("localhost", made.admin_port, (made.prod / "server/startup/root.crt").read_bytes())
        said = {"kind": kind, "name": name, "token": token, "request": request.decode()}
        try:
            return json.loads(await line.ask("POST", "/api/v1/enrol", content=json.dumps(said).encode()))["certificate"]
        finally:
            await line.close()

    return asyncio.run(ask())


def test_a_request_says_nothing_but_its_key(two):
    made, _ = two
    token = invited(made, "site-1").token
    key = made.folder / "evil.key"
    keys.save(key, keys.to_pem(keys.make()))
    wish = "subjectAltName=URI:spiffe://bench/admin/ada@example.org,URI:spiffe://bench/server"
    asked = subprocess.run(
        ["openssl", "req", "-new", "-key", key, "-subj", "/CN=server", "-addext", wish, "-addext", CA],
        check=True,
        capture_output=True,
    ).stdout
    cert = read_certificate(enrol(made, "site", "site-1", token, asked).encode())
    text = str(cert.extensions)
    assert "spiffe://bench/site/site-1" in text
    assert "admin" not in text
    assert "ca=False" in text
    assert cert.subject.rfc4514_string() == "CN=site-1"


def test_a_new_site_joins_a_federation_that_runs_and_takes_part_in_the_job(two, tmp_path):
    made, gates = two
    made.project_yml = with_site(made.project_yml, "site-3", "org", file="project.yml")
    invited(made, "site-3")
    node = Node(made.prod / "site-3", free_ports(1)[0])
    with (node.kit / "local" / "node.yaml").open("a") as file:
        file.write(f"\n{GATES}\n")
    made.nodes["site-3"], gates["site-3"] = node, Gate(node.kit / "local")
    node.start()
    with made.session() as session:
        assert sorted(sites(session)) == ["site-1", "site-2", "site-3"]
        folder = put_job(tmp_path / "job", {"train.py": adding()}, with_={"rounds": 1, "min_sites": 3})
        detail = session.wait(session.submit(folder).id)
    assert [share.site for share in detail.rounds[-1].took_part] == ["site-1", "site-2", "site-3"]


def test_a_site_that_is_revoked_is_cut_and_counts_no_more_in_the_open_round(two, tmp_path):
    """Its answer was told to the workflow already: the round is folded anew, without it."""
    made, gates = two
    folder = put_job(
        tmp_path / "job", {"train.py": adding("if task.site == 'site-2':\n    gate(task)")}, with_={"rounds": 1}
    )
    with made.session() as session:
        job = session.submit(folder).id
        gates["site-2"].wait()
        for progress in session.watch(job):  # site-1's answer is in: site-2's alone is awaited
            if "site-1" not in progress.job.waiting_for:
                break
        began = time.monotonic()
        waiting = invited(made, "site-1").token
        session.revoke("site-1")
        with pytest.raises(NotAllowed, match="no good any more"):
            enrol(made, "site", "site-1", waiting)
        away = sites(session)["site-1"]
        assert not away.connected
        assert away.revoked_at > away.seen_at - 60 > 0
        assert time.monotonic() - began < 5
        gates["site-2"].open()
        detail = session.wait(job)
        assert detail.job.state == "completed", detail.job.cause
        last = detail.rounds[-1]
        assert "site-1" not in [share.site for share in last.took_part]
        assert ("site-1", "train: its certificate was revoked") in [(out.site, out.reason) for out in last.left_out]
        session.fetch(job, tmp_path / "results")
        (model,) = (tmp_path / "results").rglob("model.safetensors")
        there = [int(share.site[-1]) for share in last.took_part]
        np.testing.assert_allclose(load_file(model)["w"], sum(n * n for n in there) / sum(there), rtol=1e-6)
        site = made.nodes["site-1"]
        site.stop()
        with overheard(site) as until:
            until("was revoked")
            token = invited(made, "site-1").token
            asyncio.run(joining.enrol(read_kit(site.kit), server="localhost", token=token))
            until("registered")
        site.start()


def test_a_person_who_is_revoked_is_logged_out_and_a_stolen_kit_renews_no_more(two, tmp_path):
    made, gates = two
    lea = "lea@example.org"
    with_lea = made.project_yml + f"  - {{name: {lea}, type: admin, org: org, role: lead}}\n"
    project, _ = read_project(with_lea, "project.yml")
    older, newer = (kits.invite(project, made.folder, lea, now=time.time()) for _ in range(2))
    folder = put_job(tmp_path / "job", {"train.py": adding("gate(task)")}, with_={"rounds": 1})
    with made.session() as session:
        session.publish(newer.federation)
        for known in (older.known, newer.known):
            session.invite(known.hash, known.kind, known.name, known.expires_at)
        with pytest.raises(NotAllowed, match="no good any more"):
            enrol(made, "admin", lea, older.token)
        kit = read_kit(newer.kit)
        asyncio.run(joining.enrol(kit, server="localhost"))
        job = session.submit(folder).id
        with Session(kit, server="localhost") as hers:
            watched = hers.watch(job)
            next(watched)
            assert hers.status().sites_known >= 2
            session.revoke_admin(lea)
            with pytest.raises(NotAllowed, match="was revoked"):
                hers.status()
            for gate in gates.values():
                gate.wait()
                gate.open()
            with pytest.raises(NotAllowed, match="was revoked"):
                list(watched)
        session.wait(job)
        with pytest.raises(NotAllowed, match="was revoked"), Session(kit, server="localhost") as again:
            again.status()
        session.publish(kits.who_is_who(read_project(made.project_yml, "project.yml")[0], made.folder, now=time.time()))
        back = kits.invite(project, made.folder, lea, now=time.time())
        session.publish(back.federation)
        with pytest.raises(NotAllowed, match="was revoked"), Session(kit, server="localhost") as again:
            again.status()
        session.invite(back.known.hash, "admin", lea, back.known.expires_at)
        asyncio.run(joining.enrol(kit, server="localhost", token=back.token))
        made.server.stop()
        made.server.start()
    assert {readyz(node, "?within=30")[0] for node in made.nodes.values()} == {200}
    with Session(kit, server="localhost") as again:
        assert again.status().sites_known >= 2
    with made.session() as session:
        session.publish(kits.who_is_who(read_project(made.project_yml, "project.yml")[0], made.folder, now=time.time()))


def test_a_role_that_changes_counts_at_once_and_an_older_list_never_again(two):
    made, _ = two
    project, _ = read_project(made.project_yml.replace("role: project_admin", "role: member"), "project.yml")
    before = (made.prod / "server/startup/federation.json").read_bytes()
    signed = kits.who_is_who(project, made.folder, now=time.time())
    with made.session() as session:
        session.publish(signed)
        with pytest.raises(NotAllowed, match="does not have the right to do this"):
            session.enable("site-1", enabled=False)
        with pytest.raises(Refused, match="is not newer than the current one"):
            session.publish(before)
        changed = signed.replace(b'"member"', b'"lead"')
        with pytest.raises(NotAllowed, match="differs from what the project's root signed"):
            session.publish(changed)
        again = kits.who_is_who(read_project(made.project_yml, "project.yml")[0], made.folder, now=time.time())
        assert session.publish(again).number == federation.read(signed, root(made)).number + 1
        session.enable("site-1")
        made.nodes["site-2"].stop()
        made.nodes["site-2"].start()  # a site that comes back has what the server knows
    kept = (made.nodes["site-2"].kit / "work" / "federation.json").read_bytes()
    assert kept == again


def root(made):
    return (made.server.kit / "startup/root.crt").read_bytes()


def test_a_certificate_is_renewed_at_half_its_life(tmp_path):
    with joined(tmp_path / "fed", sites=1, server_settings="site_certificate_life: 12s") as (made, _):
        site = made.nodes["site-1"]
        before = read_certificate((site.kit / "work/identity.pem").read_bytes())
        renewed([site.log], 1)
        after = read_certificate((site.kit / "work/identity.pem").read_bytes())
        with made.session() as session:
            seen = session.sites()[0]
        assert seen.certificate_ends_at >= after.not_valid_after_utc.timestamp()
        assert seen.certificate_ends_at - 12 < seen.renews_at < seen.certificate_ends_at
        assert after.public_key() != before.public_key()
        assert after.not_valid_after_utc > before.not_valid_after_utc
        assert "not connected" not in site.log.read_text()
        renewed([made.server.log], 1, "the server's certificate is new")


@pytest.mark.timeout(600)  # twenty renewals of five sites: a slow machine takes minutes
def test_a_hundred_renewals_and_another_root_in_one_job_cost_no_round(tmp_path):
    lea = "lea@example.org"
    with joined(tmp_path / "fed", sites=5, moved=True, people={lea: ("org", "org_admin")}) as (made, gates):
        place = Place(tmp_path / "project.yml", made.folder)
        place.project_file.write_text(made.project_yml)
        how = How(str(made.prod / ADMIN), "localhost", json=True)
        old = read_certificate(root(made))
        train = adding("if task.round == 2:\n    gate(task)")
        folder = put_job(tmp_path / "job", {"train.py": train}, with_={"rounds": 3, "min_sites": 5}, patience="10m")
        with made.session() as session:
            job = session.submit(folder).id
        for gate in gates.values():
            gate.wait()
        logs = [node.log for node in made.nodes.values()]
        for turn in range(20):
            match turn:
                case 5:
                    words.roll(how, place, "begin")
                    words.issue(how, place)
                case 10:
                    with pytest.raises(Refused, match=f"{lea} cannot know the new root"):
                        words.roll(how, place, "turn")
                    words.roll(how, place, "turn", force=True)
                case _:
                    words.issue(how, place)
            renewed(logs, 5 * (turn + 1))
            if turn == 15:
                words.roll(how, place, "finish")
        made.nodes["site-5"].stop()
        made.nodes["site-5"].start()  # the job's bundle is from the root that was
        gates["site-5"].wait()
        for gate in gates.values():
            gate.open()
        with made.session() as session:
            detail = session.wait(job)
        assert detail.job.state == "completed"
        assert [len(done.took_part) for done in detail.rounds[1:]] == [5, 5, 5]
        assert not any(done.left_out for done in detail.rounds)
        for node in (made.server, *made.nodes.values()):
            assert "not connected" not in node.log.read_text()
            kit = read_kit(node.kit)
            (new,) = read_chain(kit.root_file.read_bytes())
            assert new.serial_number != old.serial_number
            identity_of(kit.certificate, kit.root_file.read_bytes(), now=time.time())
        issuing = Authority.load_issuing("bench", *read_kit(made.server.kit).issuing_files)
        _, forged = issuing.issue("site", "site-1", now=time.time())
        with pytest.raises(NotAllowed, match="not from the root"):
            identity_of(forged, kit.root_file.read_bytes(), now=time.time())
        made.server.stop()
        assert "could not be signed" not in made.server.log.read_text()
        made.server.start()  # from a kit whose authority is of the old root
        trail.verify(how, None, ())
        with pytest.raises(NotAllowed, match="is not the server of your kit"):
            trail.verify(replace(how, kit=str(made.prod / lea)), None, ())
        words.invite(how, place, lea)  # into the kit that missed the new root
        asyncio.run(joining.enrol(read_kit(made.prod / lea), server="localhost"))
        trail.verify(replace(how, kit=str(made.prod / lea)), None, ())
        with made.session() as session:
            assert session.status().sites_known == 5


def renewed(logs, count, word="the site's certificate was renewed"):
    """Wait until nodes have renewed so often together."""
    with subprocess.Popen(["tail", "-n", "+1", "-f", *map(str, logs)], stdout=subprocess.PIPE, text=True) as reading:
        lines = (line for line in reading.stdout if word in line)
        assert sum(1 for _ in itertools.islice(lines, count)) == count
        reading.kill()


def test_an_identity_that_is_over_is_refused_and_told_how_to_come_back(two):
    made, _ = two
    kit, issuing = read_kit(made.prod / "site-2"), read_kit(made.prod / "server").issuing_files
    site, now = made.nodes["site-2"], time.time()
    site.stop()
    over = Authority.load_issuing("bench", *issuing).issue("site", "site-2", now=now - 50, days=10 / 86400)
    keys.save(kit.identity_file, b"".join(over))
    with overheard(site) as until:
        until("expired at")
        token = invited(made, "site-2").token
        asyncio.run(joining.enrol(kit, server="localhost", token=token))
        until("registered")
    site.start()
