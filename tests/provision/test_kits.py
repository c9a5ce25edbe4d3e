"""Kits: what each holds, what stays from run to run, what a change means, and what is refused."""

import os
import re
from pathlib import Path

import pytest

from convoy.errors import BadInput
from convoy.provision import kits
from convoy.spec.kit import read_kit
from convoy.spec.project import read_project
from convoy.trust import federation, keys
from convoy.trust.authority import read_certificate
from convoy.trust.enrolment import invites_from_json, token_hash
from convoy.trust.peers import check_own, identity_of

EVERYBODY = ["ada@example.org", "server", "site-1", "site-2"]


def inside(folder) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def known(prod) -> federation.Federation:
    startup = prod / "server" / "startup"
    return federation.read((startup / "federation.json").read_bytes(), (startup / "root.crt").read_bytes())


COMMON = {f"startup/{name}" for name in ("convoy.yaml", "root.crt", "federation.json")}
NODE = COMMON | {"startup/start.sh", "startup/stop.sh", "local/node.yaml"}
SERVER = NODE | {f"startup/{name}" for name in ("issuing.key", "issuing.crt", "invites.json")}
TOKEN, KEY = {"startup/join.token"}, {"startup/node.key", "startup/node.crt"}


@pytest.mark.parametrize(("offline", "proof"), [(False, TOKEN), (True, KEY)])
def test_each_participant_gets_its_own_files_and_no_others(provision, workspace, offline, proof):
    prod = provision(offline=offline)
    assert prod == workspace / "hospitals" / "prod_00"
    assert sorted(path.name for path in prod.iterdir()) == EVERYBODY
    assert inside(prod / "server") == SERVER
    assert inside(prod / "site-1") == NODE | proof | {"local/policy.yaml"}
    assert inside(prod / "ada@example.org") == COMMON | proof | {"startup/fl_admin.sh"}
    assert (prod / "ada@example.org" / "transfer").is_dir()
    assert (prod / "ada@example.org" / "local").is_dir()


def test_what_a_sites_owner_wrote_goes_with_the_next_kit(provision):
    local = provision() / "site-1" / "local"
    (local / "policy.yaml").write_text("run: []\n")
    (local / "approved.yaml").write_text("- {digest: x}\n")
    later = provision() / "site-1" / "local"
    assert [(later / name).read_text() for name in ("policy.yaml", "approved.yaml")] == ["run: []\n", "- {digest: x}\n"]


def test_every_kit_can_be_read_and_proves_its_holder(provision, now):
    prod = provision()
    for folder in prod.iterdir():
        kit = read_kit(folder)
        assert (kit.project, kit.name, kit.host) == ("hospitals", folder.name, "server")
        check_own(kit, now=now)
        if kit.kind == "server":
            continue
        who = identity_of(kit.certificate, kit.root_file.read_bytes(), now=now)
        assert (who.project, who.kind, who.name) == ("hospitals", kit.kind, folder.name)
        assert keys.load(kit.key_file).public_key() == read_certificate(kit.certificate).public_key()
    assert read_kit(prod / "server").hosts == ("server", "fl.example.org")
    assert read_kit(prod / "site-2").org == "p"


def test_kits_and_state_are_their_owner_s_alone(provision, workspace):
    before = os.umask(0)
    try:
        prod = provision()
    finally:
        os.umask(before)
    for folder in (prod, *prod.iterdir(), workspace / "hospitals" / "state"):
        assert folder.stat().st_mode & 0o777 == 0o700
    for key in workspace.rglob("*.key"):
        assert key.stat().st_mode & 0o777 == 0o600
    for script in prod.rglob("*.sh"):
        assert script.stat().st_mode & 0o777 == 0o755


def test_nothing_secret_of_one_is_in_another_s_kit(provision, workspace):
    prod = provision()
    secrets = {
        path: re.sub(rb"-----[^-]+-----|\s", b"", path.read_bytes())
        for path in (*prod.rglob("*.key"), workspace / "hospitals" / "state" / "root.key")
    }
    assert len(set(secrets.values())) == len(EVERYBODY) + 1
    for file in prod.rglob("*"):
        if file.is_file():
            text = re.sub(rb"\s", b"", file.read_bytes())
            held = {path for path, secret in secrets.items() if secret in text}
            assert held == ({file} if file.suffix == ".key" else set())


def test_without_offline_no_key_is_made_and_a_token_is_in_its_own_kit_alone(provision, workspace, now):
    prod = provision(offline=False)
    keys_there = {path.relative_to(workspace / "hospitals") for path in workspace.rglob("*.key")}
    assert keys_there == {Path("state/root.key"), Path("prod_00/server/startup/issuing.key")}
    tokens = {path.parents[1].name: path.read_text().strip() for path in prod.rglob("join.token")}
    assert len(set(tokens.values())) == len(tokens) == len(EVERYBODY) - 1
    for file in workspace.rglob("*"):
        if file.is_file() and file.name != "join.token":
            assert not any(token in file.read_text() for token in tokens.values())
    invites = {one.name: one for one in invites_from_json((prod / "server/startup/invites.json").read_bytes())}
    for name, token in tokens.items():
        assert (prod / name / "startup/join.token").stat().st_mode & 0o777 == 0o600
        kind = "admin" if "@" in name else "site"
        assert invites[name].hash == token_hash(token, project="hospitals", kind=kind, name=name)
        assert invites[name].expires_at == now + 14 * 86400


