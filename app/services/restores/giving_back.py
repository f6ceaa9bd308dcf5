"""Give what was loaded back to whom it belonged: only if it is what was dumped.

While a dump is loaded, all of it belongs to one role, and so does whatever the code in
it changes or adds. So everybody else is kept out first, and what is there is compared
with the dump, definition by definition. If anything differs nothing is given to
anybody: it stays with a role as which nobody can sign in.
"""

from dataclasses import dataclass
from typing import Any

from app.config import settings
from app.errors import ToolError
from app.postgres import closing, ownership
from app.postgres.census import Census
from app.postgres.connection import quoted
from app.postgres.conninfo import Conninfo, undisturbed
from app.postgres.databases import Server
from app.postgres.definitions import added_by_code, changes, definitions, dump_definitions
from app.postgres.differences import differences
from app.postgres.lending import extensions_of
from app.postgres.restore import Plan
from app.postgres.selection import narrowed_to
from app.postgres.tools import Toolchain, choose_toolchain, find_toolchains
from app.services.restores import scratch
from app.services.restores.load import Loader

_TOLD = 100  # differences that are kept

_LEFT = """
    SELECT DISTINCT pg_describe_object(classid, objid, 0)
    FROM pg_shdepend JOIN pg_database d ON d.oid = dbid
    WHERE datname = current_database() AND deptype = 'o'
      AND refclassid = 'pg_authid'::regclass
      AND refobjid = (SELECT oid FROM pg_roles WHERE rolname = %s)
    ORDER BY 1 LIMIT 20
"""
# A range's own type of many ranges goes with it, but not on every version.
_MULTIRANGES = """
    SELECT format('ALTER TYPE %%I.%%I OWNER TO %%I', nspname, m.typname,
                  pg_get_userbyid(r.typowner))
    FROM pg_range JOIN pg_type m ON m.oid = rngmultitypid JOIN pg_type r ON r.oid = rngtypid
    JOIN pg_namespace n ON n.oid = m.typnamespace
    WHERE pg_get_userbyid(m.typowner) = %s AND m.typowner <> r.typowner
"""
# What DROP OWNED leaves before 17: later dumps would name the role by its number.
_TRACES = """
    SELECT DISTINCT 'a privilege on ' || pg_describe_object(classoid, objoid, objsubid)
    FROM pg_init_privs, aclexplode(initprivs)
    WHERE (SELECT oid FROM pg_roles WHERE rolname = %s) IN (grantee, grantor)
    ORDER BY 1 LIMIT 20
"""


@dataclass(frozen=True)
class _Returned:
    """To whom everything belongs now."""

    owner: str  # of the database
    left: list[str]  # what still belongs to the role that has loaded it, in words
    found: Census


def give_back(
    loader: Loader, apart: Plan, role: Conninfo, admin: Conninfo, found: Census
) -> dict[str, Any]:
    """Compare what was loaded, give it back as far as it may be, and tell what differs."""
    order, user = loader.order, role.parameters["user"]
    expected = order.contents
    with loader.serving(admin) as server:
        if not scratch.loads_by_url(order.working):
            closing.lock_out(server, user)
        closing.close(server, order.working, user)
        closing.revoke_grants(server, user)
        server.run_all(loader.taking_tablespaces)
        server.comment_on(order.working, scratch.COMMENT + order.id)
        server.rows(f"ALTER DATABASE {quoted(order.working)} RESET ALL")
        if order.tables:
            expected = narrowed_to(expected, server.census("owned"))
        missing = sorted(ownership.roles_of(expected) - server.roles())
        changed, not_compared = [], []
        toolchain = None if order.foreign else _toolchain(loader, server)
        if toolchain is not None:
            changed = _changes(loader, toolchain, apart, (server, admin))
        elif not order.foreign:
            not_compared = [f"definitions, for there is no pg_dump {server.version.major} here"]
        if order.foreign:
            returned = _Returned(user, ["all of it"], {})
        elif changed or not_compared:
            returned = _Returned(user, ["all of it"], server.census("objects"))
        else:
            returned = _return(loader, apart, (server, admin, user), expected)
    told = [*changed, *differences(expected, found | returned.found)]
    if not (told or missing or order.foreign or not_compared):
        told = [f"{each} belongs to the role that has loaded it" for each in returned.left]
    return {
        "differences": told[:_TOLD],
        "tables": len(found["tables"]),
        "rows": sum(each["rows"] or 0 for each in found["tables"]),
        "missingRoles": missing,
        "owner": returned.owner,
        "keepsRole": bool(returned.left) and not scratch.loads_by_url(order.working),
        "staysShut": bool(changed or not_compared),
        "privileged": apart.privileged,
        "leftOut": [*apart.left_out_names, *_not_carried(loader)],
        "notCompared": not_compared,
    }


