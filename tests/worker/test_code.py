"""How the job's code is called: with its arguments, without those of a command, and what becomes of sys.exit."""

import sys

import numpy as np
import pytest

from convoy.errors import BadInput
from convoy.worker import code

MAKERS = """
import functools
class Made:
    def __call__(self, config): return {"w": config["x"]}
    def plain(self): return {"w": 0}
    def with_config(self, config): return {"w": config["x"]}
    @classmethod
    def of(cls, config): return {"w": config["x"]}
class Net:
    def __init__(self, hidden=8, *rest): self.hidden = hidden
    def state_dict(self): return {"w": self.hidden}
class Configured:
    def __init__(self, config): self.x = config["x"]
    def state_dict(self): return {"w": self.x}
def logged(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs): return function(*args, **kwargs)
    return wrapper
@logged
def decorated(config): return {"w": config["x"]}
def rest(*args): return {"w": len(args)}
called, plain, with_config, of = Made(), Made().plain, Made().with_config, Made.of
partly = functools.partial(lambda scale, config: {"w": config["x"] * scale}, 2)
"""
EXITS = """
import sys
def initial(): return {"w": 0}
def main(): sys.exit(0)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of a job; modules and the path are as before when the test is over."""
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("called", 3), ("plain", 0), ("with_config", 3), ("of", 3), ("Net", 8), ("Configured", 3), ("decorated", 3),
        ("rest", 0), ("partly", 6),
    ],
)  # fmt: skip
def test_whatever_makes_the_first_model_gets_the_config_if_it_takes_one(folder, name: str, wanted: int) -> None:
    (folder / "makers.py").write_text(MAKERS)
    found = code.initial(folder, f"makers.py:{name}", {"x": 3})
    assert (found if isinstance(found, dict) else found.state_dict()) == {"w": wanted}


def test_a_first_model_that_is_none_names_its_function(folder) -> None:
    (folder / "none.py").write_text("def initial(): {'w': 1}")
    with pytest.raises(BadInput, match=r"none\.py:initial returned None"):
        code.initial(folder, "none.py:initial", {})


@pytest.mark.parametrize("when", ["while it was imported", "in initial"])
def test_sys_exit_is_named_with_where_a_script_s_lines_belong(folder, when: str) -> None:
    text = EXITS + "main()" if when == "while it was imported" else EXITS + "initial = main"
    (folder / "exits.py").write_text(text)
    with pytest.raises(BadInput) as refused:
        code.initial(folder, "exits.py:initial", {})
    assert f"exits.py called sys.exit(0) {when}" in str(refused.value)
    assert 'if __name__ == "__main__"' in str(refused.value)


def test_the_code_of_a_job_finds_no_arguments_of_the_command(folder, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", given := ["convoy", "simulate", "folder"])
    (folder / "parses.py").write_text(
        "import argparse, numpy as np\nparser = argparse.ArgumentParser()\nparser.add_argument('--lr', default=0.5)\n"
        "lr = parser.parse_args().lr\ndef initial(): return {'w': np.full(2, parser.parse_args().lr)}"
    )
    np.testing.assert_array_equal(code.initial(folder, "parses.py:initial", {})["w"], [0.5, 0.5])
    assert sys.argv is given
