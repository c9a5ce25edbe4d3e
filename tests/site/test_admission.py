"""What a site lets in and lets out, with real kits: time, approvals, a policy that changes, what stays."""

import os
import time

import numpy as np
import pytest

from convoy.control.records import Answer, Question
from convoy.errors import BadInput, JobFailed, NotAllowed, NotFound, Refused
from convoy.provision.kits import provision
from convoy.site import admission, refusals
from convoy.spec.approvals import Approval, written
from convoy.spec.kit import read_kit
from convoy.spec.project import read_project
from convoy.store import arrays
from convoy.store.blobs import BlobFolder
from convoy.trust import bundle, roll
from convoy.trust.authority import Authority
from convoy.trust.federation import Federation, sign
from convoy.wire import convoy_pb2 as pb

DAY_S = 86400
PROJECT = """
api_version: 3
name: clinics
participants:
  - {name: server, type: server, org: a}
  - {name: site-1, type: client, org: a}
  - {name: root@x.org, type: admin, org: x, role: project_admin}
  - {name: lead@a.org, type: admin, org: a, role: lead}
  - {name: lead@b.org, type: admin, org: b, role: lead}
  - {name: look@a.org, type: admin, org: a, role: member}
"""
FILES = {"job.yaml": b"name: tumours\ntrainer: train.py\n", "train.py": b"import convoy\n"}
FAILED = pb.TaskFailed(error="ValueError: patient 17 is 93 years old", traceback="Traceback: patient 17")


def folders(tmp_path):
    """Return a job's blobs at a site, and the folder that its trainer writes into."""
    blobs, out = BlobFolder(tmp_path / "blobs"), tmp_path / "out"
    for folder in (blobs.folder, out):
        folder.mkdir()
    return blobs, out


def handed(out, update):
    """Return a trainer's answer with its update."""
    digest, whole = arrays.hand_over(out, update)
    return pb.WorkerUp(answer=pb.Answer(question="1.0", digest=digest), wholes={digest: whole} if whole else {})


def asking(blobs, model, question="1.0", kind="train", **more):
    """Return a question about a model that the site has."""
    return Question("j", question, kind, 1, 0, arrays.save(blobs, "test", model), **more)


@pytest.fixture(scope="module")
def prod(tmp_path_factory):
    project, _ = read_project(PROJECT, "project.yml")
    return provision(project, tmp_path_factory.mktemp("w"), now=time.time() - 40 * DAY_S, offline=True)


@pytest.fixture
def site(prod):
    kit = read_kit(prod / "site-1")
    before = (kit.local / "policy.yaml").read_text()
    yield kit
    (kit.local / "policy.yaml").write_text(before)
    (kit.local / "approved.yaml").unlink(missing_ok=True)


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
        return admission.admit(data, known.id, admit.folder, site)

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


def test_a_policy_that_cannot_be_read_refuses_each_job_with_its_line(admit, site):
    (site.local / "policy.yaml").write_text("run: everybody\n")
    with pytest.raises(BadInput, match=r"policy.yaml:1:1: \"run\" is \"everybody\"; wanted a list"):
        admit()
    (site.local / "policy.yaml").write_text("")
    (site.local / "approved.yaml").write_text("- all\n")
    with pytest.raises(BadInput, match=r"approved.yaml:1:3: \"all\" is not an approval"):
        admit()


def test_metrics_stay_where_the_policy_says_so_and_the_digest_passes(site, tmp_path):
    blobs, out = folders(tmp_path)
    question, up = asking(blobs, {"w": np.zeros(3)}), handed(out, {"w": np.ones(3)})
    digest, up.answer.weight, up.answer.value = up.answer.digest, 3, '"well"'
    up.answer.metrics["auc"] = 0.9
    assert admission.released(site, blobs, out, up, question) == Answer("1.0", digest, 3, {"auc": 0.9}, '"well"')
    (site.local / "policy.yaml").write_text("leave: {metrics: false, values: false}\n")
    assert admission.released(site, blobs, out, up, question) == Answer("1.0", digest, 3, {})


@pytest.mark.parametrize(
    ("policy", "weights"),
    [
        ("exact", {1234.5: 1234.5, 0.0: 0.0}),
        ("rounded", {1234.5: 1000.0, 0.0: 0.0, 97.0: 100.0}),
        ("fixed", {1234.5: 1, 0.0: 0}),
    ],
)
def test_the_weight_leaves_as_the_policy_says(site, tmp_path, policy, weights):
    (site.local / "policy.yaml").write_text(f"leave: {{weight: {policy}}}\n")
    for weight, leaves in weights.items():
        answer = pb.WorkerUp(answer=pb.Answer(question="1.0", weight=weight))
        found = admission.released(site, BlobFolder(tmp_path), tmp_path, answer, Question("j", "1.0", "evaluate", 1))
        assert found == Answer("1.0", "", leaves, {})