def _not_carried(loader: Loader) -> list[str]:
    """What this server cannot keep as it was, in words."""
    wanted = (loader.order.contents.get("properties") or {}).get("tablespace", "pg_default")
    of_database = [] if wanted in loader.tablespaces else [wanted]
    rules = ["ICU rules"] if scratch.lacks_icu_rules(loader.order.contents, loader.version) else []
    places = {*loader.missing_tablespaces, *of_database}
    return [*rules, *(f"tablespace {each}" for each in sorted(places))]


def _changes(
    loader: Loader, toolchain: Toolchain, apart: Plan, by: tuple[Server, Conninfo]
) -> list[str]:
    """What is not defined as in the dump, in words."""
    server, admin = by
    major = server.version.major
    expected, same_version = definitions(apart.defined), loader.order.major == major
    told: list[str] = []
    for quotes in ("off", "on"):  # around all names, as a setting may have had it
        asking = undisturbed(admin, major, quotes=quotes)
        with loader.running(admin) as running:
            there = dump_definitions(toolchain, asking, running)
        found = list(changes(expected, definitions(there), same_version=same_version))
        found += added_by_code(server, there, apart.grants)
        told = told or found
        if not found:
            told = []
            break
    if not told and extensions_of(server) != loader.extensions:
        told.append("an extension was changed while the dump was loaded")
    return told


def _toolchain(loader: Loader, server: Server) -> Toolchain | None:
    """The programs that loaded it, or newer ones: pg_dump must not be older than the server."""
    if loader.toolchain.version.major >= server.version.major:
        return loader.toolchain
    try:
        return choose_toolchain(find_toolchains(settings().pg_bin_dir), server.version)
    except ToolError:
        return None


def _return(
    loader: Loader, apart: Plan, by: tuple[Server, Conninfo, str], expected: Census
) -> _Returned:
    """Give each object to its owner, and take stock of what cannot differ then."""
    (server, admin, user), order = by, loader.order
    roles, working = server.roles(), quoted(order.working)
    missing = ownership.roles_of(expected) - roles
    owner = expected.get("owner")
    heir = owner if owner in roles else str(server.ask("SELECT current_user"))
    if not server.is_superuser():  # who is to own something must be able to create it there
        server.rows(f"ALTER DATABASE {working} OWNER TO {quoted(heir)}")
    server.run_all(loader.taking_back)
    statements = ownership.owners(expected, server.census("owned"), roles, user)
    server.run_all(each for each in statements if each.startswith("ALTER SCHEMA "))
    of_schemas = [each for each in apart.grants if each.name.startswith("SCHEMA ")]
    if not missing:
        loader.load(admin, of_schemas, with_owners=True)
    for _ in range(2):  # the second time for sequences that have no table
        server.run_all(ownership.owners(expected, server.census("owned"), roles, user))
    server.run_all(each for (each,) in server.rows(_MULTIRANGES, user))
    server.run_all(ownership.owners_of_large_objects(apart.load, roles))
    server.run_all(ownership.owners_by_entries(apart.load, roles))
    if not missing:
        others = [each for each in apart.grants if each not in of_schemas]
        loader.load(admin, others, with_owners=True)
    for statement in ownership.settings(expected, order.working, roles):
        server.rows(statement)
    left = [each for (each,) in server.rows(_LEFT, user)]
    if not left and not scratch.loads_by_url(order.working):
        server.rows(f"DROP OWNED BY {quoted(user)}")
        left = [each for (each,) in server.rows(_TRACES, user)]
    # Nothing comes after it that its event triggers could act upon: before 17
    # they cannot be turned off.
    loader.load(admin, apart.last, with_owners=not missing)
    parts = ("objects", "settings") if missing else ("objects", "owned", "settings")
    return _Returned(heir, left, server.census(*parts))
