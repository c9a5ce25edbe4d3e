"""One page of a long table: its rows, how many there are in all, and the addresses of the pages beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar
from urllib.parse import urlencode

from convoy.dashboard.route import Visit

MAX_PAGE: Final = 100_000  # the highest number of a page that may be asked for

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Paged(Generic[T]):
    """Page `number` of `pages`, of a table with `count` rows; no address where there is no such page."""

    rows: Sequence[T]
    count: int
    number: int
    pages: int
    before: str
    next: str


def paged(
    visit: Visit, found: Sequence[T], size: int, path: str, *, keep: Iterable[str] = ("search",), name: str = "page"
) -> Paged[T]:
    """Return the page that the address asks for by `name`; the others have the same `path` and what is to `keep`."""
    pages = max(1, -(-len(found) // size))
    number = min(visit.number(name, 1, MAX_PAGE), pages)
    given = {it: visit.query(it) for it in keep if visit.query(it)}

    def address(other: int) -> str:
        return f"{path}?{urlencode(given | {name: str(other)})}"

    return Paged(
        found[(number - 1) * size : number * size],
        len(found),
        number,
        pages,
        address(number - 1) if number > 1 else "",
        address(number + 1) if number < pages else "",
    )


class OfSite(Protocol):
    """A row that is about a site."""

    @property
    def site(self) -> str:
        """The site's name."""
        ...


S = TypeVar("S", bound=OfSite)


def named(visit: Visit, rows: Iterable[S]) -> list[S]:
    """Return the rows whose site's name contains what the address searches for, in upper or lower case."""
    text = visit.query("search").lower()
    return [it for it in rows if text in it.site.lower()]
