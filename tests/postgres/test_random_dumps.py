"""Whatever a database holds: several jobs dump the same as one."""

import secrets
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.postgres.connection import quoted
from app.postgres.conninfo import Conninfo, client_environment
from app.postgres.dump import Request
from app.postgres.parallel_dump import Parts, dump_in_parallel
from app.programs.command import Watch
from tests.conftest import Database, url_of
from tests.postgres.conftest import LIMITS, exported, make_dump, nothing
from tests.postgres.test_assembly import (
    MAJORS,
    Pair,
    assert_equal_in_another_order,
    filled,
)
from tests.servers import toolchain

#: How a row's number becomes a value of each type.
TYPES = {
    "int": "n",
    "text": "repeat(md5(n::text), n % 50)",
    "numeric(12, 3)": "n / 7.0",
    "timestamptz": "timestamptz '2026-01-01' + n * interval '1 h'",
    "jsonb": "jsonb_build_object('n', n, 'text', E'a\\tb\\n\\\\.')",
    "bytea": "decode(md5(n::text), 'hex')",
    "int[]": "ARRAY[n, NULL]",
    "int4range": "int4range(n, n + 2)",
    "uuid": "md5(n::text)::uuid",
}

names = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=12
).filter(lambda name: len(name.encode()) < 60)


@st.composite
def statements(draw: st.DrawFn) -> list[str]:
    """Some tables with odd names, keys to earlier ones, views, and large objects."""
    schemas = draw(st.lists(names.filter(lambda name: not name.startswith("pg_")), max_size=2))
    made = [f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}" for schema in schemas]
    tables: list[str] = []
    for number, name in enumerate(draw(st.lists(names, max_size=6, unique=True))):
        schema = draw(st.sampled_from([*schemas, "public"]))
        table = f"{quoted(schema)}.{quoted(name)}"
        types = draw(st.lists(st.sampled_from(sorted(TYPES)), max_size=4))
        columns = [f"c{at} {kind}" for at, kind in enumerate(types)]
        if tables and draw(st.booleans()):
            columns.append(f"other int DEFAULT 1 REFERENCES {draw(st.sampled_from(tables))}")
        made.append(f"CREATE TABLE {table} ({', '.join(['id int PRIMARY KEY', *columns])})")
        values = ", ".join(["n", *(TYPES[kind] for kind in types)])
        filled_columns = ", ".join(["id", *(f"c{at}" for at in range(len(types)))])
        rows = draw(st.sampled_from([1, 7, 500]))
        made.append(
            f"INSERT INTO {table} ({filled_columns})"
            f" SELECT {values} FROM generate_series(1, {rows}) n"
        )
        if draw(st.booleans()):
            made.append(f"CREATE VIEW public.view_{number} AS SELECT count(*) FROM {table}")
        tables.append(table)
    large_objects = draw(st.sampled_from([0, 0, 1, 40]))
    made.append(
        "SELECT lo_from_bytea(0, decode(md5(n::text), 'hex'))"
        f" FROM generate_series(1, {large_objects}) n"
    )
    return made


@pytest.mark.parametrize("major", MAJORS)
@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(made=statements(), jobs=st.integers(2, 4), data=st.data())
def test_several_jobs_dump_what_one_does(
    *,
    major: int,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    made: list[str],
    jobs: int,
    data: st.DataObject,
):
    server: Conninfo = request.getfixturevalue("server" if major == 17 else f"server_{major}")
    chain = toolchain(major)
    method = data.draw(st.sampled_from(sorted(chain.methods)))
    folder = tmp_path / secrets.token_hex(4)
    folder.mkdir()
    pair = Pair(chain, folder / "ordinary.dump", folder / "directory", method)
    pair.directory.mkdir()
    with filled(server) as info:
        for statement in made:
            Database("", url_of(info, info.parameters["dbname"])).run(statement)
        with exported(info) as snapshot, client_environment(info, folder / "key") as environment:
            make_dump(chain, info, pair.ordinary, snapshot=snapshot, compression=method)
            pair.assembled.touch()
            dump_in_parallel(
                Request(chain, info, environment, snapshot, method),
                pair.assembled,
                Parts(pair.directory, jobs),
                limits=LIMITS,
                watch=Watch(),
                sign_of_life=nothing,
            )
    assert_equal_in_another_order(pair)
