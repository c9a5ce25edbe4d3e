"""What a person may do now, judged again in the same step as each effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from convoy.admin.port import Person
from convoy.control.rights import Right

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Granted:
    """Implements `port.Grant`: the judgement of one request. It never keeps what it found.

    `judge` returns the person as `federation.json` has them now, or raises why they may not go on; `rights` says
    whether they have another right over the same thing now; `note` hears of each effect, and of who had it.
    """

    judge: Callable[[], Person]
    rights: Callable[[Right], bool]
    note: Callable[[Person], None] = lambda _: None

    def act(self, effect: Callable[[Person], T]) -> T:
        """Judge, then do the effect in the same step: `effect` is a plain function, so nothing comes in between."""
        person = self.judge()
        done = effect(person)
        self.note(person)
        return done

    def check(self) -> None:
        """Raise `NotAllowed` once the right is gone."""
        self.judge()

    def may(self, right: Right) -> bool:
        """Return whether the person has another right over what the request names, now."""
        return self.rights(right)
