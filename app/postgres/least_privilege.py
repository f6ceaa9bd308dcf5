"""The SQL that makes a role which may read everything that a dump needs, and nothing else."""

from app.postgres.connection import quoted
from app.postgres.ownership import literal

_GRANT_LARGE_OBJECTS = (
    "DECLARE number oid; BEGIN FOR number IN SELECT oid FROM pg_catalog.pg_largeobject_metadata"
    " LOOP EXECUTE pg_catalog.format('GRANT SELECT ON LARGE OBJECT %s TO %s', number, {role});"
    " END LOOP; END"
)


def granting_large_objects(role: str) -> str:
    """The statement that lets the role read all large objects that exist."""
    body = _GRANT_LARGE_OBJECTS.replace("{role}", literal(quoted(role)))
    return f"DO {literal(body)};" if "$" in role else f"DO $${body}$$;"
