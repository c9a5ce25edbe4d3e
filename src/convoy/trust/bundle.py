"""A job's bundle: its files, the signed list of them, and the checks before anything is unpacked."""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import blake3

from convoy.errors import BadInput, NotAllowed, RemoteFault, StorageFull
from convoy.spec import jsons
from convoy.trust import paths

MAGIC: Final = b"CONVOYB1"
MAX_BYTES: Final = 64 << 20  # of a whole bundle: it carries code, not data
MAX_FILES: Final = 10_000  # as many as a large repository has
MAX_ENVELOPE: Final = 4 << 20  # bytes: 10,000 files with names of 200 characters
MAX_LISTS: Final = 40_000  # lists in its JSON: one for each file, and brackets in their names
MAX_DAYS: Final = 90  # the longest validity of a signature
MAX_TIME: Final = 1e12  # seconds since the epoch, in 30,000 years: dates stay within what can be calculated
SKEW_S: Final = 300  # by which a submitter's clock may be ahead of ours
_PREFIX: Final = b"convoy bundle 1\n"  # a signature for one purpose is no good for another
_HEAD: Final = len(MAGIC) + 4

Bytes = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle; `files` are views of its bytes, times are seconds since the epoch."""

    id: str  # of its manifest, which holds a nonce: the same job however often it is sent
    digest: str  # BLAKE3 of all its bytes
    submitter: str
    project: str
    created: float  # not good before this
    expires: float  # nor, for who gets it then, after this
    sites: tuple[str, ...] | None  # that may take it; None: all
    files: Mapping[str, memoryview] = field(repr=False)


def pack(
    files: Mapping[str, Bytes],
    *,
    project: str,
    submitter: str,
    key_pem: bytes,
    cert_pem: bytes,
    now: float,
    days: float = 30,
    sites: Iterable[str] | None = None,
) -> bytes:
    """Return a bundle of these files, signed by their submitter. Raises `BadInput` for files no bundle may hold."""
    from convoy.trust import authority, keys

    ordered = sorted(files)
    problem = paths.problem(ordered)
    total = sum(len(files[path]) for path in ordered)
    if problem:
        raise BadInput(f"a job cannot carry this file: {problem}", fix="rename it, or remove it from the job folder")
    if len(ordered) > MAX_FILES or total > MAX_BYTES - _HEAD:
        raise BadInput(
            f"{len(ordered):,} files of {total:,} bytes are too many for a job",
            why=f"a job holds at most {MAX_FILES:,} files and {MAX_BYTES:,} bytes",
            fix="keep data out of the job folder: each site names its own data in local/node.yaml",
        )
    manifest = _json(
        {
            "format": 1,
            "project": project,
            "submitter": submitter,
            "created": now,
            "expires": now + days * 86400,
            "nonce": secrets.token_hex(16),
            "sites": None if sites is None else sorted(sites),
            "files": [[path, len(files[path]), hashlib.sha256(files[path]).hexdigest()] for path in ordered],
        }
    )
    signature = keys.sign(keys.from_pem(key_pem), _PREFIX + manifest)
    envelope = _envelope(manifest, signature, authority.read_chain(cert_pem))
    data = b"".join([MAGIC, len(envelope).to_bytes(4, "little"), envelope, *(files[path] for path in ordered)])
    if len(data) > MAX_BYTES or len(envelope) > MAX_ENVELOPE:
        raise BadInput(f"the bundle has {len(data):,} bytes; at most {MAX_BYTES:,} are accepted")
    return data


def verify(data: Bytes, *, root_pem: bytes, project: str, now: float) -> Bundle:
    """Return the bundle in `data` once everything about it has been checked; nothing is unpacked or copied.

    Raises `RemoteFault` for bytes that are no bundle or not the signed ones, `NotAllowed` for a signer who may not
    submit to this project, or not now.
    """
    from convoy.trust import authority, keys, peers

    # 1. Sizes, before anything is decoded.
    view = memoryview(data).toreadonly()
    envelope, contents = _split(view)
    # 2. The envelope, byte for byte as `pack` writes it.
    manifest, signature, cert_pem = _opened(envelope)
    # 3. The signer: an admin of this project. A short-lived certificate may end before what it signed in time does.
    said = _read_manifest(manifest)
    signed = _in_time(said, now=now)
    signer = peers.identity_of(cert_pem, root_pem, now=signed, want=peers.ADMIN, name="the bundle's certificate")
    chain = authority.read_chain(cert_pem)
    # 4. The signature, over the manifest's bytes; only then does what it says count.
    if not keys.signed_by(chain[0].public_key(), signature, _PREFIX + manifest):
        raise NotAllowed("the bundle's list of files differs from what its submitter signed", fix="submit it again")
    if _envelope(manifest, signature, chain) != bytes(envelope):
        raise _damaged("its envelope is not in the canonical form")
    # 5. The manifest: this project, this submitter.
    _check_claims(said, signer=signer, project=project)
    # 6. The files: safe names, exact sizes, exact contents.
    files = _files(said["files"], contents)
    return Bundle(
        id=blake3.blake3(manifest).hexdigest(length=16),
        digest=blake3.blake3(view).hexdigest(),
        submitter=signer.name,
        project=project,
        created=said["created"],
        expires=said["expires"],
        sites=None if said["sites"] is None else tuple(said["sites"]),
        files=files,
    )


def unpack(bundle: Bundle, folder: Path) -> None:
    """Write a verified bundle's files into `folder`, all or nothing; what was there before is replaced.

    Raises `StorageFull` if the disk has no room.
    """
    building = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(building, ignore_errors=True)
    try:
        building.mkdir(parents=True, mode=0o700)
        for path, content in bundle.files.items():
            file = building / path
            _open_folders(building, file.parent)
            _write(file, content)
    except OSError as error:
        shutil.rmtree(building, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                f"there is no disk space for the code of job {bundle.id}", why=f"{folder.parent} is full"
            ) from error
        raise
    if folder.exists():
        shutil.rmtree(folder)
    building.rename(folder)


def _open_folders(top: Path, folder: Path) -> None:
    """Make a folder below `top`, and those above it, so that everybody may look into it and its owner write."""
    if folder != top and not folder.exists():
        _open_folders(top, folder.parent)
        folder.mkdir()
        folder.chmod(0o755)


def _write(file: Path, content: memoryview) -> None:
    """Write a new file that nobody can execute, whatever the umask says."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(descriptor, "wb") as out:
        os.fchmod(descriptor, 0o644)
        out.write(content)


