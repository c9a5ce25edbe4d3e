"""The project's root, made once, and the issuing authority that it lends to the server: they certify keys."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from convoy.errors import BadInput
from convoy.spec.kit import Kind
from convoy.spec.names import is_address
from convoy.trust import files, keys
from convoy.trust.enrolment import BACKDATE_S

DAY_S: Final = 86400.0
ROOT_DAYS: Final = 3650  # changing a root means new kits for everybody: ten years
LEAF_DAYS: Final = 365  # kits with ready keys renew by provisioning again, which people do not do every day
ISSUING_DAYS: Final = 90  # a server that is provisioned anew every quarter of a year never runs out of it
MAX_PEM: Final = 16 << 10  # bytes of certificates read at once: two roots, or a leaf and its issuing authority
_ROOT_PATH_LENGTH: Final = 1  # one issuing authority may stand between the root and its leaves

USAGE: Final = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "site": ExtendedKeyUsageOID.CLIENT_AUTH,
    "admin": ExtendedKeyUsageOID.CLIENT_AUTH,
}


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate that may issue, and its private key; `chain` (PEM) stands between it and the root."""

    project: str
    key: keys.PrivateKey
    cert: x509.Certificate
    chain: bytes = b""

    @classmethod
    def create(cls, project: str, folder: Path, *, now: float) -> Authority:
        """Make a new root in `folder` (root.key, root.crt) and return it; the certificate is written last."""
        key = keys.make()
        cert = _root_builder(project, key, now).sign(key, hashes.SHA256())
        keys.save(folder / "root.key", keys.to_pem(key))
        files.write(folder / "root.crt", cert.public_bytes(serialization.Encoding.PEM), mode=0o644)
        return cls(project, key, cert)

    @classmethod
    def load(cls, folder: Path) -> Authority:
        """Return the root that `create` made in `folder`. Raises `BadInput` where its two files do not match."""
        key, cert = _pair(folder / "root.key", folder / "root.crt")
        return cls(str(cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value), key, cert)

    @classmethod
    def load_issuing(cls, project: str, key_file: Path, cert_file: Path) -> Authority:
        """Return the issuing authority in a server's kit. Raises `BadInput` where its two files do not match."""
        key, cert = _pair(key_file, cert_file)
        return cls(project, key, cert, cert.public_bytes(serialization.Encoding.PEM))

    def issuing(self, *, now: float, days: float = ISSUING_DAYS) -> tuple[bytes, bytes]:
        """Return (key PEM, certificate PEM) of a new authority below this root; below that one are leaves only."""
        key = keys.make()
        return keys.to_pem(key), self.lend(key.public_key(), now=now, days=days)

    def lend(self, public: keys.PublicKey, *, now: float, days: float = ISSUING_DAYS) -> bytes:
        """Return the certificate (PEM) by which somebody's key may issue for leaves."""
        builder = self._builder(_name(f"{self.project[:56]} issuing"), public, now=now, days=days)
        cert = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        return cert.public_bytes(serialization.Encoding.PEM)

    @property
    def pem(self) -> bytes:
        """The root certificate, as kits carry it."""
        return self.cert.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        kind: Kind,
        name: str,
        *,
        now: float,
        hosts: Iterable[str] = (),
        key: keys.PrivateKey | None = None,
        days: float = LEAF_DAYS,
    ) -> tuple[bytes, bytes]:
        """Return (key PEM, certificate PEM) for a participant; with `key`, a certificate for that one."""
        key = key or keys.make()
        return keys.to_pem(key), self.certify(kind, name, key.public_key(), now=now, hosts=hosts, days=days)

    def certify(
        self,
        kind: Kind,
        name: str,
        public: keys.PublicKey,
        *,
        now: float,
        hosts: Iterable[str] = (),
        days: float = LEAF_DAYS,
    ) -> bytes:
        """Return a participant's certificate for its public key, as PEM, and what stands between it and the root.

        A server's certificate carries `hosts`, its name and the local ones. Raises `BadInput` once this has expired.
        """
        builder = self._builder(_name(name), public, now=now, days=days)
        cert = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([USAGE[kind]]), critical=False)
            .add_extension(_alternative_names(self.project, kind, name, hosts), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return cert.public_bytes(serialization.Encoding.PEM) + self.chain

    def _builder(
        self, subject: x509.Name, public: keys.PublicKey, *, now: float, days: float
    ) -> x509.CertificateBuilder:
        """Return what every certificate has that this authority signs: it lives no longer than the authority."""
        if self.cert.not_valid_after_utc <= _instant(now):
            what, fix = ("root", "provision into a new workspace and give every participant a new kit")
            if self.chain:
                what, fix = ("issuing authority", "provision again, and give the server its new kit")
            raise BadInput(f"the {what} of {self.project} expired on {self.cert.not_valid_after_utc:%Y-%m-%d}", fix=fix)
        own = self.cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.cert.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(_instant(now - BACKDATE_S), self.cert.not_valid_before_utc))
            .not_valid_after(min(_instant(now + days * DAY_S), self.cert.not_valid_after_utc))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False)
        )