def test_a_second_run_makes_the_next_prod_and_keeps_root_keys_and_number(provision, now):
    first, second = provision(), provision(now=now + 86400)
    assert (first.name, second.name) == ("prod_00", "prod_01")
    for name in EVERYBODY:
        if name == "server":
            continue
        old, new = first / name / "startup", second / name / "startup"
        for same in ("node.key", "root.crt", "federation.json", "convoy.yaml"):
            assert (old / same).read_bytes() == (new / same).read_bytes()
        fresh = read_certificate((new / "node.crt").read_bytes())
        assert fresh.not_valid_after_utc > read_certificate((old / "node.crt").read_bytes()).not_valid_after_utc


def test_numbers_go_on_after_the_highest_there_is(provision, workspace):
    provision()
    (workspace / "hospitals" / "prod_00").rename(workspace / "hospitals" / "prod_99")
    assert provision().name == "prod_100"
    assert provision().name == "prod_101"
    assert kits.newest(workspace / "hospitals") == workspace / "hospitals" / "prod_101"


def test_a_participant_added_to_the_file_is_added_for_good(provision, small):
    before = known(provision())
    more = small + "  - {name: site-3, type: client, org: o}\n"
    prod = provision(more)
    assert known(prod).sites() == ["site-1", "site-2", "site-3"]
    assert known(prod).number == before.number + 1
    key = (prod / "site-3" / "startup" / "node.key").read_bytes()
    assert (provision(more) / "site-3" / "startup" / "node.key").read_bytes() == key


def test_a_participant_removed_loses_its_place_and_gets_it_back_with_its_old_key(provision, small):
    first = provision()
    less = provision(small.replace("  - {name: site-2, type: client, org: p}\n", ""))
    assert not (less / "site-2").exists()
    assert known(less).sites() == ["site-1"]
    again = provision()
    assert known(again).sites() == ["site-1", "site-2"]
    assert [known(prod).number for prod in (first, less, again)] == [1, 2, 3]
    assert (first / "site-2/startup/node.key").read_bytes() == (again / "site-2/startup/node.key").read_bytes()


def test_a_role_changes_without_a_new_key(provision, small):
    first = provision()
    second = provision(small.replace("project_admin", "member"))
    name = "ada@example.org"
    assert (known(first).person(name).role, known(second).person(name).role) == ("project_admin", "member")
    assert (first / name / "startup/node.key").read_bytes() == (second / name / "startup/node.key").read_bytes()


def test_a_changed_project_name_in_an_old_workspace_is_refused_and_makes_nothing(provision, workspace, small):
    provision()
    with pytest.raises(BadInput, match="holds the project hospitals, not clinics") as caught:
        provision(small.replace("name: hospitals", "name: clinics"))
    assert "change the name back to hospitals" in caught.value.fix
    assert "-w" in caught.value.fix
    assert [path.name for path in workspace.iterdir()] == ["hospitals"]


def test_a_project_folder_that_was_renamed_is_refused(provision, workspace, small):
    provision()
    (workspace / "hospitals").rename(workspace / "clinics")
    with pytest.raises(BadInput, match="root of hospitals, not of clinics"):
        provision(small.replace("name: hospitals", "name: clinics"))


def test_a_lost_root_is_refused_not_replaced(provision, workspace):
    provision()
    for file in (workspace / "hospitals" / "state").glob("root.*"):
        file.unlink()
    with pytest.raises(BadInput, match="is missing, but kits were made from it"):
        provision()


def test_two_provisions_at_once_do_not_mix(provision, workspace):
    provision()
    with (
        kits._alone(workspace / "hospitals" / "state"),
        pytest.raises(BadInput, match="another `convoy provision` is working"),
    ):
        provision()


def test_a_run_that_fails_leaves_no_prod_and_the_next_one_is_whole(provision, workspace):
    provision()
    broken = workspace / "hospitals" / "state" / "keys" / "site" / "site-2.key"
    whole = broken.read_bytes()
    broken.write_bytes(b"half a k")
    with pytest.raises(BadInput, match=r"site-2\.key"):
        provision()
    assert not (workspace / "hospitals" / "prod_01").exists()
    broken.write_bytes(whole)
    assert sorted(path.name for path in provision().iterdir()) == EVERYBODY


def test_what_a_killed_run_left_is_cleared_away(provision, workspace):
    half = workspace / "hospitals" / ".building" / "server" / "startup"
    half.mkdir(parents=True)
    (half / "node.key").touch()
    assert inside(provision() / "server") == SERVER
    assert not half.exists()


def test_a_root_whose_making_was_cut_short_is_made_anew(provision, workspace):
    state = workspace / "hospitals" / "state"
    state.mkdir(parents=True)
    (state / "root.key").write_bytes(b"the first half")
    assert sorted(path.name for path in provision().iterdir()) == EVERYBODY


def test_who_is_invited_beside_a_root_whose_server_is_elsewhere_gets_a_kit(provision, workspace, small, now):
    (project, _), prod = read_project(small, "project.yml"), provision()
    elsewhere = (prod / "server").rename(workspace / "server")
    before = (elsewhere / "startup" / "invites.json").read_bytes()
    invitation = kits.invite(project, workspace, "site-1", now=now)
    assert invitation.token == (prod / "site-1" / "startup" / "join.token").read_text().strip()
    assert kits.who_is_who(project, workspace, now=now) == invitation.federation
    assert not (prod / "server").exists()
    assert (elsewhere / "startup" / "invites.json").read_bytes() == before


def test_a_hundred_sites_get_a_kit_each(provision, small):
    sites = "".join(f"  - {{name: hospital-{n}, type: client, org: o}}\n" for n in range(100))
    prod = provision(small + sites)
    assert len(list(prod.iterdir())) == 104
