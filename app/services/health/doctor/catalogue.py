"""The catalogue: whole, writable, at its newest form, and not of the future."""

from datetime import timedelta
from pathlib import Path

from sqlalchemy import func, select, text

from app.extensions import db
from app.models import DatabaseBackup
from app.models.types import moment_text, now
from app.postgres.connection import open_session
from app.postgres.conninfo import parse_url
from app.services.catalogue.state import find_revisions
from app.services.health.doctor.findings import Finding, State, examined, ok, problem, unexamined

_TOLERANCE = timedelta(seconds=60)  # between the clocks of two workers


def examine_catalogue() -> list[Finding]:
    """Whether it can be used, and its form."""
    finding = examined("catalogue", look_whether_usable)
    if finding.state is State.OK and db.engine.dialect.name == "sqlite":
        finding = examined("catalogue", _look_whether_whole)
    if finding.state is State.PROBLEM:
        return [finding, unexamined("migrations", "the catalogue cannot be read")]
    return [finding, examined("migrations", _migrations)]


def look_whether_usable() -> Finding:
    """Whether it can be written, and how it is called; quick, however large it is."""
    if db.engine.dialect.name == "sqlite":
        return _usable_file(Path(db.engine.url.database or ""))
    url = db.engine.url.render_as_string(hide_password=False)
    with open_session(parse_url(url), application_name="backstop doctor"):
        pass  # a silent server would keep the driver waiting for ever
    read_only = db.session.scalar(text("SELECT current_setting('transaction_read_only')"))
    db.session.commit()
    if read_only == "on":
        return problem(
            "catalogue",
            f"PostgreSQL database {db.engine.url.database} is read-only",
            "Is it a standby, or default_transaction_read_only on? Name one that takes writes.",
        )
    return ok("catalogue", f"PostgreSQL database {db.engine.url.database}, whole and writable")


def _usable_file(path: Path) -> Finding:
    if not path.exists():  # to connect would make it
        return problem(
            "catalogue",
            f"{path} is not there",
            "flask backup list makes an empty one; flask backup reconcile --adopt finds the dumps.",
        )
    with db.engine.connect() as plain:
        connection = plain.execution_options(begin_with="BEGIN IMMEDIATE")
        # BEGIN IMMEDIATE alone says nothing of a file that cannot be written. This is rolled back.
        connection.exec_driver_sql("PRAGMA user_version = 0")
    return ok("catalogue", f"SQLite file {path}, writable")


def _look_whether_whole() -> Finding:
    path = db.engine.url.database
    with db.engine.connect() as connection:
        state = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    if state != "ok":
        return problem(
            "catalogue",
            f"{path} is damaged: {state}",
            "Put back a copy of it, or move it away and run flask backup reconcile --adopt.",
        )
    return ok("catalogue", f"SQLite file {path}, whole and writable")


def _migrations() -> Finding:
    current, known = find_revisions()
    if current == known[0]:
        return ok("migrations", f"at the newest revision, {current}")
    return problem(
        "migrations",
        f"the catalogue is at revision {current or 'none'}, and the newest is {known[0]}",
        "Start the panel again, or run flask backup list: each brings it to the newest form."
        if current in (None, *known)
        else "A newer Backstop has changed it: run that one, or put back an older catalogue.",
    )


def find_rows_of_the_future() -> Finding:
    """Whether the clock was set back since the newest backup."""
    newest = db.session.scalar(select(func.max(DatabaseBackup.created_at)))
    db.session.commit()
    if newest is not None and newest > now() + _TOLERANCE:
        return problem(
            "clock",
            f"the clock was set back: the newest backup is of {moment_text(newest)},"
            f" and it is {moment_text(now())} now",
            "Set the clock right. If it is right now, backups made meanwhile have wrong times.",
        )
    return ok("clock", "no backup is of the future")
