"""federation.json: the root's word on who is who; any other word is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoy.errors import NotAllowed
from convoy.trust import federation
from convoy.trust.federation import Federation, Participant

EVERYBODY = Federation(
    "hospitals",
    3,
    {
        "server": Participant("server", "o"),
        "site-2": Participant("site", "o"),
        "site-1": Participant("site", "o"),
        "ada@example.org": Participant("admin", "o", "lead"),
    },
)


def test_what_the_root_signed_is_read_back(world):
    assert federation.read(federation.sign(EVERYBODY, world.root.key), world.root.pem) == EVERYBODY


def test_sites_are_sorted_and_people_are_found():
    assert EVERYBODY.sites() == ["site-1", "site-2"]
    assert EVERYBODY.person("ada@example.org").role == "lead"
    for name in ("site-1", "eve@example.org"):
        with pytest.raises(NotAllowed, match="is not an admin of hospitals"):
            EVERYBODY.person(name)


def test_how_the_file_is_laid_out_makes_no_difference(world):
    said = json.loads(federation.sign(EVERYBODY, world.root.key))
    shuffled = dict(reversed(said.items()))
    assert federation.read(json.dumps(shuffled, indent=7).encode(), world.root.pem) == EVERYBODY


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"lead", b"project_admin"), (b'"number": 3', b'"number": 4'), (b"site-2", b"site-9"), (b'"site"', b'"admin"')],
)
def test_a_changed_word_is_refused(world, old, new):
    data = federation.sign(EVERYBODY, world.root.key)
    with pytest.raises(NotAllowed, match="differs from what the project's root signed"):
        federation.read(data.replace(old, new), world.root.pem)


def test_another_root_s_word_is_refused(world, stranger):
    with pytest.raises(NotAllowed, match="differs from what the project's root signed"):
        federation.read(federation.sign(EVERYBODY, stranger.root.key), world.root.pem)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"signature": 1}', b"\xff", b"[" * 100_000])
def test_bytes_that_say_nothing_are_refused(world, data):
    with pytest.raises(NotAllowed, match="cannot be read"):
        federation.read(data, world.root.pem)


@pytest.fixture(scope="module")
def signed(world) -> bytes:
    """One file for all examples: a signature's length differs from one to the next."""
    return federation.sign(EVERYBODY, world.root.key)


@given(data=st.data())
def test_a_changed_byte_is_refused_or_means_the_same(world, signed, data):
    place = data.draw(st.integers(0, len(signed) - 1))
    changed = bytearray(signed)
    changed[place] = data.draw(st.integers(0, 255))
    try:
        read = federation.read(bytes(changed), world.root.pem)
    except NotAllowed:
        return
    assert read == EVERYBODY
