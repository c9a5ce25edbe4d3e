"""What projects, servers, sites, people, organisations and jobs may be called."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Final, Literal, get_args

WORD_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"
_WORD: Final = re.compile(WORD_PATTERN, re.ASCII)
_ORG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.&-]{0,62}", re.ASCII)
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_EMAIL: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._+-]*@{_LABEL}(?:\.{_LABEL})+", re.ASCII)
_ID: Final = re.compile(r"[0-9a-f]{8,32}")  # a job's id, or as much of it as commands print
Role = Literal["project_admin", "org_admin", "lead", "member"]
ROLES: Final[tuple[str, ...]] = get_args(Role)
RESERVED: Final = frozenset({"server", "all"})  # words that commands use for something else

WORD: Final = "letters, digits, - _ . (at most 63, the first a letter or a digit)"


def _check(pattern: re.Pattern[str], most: int, wanted: str) -> Callable[[str], str]:
    """Return a check that hands a fitting name back and raises `ValueError` with what it wanted."""

    def check(name: str) -> str:
        if len(name) > most or not pattern.fullmatch(name):
            raise ValueError(wanted)
        return name

    return check


word = _check(_WORD, 63, WORD)
org = _check(_ORG, 63, "letters, digits, spaces, - _ . & (at most 63, the first a letter or a digit)")
host_name = _check(_HOST, 253, "a host name such as server1 or fl.hospital.org: letters, digits and - between dots")
person = _check(_EMAIL, 64, "an e-mail address of at most 64 characters, such as admin@nvidia.com")


def job(name: str) -> str:
    """Return a job's name as it is. Raises `ValueError` with what was wanted: a name, and no beginning of an id."""
    if _ID.fullmatch(name):
        raise ValueError(
            "a shorter name, or a name with a letter from g to z: this one looks like the beginning of a job's id"
        )
    return word(name)


def site(name: str) -> str:
    """Return a site's name as it is. Raises `ValueError` with what was wanted."""
    if name.lower() in RESERVED:
        raise ValueError(f'another name: commands use "{name.lower()}" for something else')
    return word(name)


def host(name: str) -> str:
    """Return a host name or an IP address as it is. Raises `ValueError` with what was wanted."""
    return name if is_address(name) else host_name(name)


def is_address(name: str) -> bool:
    """Return whether `name` is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
