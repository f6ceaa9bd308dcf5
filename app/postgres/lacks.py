"""What a role cannot read of a database, and the statements that mend it."""

from dataclasses import dataclass

from app.postgres.connection import quoted
from app.postgres.encodings import printable
from app.postgres.inspection import Barred, Rights
from app.postgres.least_privilege import READ_ALL_DATA, granting_large_objects

TABLES, ROW_SECURITY, LARGE_OBJECTS = "tables", "row security", "large objects"


@dataclass(frozen=True)
class Lack:
    """Something that pg_dump needs and the role lacks."""

    detail: str
    remedy: str  # SQL for a superuser


def lacks(role: str, major: int, rights: Rights) -> dict[str, Lack]:
    """What the role lacks on a server of this major version, by subject."""
    missing = {}
    grantee = printable(quoted(role))
    if detail := _unreadable(rights):
        missing[TABLES] = Lack(
            f"role {role} may not read {detail}",
            f"GRANT pg_read_all_data TO {grantee};"
            if major >= READ_ALL_DATA
            else " ".join(
                f"GRANT {what} {_names(barred)} TO {grantee};"
                for what, barred in (
                    ("USAGE ON SCHEMA", rights.schemas),
                    ("SELECT ON TABLE", rights.tables),
                    ("SELECT ON SEQUENCE", rights.sequences),
                )
                if barred.barred
            ),
        )
    if rights.row_security.barred:
        missing[ROW_SECURITY] = Lack(
            f"row-level security may hide rows of {_some(rights.row_security, 'table')}"
            f" from role {role}; pg_dump refuses that",
            f"ALTER ROLE {grantee} BYPASSRLS;",
        )
    if (large := rights.large_objects).barred:
        is_all = large.barred == len(large.names)
        missing[LARGE_OBJECTS] = Lack(
            f"role {role} may not read {_some(large, 'large object')}",
            f"GRANT SELECT ON LARGE OBJECT {_names(large)} TO {grantee};"
            if is_all
            else printable(granting_large_objects(role)),
        )
    return missing


def _unreadable(rights: Rights) -> str:
    """Tables and sequences, and the schemas that are in the way of them."""
    return ", ".join(
        f"{barred.barred} of {barred.all} {kind} ({_named(barred)})"
        for kind, barred in (
            ("tables", rights.tables),
            ("sequences", rights.sequences),
            ("schemas", rights.schemas),
        )
        if barred.barred
    )


def _some(barred: Barred, what: str) -> str:
    plural = "" if barred.barred == 1 else "s"
    return f"{barred.barred} {what}{plural} ({_named(barred)})"


def _named(barred: Barred) -> str:
    """The first few names and the number of the others: a, b and 12 more."""
    more = barred.barred - len(barred.names)
    return f"{_names(barred)} and {more} more" if more else _names(barred)


def _names(barred: Barred) -> str:
    return printable(", ".join(barred.names))
