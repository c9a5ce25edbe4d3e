"""Login: only the holder of an admin's key, for this project and this nonce."""

import pytest

from convoy.errors import NotAllowed
from convoy.trust import login
from convoy.trust.peers import Identity


def check(world, now, answered, *, project="hospitals", nonce="n1"):
    return login.check(answered, root_pem=world.root.pem, project=project, nonce=nonce, now=now)


def test_an_admin_proves_who_it_is(world, now):
    answered = login.answer(*world.admin, "hospitals", "n1")
    assert check(world, now, answered) == Identity("hospitals", "admin", "ada@example.org")


def test_a_key_that_lies_beside_its_certificate_is_not_shown(world, now):
    key, cert = world.admin
    answered = login.answer(key, key + cert, "hospitals", "n1")
    assert "PRIVATE" not in answered["certificate"]
    assert check(world, now, answered).name == "ada@example.org"


def test_an_answer_to_another_nonce_is_refused(world, now):
    with pytest.raises(NotAllowed, match="not signed with the key"):
        check(world, now, login.answer(*world.admin, "hospitals", "n0"))


def test_a_certificate_without_its_key_is_worth_nothing(world, now):
    stolen = login.answer(world.site[0], world.admin[1], "hospitals", "n1")
    with pytest.raises(NotAllowed, match="not signed with the key"):
        check(world, now, stolen)


def test_a_site_cannot_log_in(world, now):
    with pytest.raises(NotAllowed, match="belongs to a site"):
        check(world, now, login.answer(*world.site, "hospitals", "n1"))


def test_an_admin_of_another_root_cannot_log_in(world, stranger, now):
    with pytest.raises(NotAllowed, match="not from the root"):
        check(world, now, login.answer(*stranger.admin, "hospitals", "n1"))


def test_an_answer_for_another_project_is_refused(world, now):
    with pytest.raises(NotAllowed, match="this is banks"):
        check(world, now, login.answer(*world.admin, "banks", "n1"), project="banks")


@pytest.mark.parametrize(
    "broken",
    [{}, {"certificate": "x" * 20_000}, {"signature": "é"}, {"certificate": "\ud800"}, {"signature": "!"}],
)
def test_an_answer_that_cannot_be_read_is_refused(world, now, broken):
    answered = {} if not broken else login.answer(*world.admin, "hospitals", "n1") | broken
    with pytest.raises(NotAllowed):
        check(world, now, answered)
