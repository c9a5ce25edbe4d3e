"""The root and its certificates: what they say, and that TLS at its strictest agrees."""

import datetime as dt
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from convoy.errors import BadInput
from convoy.trust import keys
from convoy.trust.authority import Authority, read_certificate


def value(pem: bytes, kind):
    return read_certificate(pem).extensions.get_extension_for_class(kind)


def test_the_root_is_an_authority_that_signs_certificates_alone(world):
    usage = value(world.root.pem, x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert usage.value.crl_sign
    assert not usage.value.digital_signature
    constraints = value(world.root.pem, x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 1)


@pytest.mark.parametrize(
    ("kind", "uri", "usage"),
    [
        ("server", "spiffe://hospitals/server", ExtendedKeyUsageOID.SERVER_AUTH),
        ("site", "spiffe://hospitals/site/site-1", ExtendedKeyUsageOID.CLIENT_AUTH),
        ("admin", "spiffe://hospitals/admin/ada@example.org", ExtendedKeyUsageOID.CLIENT_AUTH),
    ],
)
def test_a_leaf_has_one_identity_and_one_use(world, kind, uri, usage):
    pem = getattr(world, kind)[1]
    names = value(pem, x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [uri]
    assert list(value(pem, x509.ExtendedKeyUsage).value) == [usage]
    assert value(pem, x509.KeyUsage).critical
    assert value(pem, x509.KeyUsage).value.digital_signature
    assert not value(pem, x509.KeyUsage).value.key_cert_sign
    assert not value(pem, x509.BasicConstraints).value.ca
    own = value(world.root.pem, x509.SubjectKeyIdentifier).value.key_identifier
    assert value(pem, x509.AuthorityKeyIdentifier).value.key_identifier == own
    assert isinstance(read_certificate(pem).public_key().curve, ec.SECP256R1)


def test_a_server_answers_to_its_names_and_to_this_machine_s(world):
    names = value(world.server[1], x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["fl.example.org", "localhost"]
    assert [str(it) for it in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.5", "127.0.0.1", "::1"]


def test_sites_and_people_have_no_host_names(world):
    for pem in (world.site[1], world.admin[1]):
        assert not value(pem, x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)


def test_certificates_begin_a_minute_ago_and_end_in_a_year_within_the_root_s_ten(world, now):
    leaf, root = read_certificate(world.site[1]), world.root.cert
    instant = dt.datetime.fromtimestamp(now, tz=dt.UTC)
    assert instant - leaf.not_valid_before_utc == dt.timedelta(seconds=60)
    assert leaf.not_valid_after_utc - instant == dt.timedelta(days=365)
    assert root.not_valid_after_utc - instant == dt.timedelta(days=3650)
    late = world.root.issue("site", "s", now=now + 3600 * 86400)[1]
    assert read_certificate(late).not_valid_after_utc == root.not_valid_after_utc


def test_an_expired_root_issues_nothing(world, now):
    with pytest.raises(BadInput, match="expired on 2037-01-12"):
        world.root.issue("site", "s", now=now + 3651 * 86400)


def test_a_key_that_exists_gets_a_new_certificate_and_stays(world, now):
    key = keys.from_pem(world.site[0])
    again = world.root.issue("site", "site-1", now=now, key=key)
    assert keys.from_pem(again[0]).public_key() == key.public_key()
    assert again[1] != world.site[1]


def test_a_name_longer_than_a_subject_may_be_is_whole_in_the_names_that_count(world, now):
    host = ".".join(["a" * 40] * 4)
    pem = world.root.issue("server", host, now=now)[1]
    assert host in value(pem, x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)


def test_a_root_is_loaded_as_it_was_made_and_its_key_is_its_owner_s_alone(tmp_path, now):
    made = Authority.create("p", tmp_path, now=now)
    assert Authority.load(tmp_path).cert == made.cert
    assert Authority.load(tmp_path).project == "p"
    assert (tmp_path / "root.key").stat().st_mode & 0o777 == 0o600


def test_two_halves_of_different_roots_are_refused(tmp_path, world, now):
    Authority.create("p", tmp_path, now=now)
    (tmp_path / "root.crt").write_bytes(world.root.pem)
    with pytest.raises(BadInput, match="do not belong together"):
        Authority.load(tmp_path)


def context(today, purpose, identity, folder) -> ssl.SSLContext:
    made = ssl.SSLContext(purpose)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.load_verify_locations(cadata=today.root.pem.decode())
    key, cert = folder / "key.pem", folder / "cert.pem"
    key.write_bytes(identity[0])
    cert.write_bytes(identity[1])
    made.load_cert_chain(cert, key)
    return made


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, host: str) -> None:
    """Run a whole TLS handshake in memory, a byte each way so that both sides have judged the other."""
    wires = [ssl.MemoryBIO(), ssl.MemoryBIO()]
    ends = [
        client.wrap_bio(wires[0], wires[1], server_hostname=host),
        server.wrap_bio(wires[1], wires[0], server_side=True),
    ]
    steps = [ends[0].do_handshake, ends[1].do_handshake, ends[0].do_handshake, ends[1].do_handshake]
    for step in steps:
        try:
            step()
        except ssl.SSLWantReadError:
            continue
    ends[0].write(b"x")
    assert ends[1].read(1) == b"x"


@pytest.mark.parametrize("host", ["fl.example.org", "localhost", "127.0.0.1", "10.0.0.5"])
@pytest.mark.parametrize("who", ["site", "admin"])
def test_strict_mutual_tls_1_3_takes_these_certificates(today, tmp_path, who, host):
    server = context(today, ssl.PROTOCOL_TLS_SERVER, today.server, tmp_path)
    client = context(today, ssl.PROTOCOL_TLS_CLIENT, getattr(today, who), tmp_path)
    shake_hands(client, server, host)


def test_tls_refuses_a_server_under_another_name(today, tmp_path):
    server = context(today, ssl.PROTOCOL_TLS_SERVER, today.server, tmp_path)
    client = context(today, ssl.PROTOCOL_TLS_CLIENT, today.site, tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="evil"):
        shake_hands(client, server, "evil.example.org")


def test_tls_refuses_a_site_that_plays_the_server(today, tmp_path):
    server = context(today, ssl.PROTOCOL_TLS_SERVER, today.site, tmp_path)
    client = context(today, ssl.PROTOCOL_TLS_CLIENT, today.admin, tmp_path)
    client.check_hostname = False
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client, server, "fl.example.org")