def _split(view: memoryview) -> tuple[memoryview, memoryview]:
    """Return the envelope's and the contents' bytes, by limits alone."""
    if len(view) > MAX_BYTES:
        raise RemoteFault(f"the bundle has {len(view):,} bytes", why=f"at most {MAX_BYTES:,} are accepted")
    if len(view) < _HEAD or bytes(view[: len(MAGIC)]) != MAGIC:
        raise RemoteFault(
            "these bytes are not a bundle", why="they do not begin like a bundle", fix="submit a job folder"
        )
    length = int.from_bytes(view[len(MAGIC) : _HEAD], "little")
    if length > MAX_ENVELOPE or _HEAD + length > len(view):
        raise _damaged(f"it announces an envelope of {length:,} bytes")
    return view[_HEAD : _HEAD + length], view[_HEAD + length :]


def _opened(envelope: memoryview) -> tuple[bytes, bytes, bytes]:
    """Return the manifest, the signature and the certificate in an envelope."""
    try:
        outer = jsons.load(bytes(envelope), most=MAX_LISTS)
        certificate, manifest, signature = outer["certificate"], outer["manifest"], outer["signature"]
        return (
            base64.b64decode(manifest, validate=True),
            base64.b64decode(signature, validate=True),
            certificate.encode("ascii"),
        )
    except (ValueError, binascii.Error, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged("its envelope cannot be read") from error


def _read_manifest(manifest: bytes) -> dict[str, Any]:
    """Return a signed manifest with the types that we count on."""
    try:
        said = jsons.load(manifest, most=MAX_LISTS)
        sites = said["sites"]
        fits = (
            said["format"] == 1
            and all(isinstance(said[key], str) for key in ("project", "submitter", "nonce"))
            and all(type(said[key]) in (int, float) and not abs(said[key]) > MAX_TIME for key in ("created", "expires"))
            and (sites is None or (isinstance(sites, list) and all(isinstance(site, str) for site in sites)))
            and all(
                isinstance(path, str) and type(size) is int and size >= 0 and isinstance(digest, str)
                for path, size, digest in said["files"]
            )
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged("its list of files cannot be read") from error
    if not fits:
        raise _damaged("its list of files is not in the format of this version")
    return dict(said)


def _in_time(said: Mapping[str, Any], *, now: float) -> float:
    """Return when the manifest was signed, as far as we know. Raises `NotAllowed` before its time and after it."""
    created, expires = said["created"], said["expires"]
    if not created - SKEW_S <= now:
        raise NotAllowed(
            "the bundle's time of signature is in the future",
            why=f"by {created - now:.0f} s",
            fix="correct the submitter's clock",
        )
    if not now <= expires or not expires - created <= MAX_DAYS * 86400:
        raise NotAllowed("the bundle's signature has expired", fix="submit the job folder again")
    return float(now if now - created < SKEW_S else created)


def _check_claims(said: Mapping[str, Any], *, signer: Any, project: str) -> None:
    """Raise `NotAllowed` unless the manifest is for this project, by its signer."""
    if said["project"] != project or signer.project != project:
        raise NotAllowed(f"the bundle is for {said['project']}", why=f"this is {project}")
    if said["submitter"] != signer.name:
        raise NotAllowed(f"the bundle names {said['submitter']} as submitter but is signed by {signer.name}")


def _files(listed: list[tuple[str, int, str]], contents: memoryview) -> dict[str, memoryview]:
    """Return each file's bytes, checked against the signed list."""
    problem = paths.problem([path for path, _, _ in listed[: MAX_FILES + 1]])
    if problem or len(listed) > MAX_FILES:
        raise RemoteFault(
            "the bundle contains files that a bundle must not contain", why=problem or f"{len(listed):,} of them"
        )
    if sum(size for _, size, _ in listed) != len(contents):
        raise _damaged(f"its files should have {sum(size for _, size, _ in listed):,} bytes, not {len(contents):,}")
    files, start = {}, 0
    for path, size, digest in listed:
        files[path] = contents[start : start + size]
        start += size
        if hashlib.sha256(files[path]).hexdigest() != digest:
            raise _damaged(f"{path} differs from the file that was signed")
    return files


def _envelope(manifest: bytes, signature: bytes, chain: Sequence[Any]) -> bytes:
    """Return the one way in which we write an envelope."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return _json(
        {
            "certificate": "".join(cert.public_bytes(Encoding.PEM).decode() for cert in chain),
            "manifest": base64.b64encode(manifest).decode(),
            "signature": base64.b64encode(signature).decode(),
        }
    )


def _json(value: Any) -> bytes:
    """Return JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _damaged(why: str) -> RemoteFault:
    """Return the error for bytes that changed on their way."""
    return RemoteFault("the bundle is damaged", why=why, fix="submit the job folder again")
