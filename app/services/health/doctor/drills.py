"""Drills: can one be made here, on which programs, and is anything left of earlier ones?"""

from app.config import settings
from app.errors import ConfigurationError, NotFound, NotPossible
from app.postgres.conninfo import parse_url
from app.postgres.throwaway.programs import Programs, choose_programs
from app.postgres.throwaway.sandbox import Isolation
from app.services.backups.good import get_newest_good
from app.services.databases.connections import reached
from app.services.databases.lookup import default_database
from app.services.health.doctor.findings import SHOWN, Finding, names, ok, warning
from app.services.restores import drill_server

_SUBJECT = "drills"


def look_at_drills() -> Finding:
    """Whether the newest good backup can be drilled, as far as that is known before."""
    left = [str(folder) for folder in drill_server.leftovers()]
    if left:
        return warning(
            _SUBJECT,
            f"servers of drills that no longer run: {names(left[:SHOWN], len(left))}",
            "A worker removes them within 30 s; flask backup reconcile does it at once.",
        )
    if settings().drill_url:
        with reached(default_database()) as live:
            drill_server.refuse_live_server(live)
        where = parse_url(settings().drill_url or "").server
        return ok(_SUBJECT, f"run on {where}, which BACKSTOP_DRILL_URL names")
    try:
        here = drill_server.ability()
        chosen = _chosen(here.programs)
    except (ConfigurationError, NotPossible) as error:
        return warning(_SUBJECT, f"not possible: {error.message}", error.hint)
    isolation = here.sandbox.isolation
    summary = f"run on PostgreSQL {chosen.version} in {chosen.folder}, {isolation.value}"
    if isolation is Isolation.NONE:
        return warning(
            _SUBJECT,
            f"{summary}: what only a superuser can create is not proven",
            "Install bubblewrap (Debian: apt install bubblewrap).",
        )
    return ok(_SUBJECT, summary)


def _chosen(found: list[Programs]) -> Programs:
    """The programs for the newest good backup. Raises NotPossible."""
    try:
        newest = get_newest_good(default_database())
    except NotFound:
        return choose_programs(found, 0, (), elsewhere=drill_server.ELSEWHERE)
    extensions = drill_server.extensions_of(newest.contents or {})
    major = int(newest.server_version.partition(".")[0] or 0)
    return choose_programs(found, major, extensions, elsewhere=drill_server.ELSEWHERE)
