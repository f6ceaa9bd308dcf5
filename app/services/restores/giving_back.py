"""Give the loaded objects back to their owners, but only if they are what was dumped.

While a dump is loaded, one role owns all of it, including whatever code in it changes or
adds. So everybody else is kept out first, and every definition is compared with the dump.
If anything differs, nobody gets anything: it all stays with a role that cannot sign in.
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
from app.postgres.restore import Options, Plan
from app.postgres.selection import narrowed_to
from app.postgres.tools import Toolchain, choose_toolchain, find_toolchains
from app.services.restores import scratch
from app.services.restores.load import Loader

_MOST = 100  # differences that are kept

_LEFT = """
    SELECT DISTINCT pg_describe_object(classid, objid, 0)
    FROM pg_shdepend JOIN pg_database d ON d.oid = dbid
    WHERE datname = current_database() AND deptype = 'o'
      AND refclassid = 'pg_authid'::regclass
      AND refobjid = (SELECT oid FROM pg_roles WHERE rolname = %s)
    ORDER BY 1 LIMIT 20
"""
# The multirange type of a range follows it to its owner, but not on every version.
_MULTIRANGES = """
    SELECT format('ALTER TYPE %%I.%%I OWNER TO %%I', nspname, m.typname,
                  pg_get_userbyid(r.typowner))
    FROM pg_range JOIN pg_type m ON m.oid = rngmultitypid JOIN pg_type r ON r.oid = rngtypid
    JOIN pg_namespace n ON n.oid = m.typnamespace
    WHERE pg_get_userbyid(m.typowner) = %s AND m.typowner <> r.typowner
"""
# Left over by DROP OWNED before 17; later dumps would name the role by its number.
_TRACES = """
    SELECT DISTINCT 'a privilege on ' || pg_describe_object(classoid, objoid, objsubid)
    FROM pg_init_privs, aclexplode(initprivs)
    WHERE (SELECT oid FROM pg_roles WHERE rolname = %s) IN (grantee, grantor)
    ORDER BY 1 LIMIT 20
"""


@dataclass(frozen=True)
class _Returned:
    """The owners after everything was given back, or kept."""

    owner: str  # of the database
    left: list[str]  # what the role that loaded it still owns, in words
    census: Census


@dataclass(frozen=True)
class _Comparison:
    """How the definitions in the restored database compare with those in the dump."""

    changed: list[str]
    not_compared: list[str]

    @property
    def is_equal(self) -> bool:
        return not (self.changed or self.not_compared)


@dataclass(frozen=True)
class _Admin:
    """The admin's session in the restored database, and how pg_dump signs in there."""

    server: Server
    info: Conninfo


def give_back(
    loader: Loader, plan: Plan, role: Conninfo, admin: Conninfo, counted: Census
) -> dict[str, Any]:
    """Compare what was loaded, give it back as far as possible, and list the differences."""
    order, user = loader.order, role.parameters["user"]
    with loader.serving(admin) as server:
        _take_over(loader, server, user)
        expected = order.contents
        if order.tables:
            expected = narrowed_to(expected, server.census("owned"))
        missing = sorted(ownership.roles_of(expected) - server.roles())
        session = _Admin(server, admin)
        comparison = _Comparison([], [])
        if order.backup.foreign:
            returned = _Returned(user, ["all of it"], {})
        else:
            comparison = _compare(loader, plan, session)
            if comparison.is_equal:
                returned = _return(loader, plan, session, user, expected)
            else:
                returned = _Returned(user, ["all of it"], server.census("objects"))
    reported = [*comparison.changed, *differences(expected, counted | returned.census)]
    if not (reported or missing or order.backup.foreign or comparison.not_compared):
        reported = [f"{text} still belongs to the role that loaded it" for text in returned.left]
    by_url = scratch.loads_by_url(order.working, order.guarded.server)
    return {
        "differences": reported[:_MOST],
        "tables": len(counted["tables"]),
        "rows": sum(table["rows"] or 0 for table in counted["tables"]),
        "missingRoles": missing,
        "owner": returned.owner,
        "keepsRole": bool(returned.left) and not by_url,
        "staysShut": not comparison.is_equal,
        "privileged": plan.privileged,
        "leftOut": [*plan.left_out_names, *_not_restored(loader)],
        "notCompared": comparison.not_compared,
    }


