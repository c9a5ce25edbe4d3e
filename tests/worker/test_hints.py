"""Hints for errors of Python and numpy that say nothing of Convoy."""

import pytest

from convoy.model.arrays import Model
from convoy.worker import hints


def test_an_assignment_to_the_model_is_told_how_to_get_copies() -> None:
    with pytest.raises(TypeError) as raised:
        Model({})["w"] = 1
    assert hints.of(raised.value, {}) == f"convoy: {hints.READ_ONLY}\n"
    with pytest.raises(TypeError) as raised:
        del Model({})["w"]
    assert hints.of(raised.value, {}) == f"convoy: {hints.READ_ONLY}\n"
    assert hints.of(TypeError("'int' object does not support item assignment"), {}) == ""


def test_a_signal_handler_outside_of_the_main_thread_is_told_why() -> None:
    error = ValueError("signal only works in main thread of the main interpreter")
    assert hints.of(error, {}) == f"convoy: {hints.NO_SIGNALS}\n"
