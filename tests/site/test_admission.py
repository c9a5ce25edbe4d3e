"""Which jobs a site takes, with real kits: time, approvals, a policy that changes."""

import os
import resource
import time

import pytest

from convoy.errors import BadInput, NotAllowed, Refused, StorageFull
from convoy.site import admission, refusals
from convoy.spec.approvals import Approval, written
from convoy.spec.policy import PolicyFile
from convoy.trust import bundle, membership
from convoy.trust.authority import Authority
from convoy.trust.federation import Federation, sign

DAY_S = 86400
FILES = {"job.yaml": b"name: tumours\ntrainer: train.py\n", "train.py": b"import convoy\n"}


def rules_of(site):
    return PolicyFile(site.local / "policy.yaml")


@pytest.fixture
def admit(prod, site, tmp_path):
    """Bring a bundle to the site's door, `days` after it was signed by `who`."""

    def admitted(who="root@x.org", days=0.0, files=FILES, **more):
        keys = prod / who / "startup"
        data = bundle.pack(
            files,
            project="clinics",
            submitter=who,
            key_pem=(keys / "node.key").read_bytes(),
            cert_pem=(keys / "node.crt").read_bytes(),
            now=time.time() - days * DAY_S,
            **more,
        )
        return again(data, days)

    def again(data, days=0.0):
        root_pem = site.root_file.read_bytes()
        known = bundle.verify(data, root_pem=root_pem, project="clinics", now=time.time() - days * DAY_S)
        admit.folder, admit.digest, admit.data = tmp_path / known.id, known.digest, data
        admit.folder.mkdir(exist_ok=True)
        return admission.admit(data, known.id, admit.folder, site, rules_of(site))

    admit = admitted
    admit.again = again
    return admit


def test_by_default_the_own_organisation_and_project_admins_may_run_code(admit):
    assert admit("root@x.org").spec.name == "tumours"
    assert admit("lead@a.org").leave.logs
    assert (admit.folder / "code" / "train.py").read_bytes() == FILES["train.py"]


def test_everybody_elses_code_is_refused_kept_for_the_owner_to_see_and_runs_once_it_is_approved(admit, site, tmp_path):
    with pytest.raises(Refused, match=r"lead@b.org may not run code at site-1"):
        admit("lead@b.org")
    assert not (admit.folder / "code").exists()
    (tmp_path / "jobs").mkdir()
    admit.folder.rename(tmp_path / "jobs" / admit.folder.name)
    (held,) = refusals.held(tmp_path)
    assert (held.digest, held.submitter, held.org, held.role) == (admit.digest, "lead@b.org", "b", "lead")
    assert "policy.yaml:6: no rule of `run` fits a lead of b" in held.reason
    (site.local / "approved.yaml").write_text(written([Approval(admit.digest, "now")]))
    assert admit.again(admit.data).spec.name == "tumours"
    with pytest.raises(Refused):
        admit("lead@b.org")  # the same files, signed anew: another bundle


def test_who_may_not_submit_is_refused_whoever_lets_them(admit, site):
    (site.local / "policy.yaml").write_text("run: [{person: look@a.org}]\n")
    with pytest.raises(Refused, match="may not submit jobs"):
        admit("look@a.org")


def test_a_bundle_for_other_sites_is_refused_by_its_signature_and_by_its_job(admit):
    with pytest.raises(Refused, match="the bundle is not for site-1"):
        admit(sites=["site-2"])
    with pytest.raises(Refused, match="the job is not for site-1"):
        admit(files=FILES | {"job.yaml": FILES["job.yaml"] + b"sites: [site-2]\n"})


def test_a_bundle_that_comes_after_its_expiry_is_refused_and_a_job_that_runs_by_then_goes_on(admit):
    with pytest.raises(NotAllowed, match="has expired"):
        admit(days=31)
    then, mark = time.time() - 20 * DAY_S, admit.folder / admission.ADMITTED
    mark.touch()  # as if it had come eleven days after it was signed
    os.utime(mark, (then, then))
    assert admit.again(admit.data, days=31).spec.name == "tumours"
    assert mark.stat().st_mtime == pytest.approx(then)
    assert admit(days=29).spec.name == "tumours"
    assert time.time() - (admit.folder / admission.ADMITTED).stat().st_mtime < 60