def test_a_weight_that_the_policy_cannot_mean_is_named(site):
    (site.local / "policy.yaml").write_text("leave: {weight: none}\n")
    with pytest.raises(BadInput, match='"weight" is "none"; wanted exact or rounded or fixed'):
        admission.released(site, BlobFolder(site.local), site.local, pb.WorkerUp(), Question("j", "1.0", "evaluate", 1))


SAYING = [
    {"w": np.ones(2), "patient 17": np.ones(1)},
    {"n": np.ones(1), "w": np.ones(2)},
    {"w": np.ones(3), "n": np.ones(1)},
    {"w": np.ones(2, "f4"), "n": np.ones(1)},
]


@pytest.mark.parametrize("update", SAYING, ids=["names", "order", "shapes", "dtypes"])
def test_names_order_shapes_and_dtypes_of_an_update_are_the_model_s_or_nothing_leaves(site, tmp_path, update):
    blobs, out = folders(tmp_path)
    task = asking(blobs, {"w": np.zeros(2), "n": np.zeros(1)})
    with pytest.raises(Refused) as caught:
        admission.released(site, blobs, out, handed(out, update), task)
    (site.local / "policy.yaml").write_text("leave: {logs: false}\n")
    said = "the answer was refused at its site (the rest stays at site-1)"
    assert admission.why(site, caught.value) == said
    assert admission.why(site, NotFound("blob 7061746965 is not here")) == said
    assert (
        admission.why(site, JobFailed("it died", why="exit status 37"))
        == "the trainer failed (the rest stays at site-1)"
    )


def test_a_policy_that_cannot_be_read_any_more_is_why_nothing_leaves(site):
    (site.local / "policy.yaml").write_text("leave: {logs: perhaps}\n")
    assert "policy.yaml:1:" in admission.why(site, JobFailed("it died", why="exit status 37"))


def noise_of(site, blobs, out, *, update, base, question="1.0"):
    """Return what a site adds to an update of zeros and ones."""
    task = asking(blobs, {"w": base}, question)
    answer = admission.released(site, blobs, out, handed(out, {"w": update}), task)
    return arrays.load(blobs, answer.digest)["w"] - update


def test_the_noise_of_a_step_is_another_one_over_another_model_and_another_update(site, tmp_path):
    """Asked twice for one task, over two models of its choice, a server could take the difference of the answers."""
    (site.local / "policy.yaml").write_text("filters: [{noise: {sigma: 1.0}}]\n")
    (blobs, out), zero, one = folders(tmp_path), np.zeros(1000), np.ones(1000)
    site.work.mkdir(exist_ok=True)
    first = noise_of(site, blobs, out, update=zero, base=zero)
    np.testing.assert_array_equal(noise_of(site, blobs, out, update=zero, base=zero), first)  # after a crash
    for other in (
        noise_of(site, blobs, out, update=zero, base=one),
        noise_of(site, blobs, out, update=one, base=zero),
        noise_of(site, blobs, out, update=zero, base=zero, question="2.0"),
    ):
        assert (other - first).std() == pytest.approx(2**0.5, rel=0.1)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FAILED.error, "the trainer failed (the rest stays at site-1)"),
        ("MemoryError", "the trainer ran out of memory (the rest stays at site-1)"),
        ("OutOfMemoryError: CUDA", "the trainer ran out of memory (the rest stays at site-1)"),
        ("Patient17: is 93", "the trainer failed (the rest stays at site-1)"),
        ("patient 17", "the trainer failed (the rest stays at site-1)"),
        ("x" * 200, "the trainer failed (the rest stays at site-1)"),
        ("", "the trainer failed (the rest stays at site-1)"),
    ],
)
def test_of_a_failure_one_of_a_few_words_is_told_where_logs_stay(site, error, said):
    assert admission.told(site, FAILED) == (FAILED.error, FAILED.traceback)
    (site.local / "policy.yaml").write_text("leave: {logs: false}\n")
    assert admission.told(site, pb.TaskFailed(error=error, traceback="secret")) == (said, "")


def test_a_job_that_was_taken_outlives_its_root_and_no_other_bundle_does(admit, site, prod, tmp_path):
    admit()
    taken, data = admit.folder, admit.data
    admit()
    fresh, other = admit.folder, admit.data
    (fresh / admission.ADMITTED).unlink()  # as if it came only now
    new = Authority.create("clinics", tmp_path, now=time.time())
    old, known = site.root_file.read_bytes(), roll.current(site)[0]
    listed = Federation("clinics", known.number + 1, known.participants, (new.pem.decode(),), (old.decode(),))
    site.work.mkdir(exist_ok=True)
    (site.work / "federation.json").write_bytes(sign(listed, new.key))
    site.roots_file.write_bytes(new.pem)
    try:
        assert admission.admit(data, taken.name, taken, site).spec.name == "tumours"
        with pytest.raises(NotAllowed, match="not from the root"):
            admission.admit(other, fresh.name, fresh, site)
        (taken / admission.ADMITTED).write_text("0" * 64)
        with pytest.raises(NotAllowed, match="the bundle is another one"):
            admission.admit(data, taken.name, taken, site)
    finally:
        (site.work / "federation.json").unlink()
        site.roots_file.unlink()
