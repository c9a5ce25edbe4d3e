"""`convoy kit inspect` and `convoy kit verify`: what a kit says, and what is wrong with it."""

import pytest

from convoy.cli import kit
from convoy.errors import BadInput
from convoy.spec.kit import read_kit

DAY = 86400


def wrong(folder, now) -> list[str]:
    return [f"{it.what}: {it.detail}" for it in kit.verify(folder, now=now) if not it.ok]


@pytest.mark.parametrize("name", ["server", "site-1", "ada@example.org"])
def test_a_fresh_kit_has_nothing_wrong(provision, name, now):
    assert wrong(provision() / name, now) == []


def test_a_kit_says_who_it_is_and_until_when(provision, now):
    said = kit.inspect(provision() / "site-1", now=now)
    assert said["identity"] == "spiffe://hospitals/site/site-1"
    assert said["valid until"].endswith("(365 d left)")
    assert said["federation"] == "number 1, 2 sites"


def test_a_kit_says_that_it_has_expired(provision, now):
    said = kit.inspect(provision() / "site-1", now=now + 366.5 * DAY)
    assert said["valid until"].endswith("(expired 1.5 d ago)")


def test_an_expired_kit_is_found(provision, now):
    (found,) = wrong(provision() / "site-1", now=now + 400 * DAY)
    assert "expired" in found


def test_a_key_open_to_others_is_found(provision, now):
    folder = provision() / "site-1"
    (folder / "startup" / "node.key").chmod(0o644)
    (found,) = wrong(folder, now)
    assert "0644" in found


@pytest.mark.parametrize("name", ["startup", "startup/root.crt", "local", "local/policy.yaml"])
def test_what_everybody_may_write_to_is_found_and_nothing_starts_from_it(provision, name, now):
    folder = provision() / "site-1"
    (folder / name).chmod(0o777)
    (found,) = wrong(folder, now)
    assert "is writable for everybody. its mode is 0777" in found
    with pytest.raises(BadInput, match="is writable for everybody"):
        read_kit(folder)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("node.key", "node.key is not the key of node.crt"),
        ("node.crt", "belongs to site site-2"),
        ("convoy.yaml", "says site site-2"),
    ],
)
def test_a_file_of_another_kit_is_found(provision, name, word, now):
    prod = provision()
    (prod / "site-1/startup" / name).write_bytes((prod / "site-2/startup" / name).read_bytes())
    assert any(word in found for found in wrong(prod / "site-1", now))


def test_a_federation_without_this_participant_is_found(provision, small, now):
    old = provision()
    new = provision(small.replace("name: site-2", "name: site-9"))
    (old / "site-2/startup/federation.json").write_bytes((new / "server/startup/federation.json").read_bytes())
    (found,) = wrong(old / "site-2", now)
    assert "does not list site site-2" in found


def test_data_that_is_not_there_is_a_warning(provision, now):
    folder = provision() / "site-1"
    (folder / "local/node.yaml").write_text("data: {here: node.yaml, gone: nofile.csv, far: 's3://bucket/x'}\n")
    found = [it.detail for it in kit.verify(folder, now=now) if it.detail]
    assert found == [f"warning: missing: gone: {folder}/local/nofile.csv"]
    assert wrong(folder, now) == []


def test_broken_local_files_are_found(provision, now):
    folder = provision() / "site-1"
    (folder / "local/node.yaml").write_text("cpu: many\n")
    (folder / "local/policy.yaml").unlink()
    assert len(wrong(folder, now)) == 2
