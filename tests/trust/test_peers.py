"""Peers: who a certificate says somebody is, and each reason to refuse it."""

import pytest

from convoy.errors import NotAllowed
from convoy.trust import keys
from convoy.trust.authority import Authority, read_certificate
from convoy.trust.peers import Identity, identity_of

DAY = 86400


@pytest.mark.parametrize(("kind", "name"), [("server", "server"), ("site", "site-1"), ("admin", "ada@example.org")])
def test_a_good_certificate_says_who(world, now, kind, name):
    assert identity_of(getattr(world, kind)[1], world.root.pem, now=now) == Identity("hospitals", kind, name)


def test_another_root_of_the_same_name_is_foreign(world, stranger, now):
    with pytest.raises(NotAllowed, match="not from the root of hospitals") as caught:
        identity_of(stranger.site[1], world.root.pem, now=now)
    assert "is a different one" in caught.value.why


def test_an_expired_certificate_says_since_when(world, now):
    with pytest.raises(NotAllowed, match="expired at 2028-01-15 08:00 UTC") as caught:
        identity_of(world.site[1], world.root.pem, now=now + 368 * DAY)
    assert "3 days ago" in caught.value.why


def test_a_certificate_from_the_future_blames_the_clock(world, now):
    with pytest.raises(NotAllowed, match="not valid before") as caught:
        identity_of(world.site[1], world.root.pem, now=now - 7200)
    assert "clock" in caught.value.fix


def test_an_expired_root_refuses_everybody(world, now):
    pem = world.root.issue("site", "s", now=now + 3649 * DAY)[1]
    with pytest.raises(NotAllowed, match="root certificate of hospitals expired"):
        identity_of(pem, world.root.pem, now=now + 3651 * DAY)


def test_a_certificate_of_another_kind_is_refused(world, now):
    with pytest.raises(NotAllowed, match="belongs to a site") as caught:
        identity_of(world.site[1], world.root.pem, now=now, want=("admin",))
    assert caught.value.why == "only these kinds are accepted: admin"


def test_the_root_itself_is_no_participant(world, now):
    with pytest.raises(NotAllowed, match="not made for a participant"):
        identity_of(world.root.pem, world.root.pem, now=now)


@pytest.mark.parametrize("kind_of_names", ["site", "admin"])
def test_a_leaf_cannot_issue_for_others(world, now, kind_of_names):
    key_pem, cert_pem = getattr(world, kind_of_names)
    rogue = Authority("hospitals", keys.from_pem(key_pem), read_certificate(cert_pem))
    forged = rogue.issue("admin", "eve@example.org", now=now)[1]
    with pytest.raises(NotAllowed, match="not from the root"):
        identity_of(forged, world.root.pem, now=now)


@pytest.mark.parametrize("pem", [b"", b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_bytes_that_are_no_certificate_are_refused(world, now, pem):
    with pytest.raises(NotAllowed, match="cannot be read"):
        identity_of(pem, world.root.pem, now=now)
