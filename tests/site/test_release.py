"""What leaves a site: by its policy of that moment, behind its filters, and nothing by other ways."""

import numpy as np
import pytest

from convoy.control.records import Answer, Question
from convoy.errors import BadInput, JobFailed, NotFound, Refused, RemoteFault
from convoy.model.reply import slots_of
from convoy.privacy.packing import Unpacked
from convoy.site.release import Handed, Release, holder
from convoy.spec.policy import PolicyFile
from convoy.store import arrays
from convoy.store.blobs import BlobFolder
from convoy.wire import convoy_pb2 as pb

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


def release_of(site):
    return Release(site, PolicyFile(site.local / "policy.yaml"))


def released(site, blobs, out, up, question):
    return release_of(site).answer(Handed(blobs, out, up), question)


def test_metrics_stay_where_the_policy_says_so_and_the_digest_passes(site, tmp_path):
    blobs, out = folders(tmp_path)
    question, up = asking(blobs, {"w": np.zeros(3)}), handed(out, {"w": np.ones(3)})
    digest, up.answer.weight, up.answer.value = up.answer.digest, 3, '"well"'
    up.answer.metrics["auc"] = 0.9
    assert released(site, blobs, out, up, question) == Answer("1.0", digest, 3, {"auc": 0.9}, '"well"')
    (site.local / "policy.yaml").write_text("leave: {metrics: false, values: false}\n")
    assert released(site, blobs, out, up, question) == Answer("1.0", digest, 3, {})


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
        found = released(site, BlobFolder(tmp_path), tmp_path, answer, Question("j", "1.0", "evaluate", 1))
        assert found == Answer("1.0", "", leaves, {})


def test_a_weight_that_the_policy_cannot_mean_is_named(site):
    (site.local / "policy.yaml").write_text("leave: {weight: none}\n")
    with pytest.raises(BadInput, match='"weight" is "none"; wanted exact or rounded or fixed'):
        released(site, BlobFolder(site.local), site.local, pb.WorkerUp(), Question("j", "1.0", "evaluate", 1))


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
        released(site, blobs, out, handed(out, update), task)
    (site.local / "policy.yaml").write_text("leave: {logs: false}\n")
    said = "the answer was refused at its site (the rest stays at site-1)"
    assert release_of(site).why(caught.value) == said
    assert release_of(site).why(NotFound("blob 7061746965 is not here")) == said
    assert (
        release_of(site).why(JobFailed("it died", why="exit status 37"))
        == "the trainer failed (the rest stays at site-1)"
    )


def test_a_policy_that_cannot_be_read_any_more_is_why_nothing_leaves(site):
    (site.local / "policy.yaml").write_text("leave: {logs: perhaps}\n")
    assert "policy.yaml:1:" in release_of(site).why(JobFailed("it died", why="exit status 37"))


def noise_of(site, blobs, out, *, update, base, question="1.0"):
    """Return what a site adds to an update of zeros and ones."""
    task = asking(blobs, {"w": base}, question)
    answer = released(site, blobs, out, handed(out, {"w": update}), task)
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
    assert release_of(site).told(FAILED) == (FAILED.error, FAILED.traceback)
    (site.local / "policy.yaml").write_text("leave: {logs: false}\n")
    assert release_of(site).told(pb.TaskFailed(error=error, traceback="secret")) == (said, "")


LARGE = 40_000  # items of float32: too large for a message


