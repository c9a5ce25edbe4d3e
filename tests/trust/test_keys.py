"""Keys: kept for their owner alone, all or nothing, and only of our kind."""

import os

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from convoy.errors import BadInput
from convoy.trust import keys


def test_a_saved_key_comes_back_and_is_its_owner_s_alone_whatever_the_umask(tmp_path):
    key = keys.make()
    before = os.umask(0)
    try:
        keys.save(tmp_path / "a.key", keys.to_pem(key))
    finally:
        os.umask(before)
    assert keys.load(tmp_path / "a.key").public_key() == key.public_key()
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["a.key"]


def test_a_signature_is_the_holder_s_and_the_text_s():
    key, other = keys.make(), keys.make()
    signature = keys.sign(key, b"text")
    assert keys.signed_by(key.public_key(), signature, b"text")
    assert not keys.signed_by(key.public_key(), signature, b"another")
    assert not keys.signed_by(other.public_key(), signature, b"text")
    assert not keys.signed_by(key.public_key(), b"", b"text")
    assert not keys.signed_by("no key", signature, b"text")


def test_what_is_no_key_of_ours_is_refused(tmp_path):
    with pytest.raises(BadInput, match="not a private key"):
        keys.from_pem(b"hello")
    large = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(BadInput, match="not a P-256"):
        keys.from_pem(keys.to_pem(large))
    locked = large.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )
    with pytest.raises(BadInput, match="not a private key"):
        keys.from_pem(locked)
    with pytest.raises(BadInput, match=r"gone\.key"):
        keys.load(tmp_path / "gone.key")