def _take_over(loader: Loader, server: Server, user: str) -> None:
    """Keep everybody else out, and revoke what code in the dump may have granted."""
    working = loader.order.working
    if not scratch.loads_by_url(working, server.info.server):
        closing.lock_out(server, user)
    closing.close(server, working, user)
    closing.revoke_grants(server, user)
    server.run_all(loader.taking_tablespaces)
    server.comment_on(working, scratch.COMMENT + loader.order.id)
    server.rows(f"ALTER DATABASE {quoted(working)} RESET ALL")


def _not_restored(loader: Loader) -> list[str]:
    """What this server cannot store, in words."""
    wanted = (loader.order.contents.get("properties") or {}).get("tablespace", "pg_default")
    of_database = [] if wanted in loader.tablespaces else [wanted]
    rules = ["ICU rules"] if scratch.lacks_icu_rules(loader.order.contents, loader.version) else []
    tablespaces = {*loader.missing_tablespaces, *of_database}
    return [*rules, *(f"tablespace {name}" for name in sorted(tablespaces))]


def _compare(loader: Loader, plan: Plan, admin: _Admin) -> _Comparison:
    major = admin.server.version.major
    toolchain = _toolchain(loader, admin.server)
    if toolchain is None:
        return _Comparison([], [f"definitions, because pg_dump {major} is not installed here"])
    expected, same_version = definitions(plan.defined), loader.order.major == major
    changed: list[str] = []
    for quotes in ("off", "on"):  # quote_all_identifiers of the dump is not known
        asking = undisturbed(admin.info, major, quotes=quotes)
        with loader.supervision(admin.info) as supervision:
            list_file = scratch.list_file(loader.order.id)
            actual = dump_definitions(toolchain, asking, list_file, supervision)
        differing = list(changes(expected, definitions(actual), same_version=same_version))
        differing += added_by_code(admin.server, actual, plan.grants)
        changed = changed or differing
        if not differing:
            changed = []
            break
    if not changed and extensions_of(admin.server) != loader.extensions:
        changed.append("an extension was changed while the dump was loaded")
    return _Comparison(changed, [])


def _toolchain(loader: Loader, server: Server) -> Toolchain | None:
    """The programs that loaded it, or newer ones: pg_dump must not be older than the server."""
    if loader.toolchain.version.major >= server.version.major:
        return loader.toolchain
    try:
        return choose_toolchain(find_toolchains(settings().pg_bin_dir), server.version)
    except ToolError:
        return None


def _return(loader: Loader, plan: Plan, admin: _Admin, user: str, expected: Census) -> _Returned:
    """Give each object to its owner; then list what `user` still owns."""
    server, working = admin.server, loader.order.working
    roles = server.roles()
    missing = ownership.roles_of(expected) - roles
    owner = expected.get("owner")
    heir = owner if owner in roles else str(server.ask("SELECT current_user"))
    if not server.is_superuser():  # new owners must be able to create objects there
        server.rows(f"ALTER DATABASE {quoted(working)} OWNER TO {quoted(heir)}")
    server.run_all(loader.taking_back)
    grants = [] if missing else plan.grants
    on_schemas = [entry for entry in grants if entry.name.startswith("SCHEMA ")]
    statements = ownership.owners(expected, server.census("owned"), roles, user)
    server.run_all(text for text in statements if text.startswith("ALTER SCHEMA "))
    with_owners = Options(with_owners=True)
    loader.load(admin.info, on_schemas, with_owners)
    for _ in range(2):  # the second time for sequences that have no table
        server.run_all(ownership.owners(expected, server.census("owned"), roles, user))
    server.run_all(statement for (statement,) in server.rows(_MULTIRANGES, user))
    server.run_all(ownership.owners_of_large_objects(plan.load, roles))
    server.run_all(ownership.owners_by_entries(plan.load, roles))
    loader.load(admin.info, [entry for entry in grants if entry not in on_schemas], with_owners)
    for statement in ownership.settings(expected, working, roles):
        server.rows(statement)
    left = _left_with(server, user, working)
    # Nothing follows that its event triggers could act upon: before 17, they cannot be
    # turned off.
    loader.load(admin.info, plan.last, Options(with_owners=not missing))
    parts = ("objects", "settings") if missing else ("objects", "owned", "settings")
    return _Returned(heir, left, server.census(*parts))


def _left_with(server: Server, user: str, working: str) -> list[str]:
    """What the role that loaded the dump still owns; if nothing, drop its other privileges."""
    left = [text for (text,) in server.rows(_LEFT, user)]
    if left or scratch.loads_by_url(working, server.info.server):
        return left
    server.rows(f"DROP OWNED BY {quoted(user)}")
    return [text for (text,) in server.rows(_TRACES, user)]