def spiffe(project: str, kind: Kind, name: str) -> str:
    """Return the one URI that says who a participant is."""
    return f"spiffe://{project}/server" if kind == "server" else f"spiffe://{project}/{kind}/{name}"


def server_hosts(name: str, hosts: Iterable[str]) -> list[str]:
    """Return every name a server answers to, its own first, each once."""
    return list(dict.fromkeys([name, *hosts, "localhost", "127.0.0.1", "::1"]))


def read_certificate(pem: bytes, *, name: str = "the certificate") -> x509.Certificate:
    """Return the certificate in `pem`. Raises `BadInput`, naming it."""
    _check_size(pem, name)
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise BadInput(f"{name} is not a certificate", why=str(error).split("\n")[0]) from error


def read_chain(pem: bytes, *, name: str = "the certificate") -> list[x509.Certificate]:
    """Return the certificates in `pem`, in their order. Raises `BadInput`, naming it."""
    _check_size(pem, name)
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise BadInput(f"{name} is not a certificate", why=str(error).split("\n")[0]) from error


def shown(pem: bytes) -> str:
    """Return the certificates in `pem` and nothing else: a key that lies beside them is not for others."""
    return "".join(cert.public_bytes(serialization.Encoding.PEM).decode() for cert in read_chain(pem))


def _check_size(pem: bytes, name: str) -> None:
    if len(pem) > MAX_PEM:
        raise BadInput(f"{name} is too large", why=f"{len(pem):,} bytes; at most {MAX_PEM:,} are read")


def _pair(key_file: Path, cert_file: Path) -> tuple[keys.PrivateKey, x509.Certificate]:
    """Return an authority's key and certificate. Raises `BadInput` where they do not match."""
    key = keys.load(key_file)
    cert = read_certificate(cert_file.read_bytes(), name=str(cert_file))
    if cert.public_key() != key.public_key():
        raise BadInput(
            f"{key_file.name} and {cert_file.name} in {key_file.parent} do not belong together",
            why="all certificates of the project depend on this pair",
            fix="restore the matching pair from a copy",
        )
    return key, cert


def _root_builder(project: str, key: keys.PrivateKey, now: float) -> x509.CertificateBuilder:
    """Return a root certificate, to be signed by its own key."""
    public: ec.EllipticCurvePublicKey = key.public_key()
    own_id = x509.SubjectKeyIdentifier.from_public_key(public)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(project))
        .issuer_name(_name(project))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_instant(now - BACKDATE_S))
        .not_valid_after(_instant(now + ROOT_DAYS * DAY_S))
        .add_extension(x509.BasicConstraints(ca=True, path_length=_ROOT_PATH_LENGTH), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(own_id, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own_id), critical=False)
    )


def _alternative_names(project: str, kind: Kind, name: str, hosts: Iterable[str]) -> x509.SubjectAlternativeName:
    """Return who this is, and for a server where it answers."""
    hosts = server_hosts(name, hosts) if kind == "server" else []
    return x509.SubjectAlternativeName(
        [
            x509.UniformResourceIdentifier(spiffe(project, kind, name)),
            *(x509.DNSName(host) for host in hosts if not is_address(host)),
            *(x509.IPAddress(ipaddress.ip_address(host)) for host in hosts if is_address(host)),
        ]
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    """Return what the key may do: sign certificates for a root, sign handshakes for everybody else."""
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(name: str) -> x509.Name:
    """Return a subject for people to read; X.509 has room for 64 characters, identity is in the URI."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _instant(now: float) -> dt.datetime:
    """Return seconds since the epoch as a time in UTC, to the second."""
    return dt.datetime.fromtimestamp(int(now), tz=dt.UTC)
