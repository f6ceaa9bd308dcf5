"""The census of a database: its objects counted and named, to compare two databases exactly.

It is taken in the snapshot of a dump, and again in a database restored from it. Members
of extensions are left out, because CREATE EXTENSION makes them.
"""

from collections.abc import Iterable
from typing import Any

from app.postgres.connection import quoted

Census = dict[str, Any]

# The objects that pg_dump dumps: none of extensions, of the system or of sessions, and no
# invalid index.
_USER_OBJECTS = """
    WITH member AS MATERIALIZED (
        SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
    ), space AS MATERIALIZED (
        SELECT oid, nspname, nspowner, nspacl,  -- users may own objects in an extension's schema
               (oid, 'pg_namespace'::regclass) IN (SELECT objid, classid FROM member) AS is_member
        FROM pg_namespace
        WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
    ), relation AS MATERIALIZED (
        SELECT c.* FROM pg_class c
        WHERE c.relnamespace IN (SELECT oid FROM space) AND c.relpersistence <> 't'
          AND NOT EXISTS (SELECT FROM member
                          WHERE classid = 'pg_class'::regclass AND objid = c.oid)
    ), routine AS MATERIALIZED (
        SELECT p.* FROM pg_proc p
        WHERE p.pronamespace IN (SELECT oid FROM space)
          AND NOT EXISTS (SELECT FROM member
                          WHERE classid = 'pg_proc'::regclass AND objid = p.oid)
    ), kind AS MATERIALIZED (
        SELECT t.* FROM pg_type t
        WHERE t.typnamespace IN (SELECT oid FROM space) AND t.typelem = 0
          AND (t.typrelid = 0
               OR (SELECT relkind FROM pg_class c WHERE c.oid = t.typrelid) = 'c')
          AND t.typtype IN ('b', 'c', 'd', 'e', 'r')
          AND NOT EXISTS (SELECT FROM member
                          WHERE classid = 'pg_type'::regclass AND objid = t.oid)
    )
"""

_OBJECTS = f"""
    {_USER_OBJECTS}
    SELECT jsonb_object_agg(what, number) FROM (
        SELECT CASE relkind WHEN 'r' THEN 'tables' WHEN 'p' THEN 'partitioned tables'
                            WHEN 'v' THEN 'views' WHEN 'm' THEN 'materialized views'
                            WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'foreign tables' END AS what,
               count(*) AS number
        FROM relation WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f') GROUP BY 1
        UNION ALL
        SELECT 'indexes', count(*) FROM pg_index i JOIN relation r ON r.oid = i.indrelid
        WHERE (i.indisvalid OR r.relkind = 'p') AND i.indisready
        UNION ALL
        SELECT 'constraints', count(*) FROM pg_constraint
        WHERE contype NOT IN ('n', 't')
          AND (conrelid IN (SELECT oid FROM relation) OR contypid IN (SELECT oid FROM kind))
        UNION ALL
        SELECT 'triggers', count(*) FROM pg_trigger
        WHERE tgrelid IN (SELECT oid FROM relation) AND NOT tgisinternal
        UNION ALL
        SELECT 'policies', count(*) FROM pg_policy WHERE polrelid IN (SELECT oid FROM relation)
        UNION ALL
        SELECT 'rules', count(*) FROM pg_rewrite
        WHERE ev_class IN (SELECT oid FROM relation) AND rulename <> '_RETURN'
        UNION ALL SELECT 'functions', count(*) FROM routine
        UNION ALL SELECT 'types', count(*) FROM kind
        UNION ALL SELECT 'schemas', count(*) FROM space WHERE NOT is_member
        UNION ALL SELECT 'large objects', count(*) FROM pg_largeobject_metadata
    ) counted WHERE number > 0
"""  # noqa: S608 - our own text

# Objects without grants: their catalogue, and the prefix of its columns.
_WITHOUT_GRANTS = {
    "pg_operator": "opr",
    "pg_opclass": "opc",
    "pg_opfamily": "opf",
    "pg_collation": "coll",
    "pg_conversion": "con",
    "pg_ts_dict": "dict",
    "pg_ts_config": "cfg",
    "pg_statistic_ext": "stx",
}
_OTHERS = " ".join(
    f"""
    UNION ALL
    SELECT '{catalog}'::regclass, oid, 0, {prefix}owner, NULL, NULL FROM {catalog}
    WHERE {prefix}namespace IN (SELECT oid FROM space)
      AND (oid, '{catalog}'::regclass) NOT IN (SELECT objid, classid FROM member)"""  # noqa: S608
    for catalog, prefix in _WITHOUT_GRANTS.items()
)