def test_of_a_filtered_update_only_what_leaves_is_ever_written(site, tmp_path, monkeypatch):
    (site.local / "policy.yaml").write_text("filters: [{clip: {norm: 1.0}}]\n")
    (blobs, out), ones = folders(tmp_path), np.ones(LARGE, np.float32)
    task, up = asking(blobs, {"w": np.zeros(LARGE, np.float32)}), handed(out, {"w": ones})
    given, before, written = up.answer.digest, blobs.digests(), []
    keep = BlobFolder.write
    monkeypatch.setattr(BlobFolder, "write", lambda *its: (written.append(its[2].digest), keep(*its))[1])
    site.work.mkdir(exist_ok=True)
    answer = released(site, blobs, out, up, task)
    assert written == [answer.digest]
    assert blobs.digests() == before | {answer.digest}
    assert answer.digest != given
    assert blobs.held(holder("1.0")) == {answer.digest}
    assert list(out.iterdir()) == []
    assert np.linalg.norm(arrays.load(blobs, answer.digest)["w"]) == pytest.approx(1.0, rel=1e-5)


def test_what_a_filter_does_not_change_leaves_as_it_is(site, tmp_path):
    (site.local / "policy.yaml").write_text("filters: [{clip: {norm: 1000.0}}]\n")
    blobs, out = folders(tmp_path)
    model = {"w": np.zeros(LARGE, np.float32)}
    task = asking(blobs, model)
    site.work.mkdir(exist_ok=True)
    for update in (model, {"w": np.ones(LARGE, np.float32)}):  # the model itself, which is here, and another one
        up = handed(out, update)
        assert released(site, blobs, out, up, task).digest == up.answer.digest
        assert blobs.verify(up.answer.digest)
    assert blobs.verify(task.model)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def link(path):
    path.rename(path.with_name("other"))
    path.symlink_to(path.with_name("other"))


@pytest.mark.parametrize("change", [cut, link, lambda path: path.unlink()], ids=["cut", "a link", "nothing"])
def test_a_filtered_update_that_is_no_whole_file_is_refused(site, tmp_path, change):
    (site.local / "policy.yaml").write_text("filters: [{clip: {norm: 1.0}}]\n")
    blobs, out = folders(tmp_path)
    task, up = asking(blobs, {"w": np.zeros(LARGE, np.float32)}), handed(out, {"w": np.ones(LARGE, np.float32)})
    change(next(out.iterdir()))
    site.work.mkdir(exist_ok=True)
    with pytest.raises(RemoteFault, match="blob"):
        released(site, blobs, out, up, task)
    assert blobs.held(holder("1.0")) == set()


def test_an_update_is_packed_once_by_the_site_and_by_nobody_else(site, tmp_path):
    (site.local / "policy.yaml").write_text("filters: [{clip: {norm: 100}}, {quantize: {bits: 8}}]\n")
    site.work.mkdir(exist_ok=True)
    (blobs, out), zero, update = folders(tmp_path), np.zeros(1000, "f4"), np.linspace(-1, 1, 1000, dtype="f4")
    question = asking(blobs, {"w": zero})
    up = handed(out, {"w": update})
    up.answer.packed = "F16"  # a trainer has no say in it
    answer = released(site, blobs, out, up, question)
    packed = arrays.load(blobs, answer.digest)
    assert (answer.packed, packed["w"].dtype.name) == ("I8", "int8")
    np.testing.assert_allclose(Unpacked(packed, {"w": zero}, "I8")["w"], update, atol=1 / 127)
    assert released(site, blobs, out, handed(out, {"w": update}), question) == answer  # after a crash: the same bits
    (site.local / "policy.yaml").write_text("filters: []\n")
    up = handed(out, {"w": update})
    up.answer.packed = "F16"
    assert released(site, blobs, out, up, question).packed == ""


def test_an_answer_that_is_not_shaped_like_the_model_is_not_packed(site, tmp_path):
    (site.local / "policy.yaml").write_text("filters: [{quantize: {bits: 8}}]\n")
    site.work.mkdir(exist_ok=True)
    blobs, out = folders(tmp_path)
    question = asking(blobs, {"w": np.zeros(3)}, reply=slots_of({"n": ("i8", (2,))}))
    with pytest.raises(Refused, match="'quantize' of the site's policy"):
        released(site, blobs, out, handed(out, {"n": np.arange(2)}), question)
