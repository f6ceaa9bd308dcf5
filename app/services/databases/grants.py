"""The SQL of a role with least rights, made for one database and its server's version."""

from app.errors import InvalidInput
from app.postgres.least_privilege import least_privilege_sql
from app.services.databases.connections import reached
from app.services.databases.lookup import get_database

DEFAULT_ROLE = "backstop"
_MAX_BYTES = 63  # of a name, unless the server was built otherwise
_RESERVED = ("public", "none")


def grants_for(name: str, role: str = DEFAULT_ROLE) -> str:
    """The SQL by which this role may back up a database; its server is only read.

    Raises NotFound, InvalidInput, PostgresError, and as `connection_of`.
    """
    database, role = get_database(name), _checked_role(role)
    with reached(database) as info:
        return least_privilege_sql(info, role)


def _checked_role(role: str) -> str:
    is_name = role.isprintable() and 1 <= len(role.encode()) <= _MAX_BYTES
    if not is_name or role in _RESERVED or role.startswith("pg_"):
        raise InvalidInput(
            f"{role[:_MAX_BYTES]!r} is not a valid name of a role",
            hint=f"At most {_MAX_BYTES} bytes, all printable; public, none and pg_… are reserved.",
        )
    return role
