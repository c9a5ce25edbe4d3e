"""The dashboard of a site's owner as an application: the table of its pages, over the site's own files."""

from __future__ import annotations

from typing import Final

from convoy.dashboard import consents, own_jobs, own_site, rendering, rules
from convoy.dashboard.app import application
from convoy.dashboard.guard import Guard, Session
from convoy.dashboard.rendering import Place
from convoy.dashboard.route import Frame, Route
from convoy.dashboard.site_state import SiteState, Turn, Watch
from convoy.dashboard.streams import Streams
from convoy.spec.kit import Kit

PLACES: Final = (  # the navigation; there are no rights here: who can read the files sees the pages
    Place("/", "My site", "observe"),
    Place("/data", "My data", "observe"),
    Place("/ran", "Who ran what", "observe"),
    Place("/left", "What left", "observe"),
    Place("/refused", "Refused and approved", "observe"),
    Place("/policy", "Policy", "observe"),
)
ROUTES: Final[tuple[Route, ...]] = (*own_site.ROUTES, *own_jobs.ROUTES, *consents.ROUTES, *rules.ROUTES)


def build(kit: Kit, session: Session, watch: Watch) -> tuple[Guard, SiteState]:
    """Return the application behind its guard, and what its pages share."""
    site_state = SiteState(kit, watch, Frame(rendering.build(PLACES), session, Streams()), PLACES)
    return application(ROUTES, session, lambda request, form: Turn(site_state, request, form)), site_state
