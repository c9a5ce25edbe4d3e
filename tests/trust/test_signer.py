"""The signer: what it certifies, that it refuses all else, and that its client outlives it."""

import os
import resource
import signal
import socket
import stat
import threading
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convoy.errors import BadInput, NotAllowed, Unreachable
from convoy.provision.kits import provision
from convoy.spec.kit import KINDS, PENDING, read_kit
from convoy.spec.project import read_project
from convoy.trust import enrolment, keys, peers, signer
from convoy.trust.authority import Authority, read_certificate, read_chain
from convoy.trust.issuing import Issuing
from convoy.trust.signer import REQUEST, Signer
from tests.federation import free_ports

PROJECT = """
api_version: 3
name: clinics
participants:
  - {{name: server1, type: server, org: a, fed_learn_port: {0}, admin_port: {1}, default_host: localhost}}
  - {{name: site-1, type: client, org: a}}
  - {{name: ada@a.org, type: admin, org: a, role: project_admin}}
"""
LIVES = "site_certificate_life: 2h\nadmin_certificate_life: 1h\n"


@pytest.fixture(scope="module")
def prod(tmp_path_factory):
    """A provisioned project."""
    folder = tmp_path_factory.mktemp("signer")
    project, _ = read_project(PROJECT.format(*free_ports(2)), "project.yml")
    made = provision(project, folder, now=time.time())
    with (made / "server1" / "local" / "node.yaml").open("a") as file:
        file.write(LIVES)
    (made / "server1" / "work").mkdir()
    return made


@pytest.fixture(scope="module")
def own(prod):
    """A signer in this process."""
    return Signer.of(prod / "server1")


@pytest.fixture
def issuing(prod):
    """A signer in a process of its own, and its client."""
    lost = []
    made = Issuing(read_kit(prod / "server1"), lost.append)
    made.lost = lost
    yield made
    made.end()


def point(key):
    return key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


KEY = keys.make()
GOOD = {"kind": 1, "point": point(KEY), "now": 0.0, "name": b"site-1"}


def asked(**changed):
    return REQUEST.pack(*(GOOD | {"now": time.time()} | changed).values())


@pytest.mark.parametrize(
    ("kind", "name", "life_s"), [("server", "server1", 7200), ("site", "site-1", 7200), ("admin", "ada@a.org", 3600)]
)
def test_each_kind_is_certified_with_what_the_kit_says(prod, own, kind, name, life_s):
    now = time.time()
    pem = own.certify(signer.pack(kind, name, KEY.public_key(), now=now), clock=now)
    root_pem = (prod / "server1/startup/root.crt").read_bytes()
    found = peers.identity_of(pem, root_pem, now=now)
    assert (found.kind, found.name) == (kind, "server" if kind == "server" else name)
    cert = read_chain(pem)[0]
    assert cert.public_key() == KEY.public_key()
    assert cert.not_valid_after_utc.timestamp() == int(now + life_s)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"kind": 3}, "does not name a kind of participant"),
        ({"kind": 255}, "does not name a kind of participant"),
        ({"kind": 0}, "names a server"),
        ({"kind": 0, "name": b"evil.example.org"}, "names a server"),
        ({"name": b""}, "does not name a valid site"),
        ({"name": b"server"}, "does not name a valid site"),
        ({"name": b"../site"}, "does not name a valid site"),
        ({"name": b"site-1\0ada@a.org"}, "does not name a valid site"),
        ({"name": b"\0site-1"}, "does not name a valid site"),
        ({"name": "sité".encode()}, "does not name a valid site"),
        ({"name": b"\xff" * 64}, "does not name a valid site"),
        ({"kind": 2}, "does not name a valid admin"),
        ({"kind": 2, "name": b"a" * 60 + b"@b.c"}, None),
        ({"kind": 2, "name": b"ada@a.org/../../server"}, "does not name a valid admin"),
        ({"now": float("nan")}, "the signer does not certify"),
        ({"now": float("inf")}, "the signer does not certify"),
        ({"now": -1.0}, "the signer does not certify"),
        ({"now": 0.0}, "the signer does not certify"),
        ({"now": 1e300}, "the signer does not certify"),
        ({"now": time.time() + 86400}, "the signer does not certify"),
        ({"point": bytes(65)}, "not for a P-256 key"),
        ({"point": b"\x04" + bytes(64)}, "not for a P-256 key"),
        ({"point": b"\x04" + b"\xff" * 64}, "not for a P-256 key"),
        ({"point": b"\x02" + GOOD["point"][1:]}, "not for a P-256 key"),
    ],
)
def test_a_request_that_says_what_cannot_be_is_refused(own, changed, reason):
    if reason is None:
        assert own.certify(asked(**changed), clock=time.time())
        return
    with pytest.raises(BadInput, match=reason):
        own.certify(asked(**changed), clock=time.time())


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 255),
    st.one_of(st.binary(min_size=65, max_size=65), st.just(GOOD["point"])),
    st.one_of(st.floats(width=64), st.just(time.time())),
    st.one_of(st.binary(max_size=64), st.sampled_from([b"site-1", b"ada@a.org", b""])),
)
def test_whatever_a_request_says_it_is_refused_or_the_certificate_says_just_that(own, kind, at, now, name):
    """Never more than one leaf for the key that was given, of the kind and the name that were given."""
    request, clock = REQUEST.pack(kind, at, now, name), time.time()
    try:
        pem = own.certify(request, clock=clock)
    except BadInput:
        return
    cert = read_chain(pem)[0]
    found = peers.identity_of(pem, own.kit.root_file.read_bytes(), now=cert.not_valid_before_utc.timestamp() + 61)
    assert found.kind == KINDS[kind]
    assert found.kind == "server" or found.name.encode() == name.rstrip(b"\0")
    assert cert.public_key() == ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), at)
    assert cert.not_valid_after_utc.timestamp() <= clock + 60 + 7200


