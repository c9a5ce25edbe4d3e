"""Who may do what: a table from role and right to how far it reaches; what is not listed is denied."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, get_args

from convoy.spec import names

Right = Literal[
    "observe",  # sites, the server's state, its newest problems
    "view",  # jobs: their state, rounds, metrics
    "submit",
    "logs",  # what a job's code printed at the sites, and its tracebacks
    "download",  # models and other results
    "clone",  # the code of a job
    "abort",
    "delete",
    "operate_site",  # enable, disable, revoke, restart, stop a site
    "invite",  # let somebody join
    "operate_server",
    "audit",  # the trail of who did what
]
Reach = Literal["own", "org", "any"]

ROLES: Final = names.ROLES
RIGHTS: Final[tuple[str, ...]] = get_args(Right)

TABLE: Final[Mapping[str, Mapping[str, Reach]]] = MappingProxyType(
    {
        "project_admin": dict.fromkeys(RIGHTS, "any"),
        "org_admin": {
            "observe": "any",
            "view": "any",
            "logs": "org",
            "download": "org",
            "abort": "org",
            "delete": "org",
            "operate_site": "org",
            "audit": "any",
        },
        "lead": {
            "observe": "any",
            "view": "any",
            "submit": "any",
            "logs": "own",
            "download": "own",
            "clone": "own",
            "abort": "own",
            "delete": "own",
            "operate_site": "org",
        },
        "member": {"observe": "any", "view": "any"},
    }
)

SERVICES: Final[Mapping[str, Mapping[str, Reach]]] = MappingProxyType(
    {"tracker": {"view": "any", "logs": "any", "download": "any"}}
)  # processes of the server itself; nobody in federation.json can have one of these roles


def allows(role: str, right: str, *, own: bool, same_org: bool) -> bool:
    """Return whether the role has the right over a thing: `own` if theirs, `same_org` if their organisation's."""
    match _reaches(role).get(right):
        case "any":
            return True
        case "org":
            return own or same_org
        case "own":
            return own
        case _:
            return False


def may_operate(role: str) -> bool:
    """Return whether the role may revoke sites, be it only those of one organisation."""
    return reach(role, "operate_site") != "none"


def reach(role: str, right: str) -> str:
    """Return in words how far the right reaches: "none", "own", "org" or "any"."""
    return _reaches(role).get(right, "none")


def _reaches(role: str) -> Mapping[str, Reach]:
    return TABLE.get(role) or SERVICES.get(role) or {}
