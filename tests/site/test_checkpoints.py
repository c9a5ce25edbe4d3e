"""What a site keeps of the checkpoints that it is sent: the newer ones, in a bounded file, whatever cut it short."""

import json
from dataclasses import asdict, replace
from itertools import pairwise

import pytest

from convoy.errors import RemoteFault
from convoy.site.checkpoints import Checkpoints
from convoy.trust import audit

ONE = audit.Checkpoint(99, "a" * 64, 1_800_000_000_000, "PEM\n", "c2ln")
TWO = replace(ONE, seq=199, hash="b" * 64)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "witness.jsonl"


def held(path):
    return [audit.read(line, where="a line") for line in path.read_bytes().splitlines()]


def test_checkpoints_are_written_down_in_the_order_in_which_they_come(path):
    witness = Checkpoints(path)
    assert [witness.keep(ONE), witness.keep(TWO)] == ["", ""]
    assert held(path) == [ONE, TWO]
    assert json.loads(path.read_text().splitlines()[0]) == {"checkpoint": asdict(ONE)}


def test_the_newest_is_written_once_however_often_it_is_sent_and_by_whichever_process_it_is_heard(path):
    for _ in range(3):
        assert Checkpoints(path).keep(ONE) == ""
    assert held(path) == [ONE]


def test_a_server_that_goes_back_is_told_of_and_what_was_written_stays(path):
    witness = Checkpoints(path)
    witness.keep(TWO)
    assert "signs record 99, and record 199 was signed before" in witness.keep(ONE)
    assert "with another history" in Checkpoints(path).keep(replace(TWO, hash="c" * 64))
    assert held(path) == [TWO]


def test_what_a_power_cut_left_of_a_line_is_cut_off(path):
    Checkpoints(path).keep(ONE)
    with path.open("ab") as file:
        file.write(b'{"checkpoint":{"at":18')
    assert Checkpoints(path).keep(TWO) == ""
    assert held(path) == [ONE, TWO]


def test_a_file_of_nothing_but_half_a_line_is_begun_anew(path):
    path.write_bytes(b'{"checkpoint":')
    Checkpoints(path).keep(ONE)
    assert held(path) == [ONE]


def test_the_file_stays_bounded_and_the_first_and_the_newest_stay(path):
    witness, size = Checkpoints(path, max_bytes=50_000, dense=20), 0
    for number in range(2000):
        witness.keep(replace(ONE, seq=number))
        size = max(size, path.stat().st_size)
    kept = [checkpoint.seq for checkpoint in held(path)]
    assert size < 51_000
    assert kept == sorted(kept)
    assert (kept[0], kept[-30:]) == (0, list(range(1970, 2000)))
    assert len([seq for seq in kept if 0 < seq < 1000]) > 5
    gaps = [(after - before) / max(2000 - before, 100) for before, after in pairwise(kept[1:])]
    assert max(gaps) < 0.2  # whatever was rewritten, a witness of soon after is left


@pytest.mark.parametrize("change", [{"certificate": "x" * 100_000}, {"seq": 2**60}, {"at": -1}])
def test_what_could_not_be_read_again_is_not_written_down(path, change):
    with pytest.raises(RemoteFault, match="the server's checkpoint is neither a record nor a checkpoint"):
        Checkpoints(path).keep(replace(ONE, **change))
    assert not path.exists()


def test_a_site_keeps_checkpoints_without_loading_cryptography():
    import subprocess
    import sys

    code = (
        "import sys; from convoy.site.checkpoints import Checkpoints; from pathlib import Path; "
        "from convoy.trust import audit; import tempfile; "
        "Checkpoints(Path(tempfile.mkdtemp()) / 'w').keep(audit.Checkpoint(1, 'h', 1, 'c', 's')); "
        "print(sorted({'cryptography', 'pydantic', 'sqlalchemy', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
