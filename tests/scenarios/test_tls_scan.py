"""Both doors of a real server, knocked at with every version of TLS, by hand: what OpenSSL no longer says, too."""

import json
import os
import socket
import ssl
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from convoy.spec.kit import read_kit
from convoy.wire import tls
from tests.federation import Federation

pytestmark = pytest.mark.scenario
VERSIONS = {"SSL 3.0": 0x0300, "TLS 1.0": 0x0301, "TLS 1.1": 0x0302, "TLS 1.2": 0x0303}
SUITES = [
    0x002F,
    0x0035,
    0x009C,
    0x009D,
    0xC013,
    0xC014,
    0xC02B,
    0xC02C,
    0xC02F,
    0xC030,
    0xCCA8,
    0xCCA9,
    0x0005,
    0x000A,
]
ALERT, HANDSHAKE, PROTOCOL_VERSION = 21, 22, 70
TLS_1_3_SUITES = {"TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    federation = Federation(tmp_path_factory.mktemp("scan") / "fed", sites=1)
    federation.server.start()
    yield federation
    federation.down()


SSLYZE = "6.3.1"


@pytest.fixture(scope="session")
def sslyze():
    """The scanner, in an environment of its own: it wants an older cryptography than ours."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "convoy-sslyze" / SSLYZE
    if not (cache / "bin" / "sslyze").exists():
        made = subprocess.run([sys.executable, "-m", "venv", cache], capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        command = [cache / "bin" / "python", "-m", "pip", "install", "--quiet", f"sslyze=={SSLYZE}"]
        got = subprocess.run(command, capture_output=True, text=True, check=False)
        if got.returncode:
            pytest.skip(f"sslyze cannot be had here: {got.stderr.strip().splitlines()[-1]}")
    return cache / "bin" / "sslyze"


@pytest.fixture(params=["8002", "8003"])
def port(request, made):
    kit = read_kit(made.prod / "site-1")
    return {"8002": kit.fed_port, "8003": kit.admin_port}[request.param]


def hello(version: int) -> bytes:
    """The first record of a client that knows nothing newer (RFC 5246, section 7.4.1.2)."""
    groups = struct.pack(">HHHHHH", 10, 8, 6, 23, 24, 29)  # supported_groups
    signatures = struct.pack(">HHHHHH", 13, 8, 6, 0x0403, 0x0804, 0x0401)  # signature_algorithms
    extensions = groups + struct.pack(">HHBB", 11, 2, 1, 0) + signatures
    suites = struct.pack(f">{len(SUITES)}H", *SUITES)
    body = struct.pack(">H", version) + os.urandom(32) + b"\0" + struct.pack(">H", len(suites)) + suites + b"\1\0"
    body += struct.pack(">H", len(extensions)) + extensions if version > 0x0300 else b""
    message = b"\1" + len(body).to_bytes(3, "big") + body
    return struct.pack(">BHH", HANDSHAKE, min(version, 0x0301), len(message)) + message


def answer(port: int, said: bytes) -> tuple[int, bytes]:
    """Return the kind and the contents of the first record that comes back; 0 if none does."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock, suppress(ConnectionResetError):
        sock.sendall(said)
        with sock.makefile("rb") as reading:
            if head := reading.read(5):
                return head[0], reading.read(int.from_bytes(head[3:], "big"))
    return 0, b""


@pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS.keys())
def test_both_doors_speak_tls_1_3_alone(version, port):
    kind, contents = answer(port, hello(version))
    assert kind in (0, ALERT)  # asyncio hangs up before its alert is out
    assert kind == 0 or version == VERSIONS["SSL 3.0"] or contents[1] == PROTOCOL_VERSION


def test_a_door_that_opened_to_an_older_version_would_be_found(made):
    kit = read_kit(made.prod / "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(kit.cert_file, kit.key_file)
    heard, said = ssl.MemoryBIO(), ssl.MemoryBIO()
    heard.write(hello(VERSIONS["TLS 1.2"]))
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(heard, said, server_side=True).do_handshake()
    assert said.read()[0] == HANDSHAKE


def test_what_is_no_tls_at_all_is_told_nothing(port):
    # No byte by chance: one string in 500 begins as a record that is yet to end, and the server rightly waits for it.
    noise = bytes(range(251, 187, -1))
    for said in (b"GET / HTTP/1.1\r\n\r\n", b"\x80\x2e\x01\x00\x02" + b"\0" * 43, noise):
        kind, _ = answer(port, said)
        assert kind in (0, ALERT)


def test_in_tls_1_3_the_suites_are_its_own_and_nobody_resumes_without_a_certificate(made, port):
    context = tls.site_context(read_kit(made.prod / "site-1"))
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost") as sock:
        assert sock.version() == "TLSv1.3"
        assert sock.cipher()[0] in TLS_1_3_SUITES
        assert sock.compression() is None


def test_the_door_for_sites_demands_a_certificate_and_gives_no_tickets(made):
    kit = read_kit(made.prod / "site-1")
    bare = ssl.create_default_context(cafile=str(kit.root_file))
    with bare.wrap_socket(socket.create_connection(("127.0.0.1", kit.fed_port)), server_hostname="localhost") as sock:
        sock.settimeout(5)
        with pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"):
            sock.recv(1)
    ours = tls.site_context(kit)
    with ours.wrap_socket(socket.create_connection(("127.0.0.1", kit.fed_port)), server_hostname="localhost") as sock:
        sock.setblocking(False)
        with pytest.raises(ssl.SSLWantReadError):
            sock.recv(1)
        assert sock.session is None or not sock.session.has_ticket


@pytest.mark.timeout(300)
def test_a_scanner_finds_tls_1_3_alone_and_a_certificate_demanded_on_the_door_for_sites(sslyze, made):
    kit = read_kit(made.prod / "site-1")
    doors = {kit.fed_port: "REQUIRED", kit.admin_port: "DISABLED"}
    old = ("sslv2", "sslv3", "tlsv1", "tlsv1_1", "tlsv1_2")
    asked = [f"--{one}" for one in (*old, "tlsv1_3", "heartbleed", "openssl_ccs", "early_data", "compression")]
    command = [sslyze, "--json_out=-", *asked, *(f"localhost:{port}" for port in doors)]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    scans = {one["server_location"]["port"]: one for one in said["server_scan_results"]}
    for port, demanded in doors.items():
        assert scans[port]["connectivity_result"]["client_auth_requirement"] == demanded
        found = {
            name: one["result"] for name, one in scans[port]["scan_result"].items() if one["status"] == "COMPLETED"
        }
        for version in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2"):
            assert found[f"{version}_cipher_suites"]["accepted_cipher_suites"] == []
        accepted = found["tls_1_3_cipher_suites"]["accepted_cipher_suites"]
        assert {one["cipher_suite"]["name"] for one in accepted} == TLS_1_3_SUITES
        assert found["heartbleed"]["is_vulnerable_to_heartbleed"] is False
        assert found["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"] is False
        assert found["tls_compression"]["supports_compression"] is False
        early = found.get("tls_1_3_early_data")  # the scanner cannot try where it has no certificate to show
        assert early is None if demanded == "REQUIRED" else early["supports_early_data"] is False