def _granted(acl: str) -> str:
    return f"""
        SELECT COALESCE(array_agg(one COLLATE "C" ORDER BY one COLLATE "C"), '{{}}') FROM (
            SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee) END
                   || ': ' || privilege_type
                   || CASE WHEN is_grantable THEN ' *' ELSE '' END AS one
            FROM aclexplode({acl}) WHERE privilege_type <> 'MAINTAIN'
        ) granted"""  # noqa: S608 - our own text


# The owner of each object, and grants other than the default; large objects, of which
# there may be millions, by owner and grants.
_OWNED = f"""
    {_USER_OBJECTS},
    owned (class, object, part, owner, acl, default_acl) AS (
        SELECT 'pg_class'::regclass, oid, 0, relowner, relacl,
               acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)
        FROM relation WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
        UNION ALL
        SELECT 'pg_class'::regclass, attrelid, attnum, 0::oid, attacl, acldefault('c', relowner)
        FROM pg_attribute JOIN relation ON relation.oid = attrelid
        WHERE attacl IS NOT NULL AND NOT attisdropped
        UNION ALL
        SELECT 'pg_proc'::regclass, oid, 0, proowner, proacl, acldefault('f', proowner)
        FROM routine
        UNION ALL
        SELECT 'pg_type'::regclass, oid, 0, typowner, typacl, acldefault('T', typowner) FROM kind
        UNION ALL
        SELECT 'pg_namespace'::regclass, oid, 0, nspowner, nspacl, acldefault('n', nspowner)
        FROM space WHERE NOT is_member
        UNION ALL
        SELECT 'pg_largeobject'::regclass, min(oid), 0, lomowner, lomacl, acldefault('L', lomowner)
        FROM pg_largeobject_metadata GROUP BY lomowner, lomacl
        {_OTHERS}
    )
    SELECT COALESCE(jsonb_agg(entry ORDER BY entry), '[]') FROM (
        SELECT jsonb_build_array(
            told.type,
            CASE WHEN class = 'pg_largeobject'::regclass THEN '' ELSE told.identity END,
            CASE WHEN owner <> 0 THEN pg_get_userbyid(owner) END,
            -- As sets: revoking and granting again changes the order.
            CASE WHEN acl IS NOT NULL AND has.granted <> usual.granted
                 THEN to_jsonb(has.granted) END) AS entry
        FROM owned, pg_identify_object(class, object, part) told,
             LATERAL ({_granted("acl")}) has (granted),
             LATERAL ({_granted("default_acl")}) usual (granted)
    ) entries
"""  # noqa: S608 - our own text

# Settings of the database and of roles in it, which a dump without --create lacks.
_SETTINGS = """
    SELECT COALESCE(jsonb_agg(jsonb_build_array(COALESCE(r.rolname, ''), setting)
                              ORDER BY r.rolname, setting), '[]')
    FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole,
         unnest(s.setconfig) setting
    WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

# The grants on the database; null is the default.
_ACCESS = """
    SELECT (SELECT jsonb_agg(jsonb_build_array(
                CASE grantee WHEN 0 THEN '' ELSE pg_get_userbyid(grantee) END,
                privilege_type, is_grantable) ORDER BY grantee, privilege_type)
            FROM aclexplode(datacl))
    FROM pg_database WHERE datname = current_database() AND datacl IS NOT NULL
"""

_COMMENT = """
    SELECT shobj_description(oid, 'pg_database') FROM pg_database
    WHERE datname = current_database()
"""

# Properties of the database. to_jsonb, because the columns depend on the version.
_PROPERTIES = """
    SELECT jsonb_build_object(
        'connectionLimit', datconnlimit, 'isTemplate', datistemplate,
        'tablespace', spcname, 'icuRules', to_jsonb(d) -> 'daticurules')
    FROM pg_database d JOIN pg_tablespace t ON t.oid = dattablespace
    WHERE datname = current_database()
"""

#: The parts of a census, and the statement that returns the value of each.
STATEMENTS = {
    "objects": _OBJECTS,
    "owned": _OWNED,
    "settings": _SETTINGS,
    "access": _ACCESS,
    "comment": _COMMENT,
    "properties": _PROPERTIES,
}


def counting(tables: Iterable[tuple[int, str, str]]) -> str:
    """The statement that counts the rows of tables, given as key, schema and name.

    ONLY leaves out the rows of tables that inherit from them.
    """
    return " UNION ALL ".join(
        f"SELECT {key}::bigint, count(*) FROM ONLY {quoted(schema)}.{quoted(name)}"  # noqa: S608
        for key, schema, name in tables
    )


def reading(sequences: Iterable[tuple[int, str, str]]) -> str:
    """The statement that reads sequences: key, last value, and whether it was used."""
    return " UNION ALL ".join(
        f"SELECT {key}::bigint, last_value, is_called"  # noqa: S608
        f" FROM {quoted(schema)}.{quoted(name)}"
        for key, schema, name in sequences
    )