def test_what_was_asked_for_before_the_authority_began_is_certified_from_its_beginning_on(own):
    """A token that is used again within its ten minutes counts from its first use, maybe before a new authority."""
    begins = own.authority.cert.not_valid_before_utc.timestamp()
    first = read_chain(own.certify(asked(now=begins - 600), clock=time.time()))[0]
    assert first.not_valid_before_utc.timestamp() == begins
    assert first.not_valid_after_utc.timestamp() == int(begins - 600 + 7200)
    with pytest.raises(BadInput, match="the signer does not certify"):
        own.certify(asked(now=begins - 7200), clock=time.time())


def test_names_that_do_not_fit_a_request_are_not_sent():
    with pytest.raises(BadInput, match="too long"):
        signer.pack("site", "s" * 65, KEY.public_key(), now=0.0)


@pytest.fixture
def spoken(own):
    """Our end of a socket pair at whose other end a signer answers; its certificate has been heard."""
    ours, theirs = socket.socketpair()
    ours.settimeout(30)

    def run():
        with theirs:
            signer.serve(theirs, lambda: own)

    serving = threading.Thread(target=run)
    serving.start()
    assert signer.read_answer(ours) == own.authority.pem
    yield ours
    ours.close()
    serving.join(30)
    assert not serving.is_alive()


def test_after_a_refusal_the_next_request_is_answered_and_no_answer_has_the_key(own, spoken):
    secret = own.authority.key.private_numbers().private_value.to_bytes(32, "big")
    hostile = [
        bytes(REQUEST.size),
        b"\xff" * REQUEST.size,
        b"GET /key HTTP/1.1\r\n".ljust(REQUEST.size, b"\n"),
        asked(),
    ]
    granted = []
    for request in hostile:
        spoken.sendall(request)
        try:
            said = signer.read_answer(spoken)
            granted.append(said)
        except BadInput as refused:
            said = str(refused).encode()
        assert secret not in said
        assert b"PRIVATE" not in said
    assert len(granted) == 1
    assert read_certificate(granted[0]).public_key() == KEY.public_key()


@pytest.mark.parametrize("size", [0, 1, REQUEST.size - 1, REQUEST.size + 1])
def test_half_a_request_is_answered_by_nothing(spoken, size):
    spoken.sendall(asked()[:size] if size < REQUEST.size else asked() + b"x")
    spoken.shutdown(socket.SHUT_WR)
    if size > REQUEST.size:
        signer.read_answer(spoken)
    assert spoken.recv(1) == b""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system has no /proc")
def test_its_process_shows_nothing_to_others_dumps_no_core_and_has_no_environment(prod, monkeypatch):
    monkeypatch.setenv("CONVOY_TEST_PASSWORD", "hunter2")
    issuing = Issuing(read_kit(prod / "server1"), print)
    try:
        assert issuing.cert
        pid = issuing._line.process.pid
        about = Path(f"/proc/{pid}")
        assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
        assert (about / "mem").stat().st_uid == 0  # root's alone, whoever runs the server
        assert "NoNewPrivs:\t1" in (about / "status").read_text()
        if os.geteuid() == 0:
            assert b"hunter2" not in (about / "environ").read_bytes()
            assert os.readlink(about / "fd/0").startswith("socket:")
            assert os.readlink(about / "fd/1") == "/dev/null"
    finally:
        issuing.end()


