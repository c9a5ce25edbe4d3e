"""What a person may do now, checked again in the same step as each effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from convoy.admin.port import Person
from convoy.control.rights import Right

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Granted:
    """Implements `port.Grant`: the rights of one request. It never stores the result of a check.

    `judge` returns the person as `federation.json` has them now, or raises why they may not continue; `rights` says
    whether they have another right over the same thing now; `note` is called for each effect with its person.
    """

    judge: Callable[[], Person]
    rights: Callable[[Right], bool]
    note: Callable[[Person], None] = lambda _: None

    def act(self, effect: Callable[[Person], T]) -> T:
        """Check, then call `effect` in the same step: it is a plain function, so no await comes in between."""
        person = self.judge()
        done = effect(person)
        self.note(person)
        return done

    def check(self) -> None:
        """Raise `NotAllowed` once the right is lost."""
        self.judge()

    def may(self, right: Right) -> bool:
        """Return whether the person has another right over what the request names, now."""
        return self.rights(right)