def test_what_a_trainer_left_for_people_stays_when_its_site_starts_again_and_nothing_else_does(admit):
    admit()
    code = admit.folder / "code"
    (code / "artifacts" / "plots").mkdir(parents=True)
    (code / "artifacts" / "plots" / "a.txt").write_text("round 1")
    (code / "cache.bin").write_text("x")
    (code / "train.py").write_text("changed")
    for _ in range(2):
        admit.again(admit.data)
        assert (code / "artifacts" / "plots" / "a.txt").read_text() == "round 1"
        assert (code / "train.py").read_bytes() == FILES["train.py"]
        assert sorted(path.name for path in code.iterdir()) == ["artifacts", "job.yaml", "train.py"]
    (code / "artifacts").rename(admit.folder / "artifacts")  # as if it was killed between
    admit.again(admit.data)
    assert (code / "artifacts" / "plots" / "a.txt").read_text() == "round 1"


def test_a_disk_that_is_full_as_a_site_starts_again_costs_nothing_of_what_a_trainer_left(admit):
    admit()
    left = admit.folder / "code" / "artifacts" / "a.txt"
    left.parent.mkdir()
    left.write_text("round 1")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))  # no file may have more bytes
    try:
        with pytest.raises((StorageFull, OSError)):
            admit.again(admit.data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert left.read_text() == "round 1"
    assert admit.again(admit.data).spec.name == "tumours"
    assert left.read_text() == "round 1"


def test_a_link_or_a_bundle_in_the_place_of_artifacts_is_not_mixed_with_what_a_trainer_left(admit, tmp_path):
    admit()
    (admit.folder / "code" / "artifacts").symlink_to(tmp_path)
    admit.again(admit.data)
    assert not os.path.lexists(admit.folder / "code" / "artifacts")
    admit(files=FILES | {"artifacts/a.txt": b"of the bundle"})
    (admit.folder / "code" / "artifacts" / "a.txt").write_text("changed")
    admit.again(admit.data)
    assert (admit.folder / "code" / "artifacts" / "a.txt").read_text() == "of the bundle"


def test_a_policy_that_cannot_be_read_refuses_each_job_with_its_line(admit, site):
    (site.local / "policy.yaml").write_text("run: everybody\n")
    with pytest.raises(BadInput, match=r"policy.yaml:1:1: \"run\" is \"everybody\"; wanted a list"):
        admit()
    (site.local / "policy.yaml").write_text("")
    (site.local / "approved.yaml").write_text("- all\n")
    with pytest.raises(BadInput, match=r"approved.yaml:1:3: \"all\" is not an approval"):
        admit()


def test_a_job_that_was_taken_outlives_its_root_and_no_other_bundle_does(admit, site, prod, tmp_path):
    admit()
    taken, data = admit.folder, admit.data
    admit()
    fresh, other = admit.folder, admit.data
    (fresh / admission.ADMITTED).unlink()  # as if it came only now
    new = Authority.create("clinics", tmp_path, now=time.time())
    old, known = site.root_file.read_bytes(), membership.current(site)[0]
    listed = Federation("clinics", known.number + 1, known.participants, (new.pem.decode(),), (old.decode(),))
    site.work.mkdir(exist_ok=True)
    (site.work / "federation.json").write_bytes(sign(listed, new.key))
    site.roots_file.write_bytes(new.pem)
    try:
        assert admission.admit(data, taken.name, taken, site, rules_of(site)).spec.name == "tumours"
        with pytest.raises(NotAllowed, match="not from the root"):
            admission.admit(other, fresh.name, fresh, site, rules_of(site))
        (taken / admission.ADMITTED).write_text("0" * 64)
        with pytest.raises(NotAllowed, match="the bundle is another one"):
            admission.admit(data, taken.name, taken, site, rules_of(site))
    finally:
        (site.work / "federation.json").unlink()
        site.roots_file.unlink()