def test_a_signer_that_is_killed_is_started_again_and_its_client_hears_of_it(issuing):
    before = issuing.cert
    for _ in range(3):
        os.kill(issuing._line.process.pid, signal.SIGKILL)
        pem = issuing.certify("site", "site-1", KEY.public_key(), now=time.time())
        assert read_certificate(pem).public_key() == KEY.public_key()
    assert issuing.cert == before
    assert len(issuing.lost) == 3


def test_where_no_process_can_be_had_the_request_fails_and_a_later_one_does_not(issuing, monkeypatch):
    assert issuing.cert
    issuing.end()
    with monkeypatch.context() as patch:
        patch.setattr("convoy.trust.issuing._PYTHON", ("/nowhere/python", "-m"))
        with pytest.raises(Unreachable, match="cannot certify keys now"):
            issuing.certify("site", "site-1", KEY.public_key(), now=time.time())
    assert issuing.certify("site", "site-1", KEY.public_key(), now=time.time())


def test_what_the_signer_refuses_its_client_raises_and_the_process_stays(issuing):
    assert issuing.cert
    pid = issuing._line.process.pid
    with pytest.raises(BadInput, match="does not name a valid site"):
        issuing.certify("site", "no such name", KEY.public_key(), now=time.time())
    assert issuing.certify("site", "site-1", KEY.public_key(), now=time.time())
    assert issuing._line.process.pid == pid


@pytest.fixture
def copied(prod, tmp_path):
    """Another kit for a server of the project."""
    project, _ = read_project((PROJECT.format(*free_ports(2))), "project.yml")
    made = provision(project, tmp_path, now=time.time())
    kit = read_kit(made / "server1")
    kit.work.mkdir()
    return kit, Authority.load(made.parent / "state")


@pytest.mark.parametrize(
    ("spoil", "kind", "reason"),
    [
        ("pair", BadInput, "do not belong together"),
        ("root", NotAllowed, "not from the root"),
        ("garbage", BadInput, "not a private key that can be read"),
        ("open", BadInput, "readable for other users"),
    ],
)
def test_an_authority_that_is_not_whole_or_not_the_roots_is_refused_in_words(copied, prod, spoil, kind, reason):
    kit, root = copied
    key_file, cert_file = kit.issuing_files
    foreign = Authority.load(prod.parent / "state") if spoil == "root" else root
    key, cert = foreign.issuing(now=time.time())
    match spoil:
        case "pair":
            key_file.write_bytes(key)
        case "root":
            key_file.write_bytes(key)
            cert_file.write_bytes(cert)
        case "garbage":
            key_file.write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        case "open":
            key_file.chmod(0o644)
    issuing = Issuing(kit, print)
    for _ in range(2):
        with pytest.raises(kind, match=reason):
            assert issuing.cert
    issuing.end()


def test_another_authority_is_taken_over_by_the_signer_and_stays_after_a_restart(copied):
    kit, root = copied
    issuing = Issuing(kit, print)
    before = issuing.cert
    request = issuing.request()
    access = read_certificate(root.lend(enrolment.requested_key(request), now=time.time()))
    issuing.take(access)
    assert issuing.cert == access != before
    assert not (kit.work / PENDING).exists()
    assert not kit.accepted_file.exists()
    assert stat.S_IMODE(kit.lent_file.stat().st_mode) == 0o600
    pem = issuing.certify("site", "site-1", KEY.public_key(), now=time.time())
    assert read_chain(pem)[1] == access
    issuing.end()
    assert issuing.cert == access
    issuing.end()


def test_a_certificate_for_another_key_is_not_taken_and_the_authority_stays(copied):
    kit, root = copied
    issuing = Issuing(kit, print)
    before = issuing.cert
    issuing.request()
    other = read_certificate(root.lend(keys.make().public_key(), now=time.time()))
    with pytest.raises(BadInput, match="was not changed"):
        issuing.take(other)
    assert issuing.cert == before
    assert (kit.work / PENDING).exists()
    assert not kit.accepted_file.exists()
    issuing.end()


@pytest.mark.parametrize("left", ["nothing done", "pair written", "key gone"])
def test_what_a_kill_leaves_of_a_takeover_the_next_start_finishes(copied, left):
    kit, root = copied
    key = keys.make()
    access = root.lend(key.public_key(), now=time.time())
    kit.accepted_file.write_bytes(access)
    if left != "key gone":
        keys.save(kit.work / PENDING, keys.to_pem(key))
    if left != "nothing done":
        keys.save(kit.lent_file, keys.to_pem(key) + access)
    found = Signer.of(kit.root)
    assert found.authority.cert == read_certificate(access)
    assert not (kit.work / PENDING).exists()
    assert not kit.accepted_file.exists()
