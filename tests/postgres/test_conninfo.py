"""From a URL to a signed-in client, whatever the names and passwords are."""

import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

import psycopg2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.config import ROOT
from app.errors import ConfigurationError
from app.postgres.connection import connect
from app.postgres.conninfo import (
    Conninfo,
    client_environment,
    parse_url,
    remove_stale_passfiles,
    write_passfile,
)
from app.postgres.tools import Toolchain
from app.programs import command
from tests.conftest import Database, url_of
from tests.postgres.conftest import Role, as_admin, at, make_dump, wait_until

PASSWORDS = [
    "plain",
    "with spaces in it",
    " spaces around ",
    "it's",
    'say "please"',
    "a\\b\\",
    "\\",
    ":",
    "::a:b\\:c",
    "100%",
    "%41",
    "p@ss@word",
    "a/b?c#d&e=f;g+h",
    "[::1]:5432",
    "user:pass@host/db?sslmode=disable",
    "grün-Straße-ключ-密码-🔑",
    "#not a comment",
    "*",
    "$(id) `id` $HOME ~ ! | > <",
    "{}%s%(a)s",
    "tab\there",
]

unhurried = settings(deadline=None, database=None)
printable = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=60
)


def ask(info: Conninfo, chain: Toolchain, private: Path) -> str:
    """Who a client program is where, signed in as a backup would be."""
    with client_environment(info, private) as environment:
        outcome = command.run(
            [
                chain.folder / "psql",
                "-X",
                "-w",
                "-At",
                "-d",
                info.dsn(),
                "-c",
                "SELECT current_user, current_database()",
            ],
            environment=environment,
            timeout=20,
            secrets=info.secrets,
        )
    assert outcome.status == 0, outcome.log
    return outcome.output.rstrip("\n")


# URLs


def test_a_url_is_taken_apart():
    info = parse_url("postgresql://ann:s3cret@db.example.org:5433/shop?sslmode=require")
    assert info.parameters == {
        "user": "ann",
        "host": "db.example.org",
        "port": "5433",
        "dbname": "shop",
        "sslmode": "require",
    }
    assert info.password == "s3cret"
    assert info.database == "shop"
    assert info.server == "db.example.org:5433"
    assert info.notices == ()


def test_the_shortest_url_leaves_everything_to_libpq(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PGHOST", raising=False)
    monkeypatch.delenv("PGPORT", raising=False)
    monkeypatch.setenv("PGUSER", "ann")
    info = parse_url("postgres://")
    assert info.parameters == {"dbname": "ann"}
    assert (info.password, info.secrets, info.database) == ("", (), "ann")
    assert info.server == "local socket:5432"
    monkeypatch.setenv("PGHOST", "db.example.org")
    monkeypatch.setenv("PGPORT", "5433")
    assert parse_url("postgres://").server == "db.example.org:5433"


def test_spaces_around_a_url_do_not_matter():
    assert parse_url(" postgresql://h/shop\n").database == "shop"


def test_a_database_without_a_name_is_the_user_s():
    assert parse_url("postgresql://ann@h").database == "ann"


def test_a_database_without_a_name_is_the_one_that_libpq_takes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PGDATABASE", "other")
    assert parse_url("postgresql://ann@h").database == "other"
    assert parse_url("postgresql://ann@h").parameters["dbname"] == "other"
    assert parse_url("postgresql://ann@h/shop").database == "shop"


def test_services_are_refused(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigurationError, match="services of libpq"):
        parse_url("postgresql:///?service=shop")
    monkeypatch.setenv("PGSERVICE", "shop")
    with pytest.raises(ConfigurationError, match="services of libpq"):
        parse_url("postgresql://ann@h/shop")


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("jdbc:postgresql://h:5432/shop?user=ann", "Leave out jdbc:"),
        ("'postgresql://ann@h/shop'", "Leave out the quotes"),
        ('"postgresql://ann@h/shop"', "Leave out the quotes"),
    ],
)
def test_a_url_that_is_nearly_one_is_told_what_is_too_much(url: str, hint: str):
    with pytest.raises(ConfigurationError) as refused:
        parse_url(url)
    assert hint in refused.value.hint


def test_a_short_password_is_noticed():
    assert "is masked better" in parse_url("postgresql://ann:r@h/shop").notices[0]


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("postgresql://[::1]:5433/d", "::1:5433"),
        ("postgresql://%2Frun%2Fpostgresql/d", "/run/postgresql:5432"),
        ("postgresql:///d?host=/run/postgresql&port=1", "/run/postgresql:1"),
        ("postgresql:///d?hostaddr=127.0.0.1", "127.0.0.1:5432"),
        ("postgresql://one:1,two:2/d", "one,two:1,2"),
    ],
)
def test_the_server_is_called_by_its_name(url: str, server: str):
    assert parse_url(url).server == server


def test_a_url_of_prisma_is_understood_and_the_rest_is_noticed():
    info = parse_url(
        "postgresql://ann:password@h:5432/shop?schema=public&connection_limit=5&sslmode=prefer"
        "&pgbouncer=true"
    )
    assert info.database == "shop"
    assert info.parameters["sslmode"] == "prefer"
    assert not {"schema", "connection_limit", "pgbouncer"} & set(info.parameters)
    assert info.notices == (
        "DATABASE_URL: schema is unknown to libpq and was ignored",
        "DATABASE_URL: connection_limit is unknown to libpq and was ignored",
        "DATABASE_URL: pgbouncer is unknown to libpq and was ignored",
    )


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg", "asyncpg", "pg8000"])
def test_a_url_of_sqlalchemy_is_understood(driver: str):
    info = parse_url(f"postgresql+{driver}://ann:p%40ssword@h/shop")
    assert (info.database, info.password, info.notices) == ("shop", "p@ssword", ())


@pytest.mark.parametrize(
    "query", ["sslmode=verify-full", "options=-c%20search_path%3Dx", "connect_timeout=3"]
)
def test_what_libpq_knows_is_kept_as_it_is(query: str):
    plain = psycopg2.extensions.parse_dsn(f"postgresql://h/d?{query}")
    assert parse_url(f"postgresql://h/d?{query}").parameters == plain


def test_jdbc_s_word_for_tls_is_kept_as_libpq_does():
    # Dropped, the connection could go over the network in plain text.
    assert parse_url("postgresql://h/d?ssl=true").parameters["sslmode"] == "require"


def test_a_plus_in_a_parameter_is_a_plus_as_it_is_to_libpq():
    assert parse_url("postgresql://h/d?user=ann&password=a+b").password == "a+b"


@pytest.mark.parametrize("character", list("#[]!*'(),;=&+ \"\\^`{|}~<>$-._ü🔑"))
def test_what_libpq_takes_unencoded_in_a_password_is_taken(character: str):
    password = f"ge{character}heim"
    info = parse_url(f"postgresql://ann:{password}@h/shop?schema=x")
    assert (info.password, info.parameters["host"], info.database) == (password, "h", "shop")


def test_a_question_mark_in_a_password_is_taken_as_libpq_does():
    info = parse_url("postgresql://ann:ge?heim@h/shop?schema=x")
    assert (info.password, info.parameters["host"], info.database) == ("ge?heim", "h", "shop")


# Secrets


def everything_about(info: Conninfo) -> str:
    shown = [repr(info), str(info), info.server, info.database, info.dsn(), *info.notices]
    return " ".join([*shown, *map(str, info.parameters.values())])


@pytest.mark.parametrize(
    "url",
    [
        "mysql://ann:CANARY@h/d",
        "ann:CANARY@h/d",
        "postgresql:ann:CANARY@h/d",
        "host=h password=CANARY",
        "CANARY",
        "postgresql://ann:CANARY%zz@h/d",
        "postgresql://ann:CANARY%@h/d",
        "postgresql://ann:CANARY%00@h/d",
        "postgresql://ann:CANARY@[::1/d",
        "postgresql://ann:CANARY@[::1]x/d",
        "postgresql://ann:CANARY%0A@h/d",
        "postgresql://ann@h/d?sslpassword=CANARY",
        # Passwords that were not percent-encoded, the common mistake: libpq reads them
        # as another host, port and database, which are shown to people.
        "postgresql://ann:12/CANARY@h/d",
        "postgresql://ann:CANARY/x@h/d",
        "postgresql://ann:x@CANARY@h/d",
        "postgresql://ann:CANARY",
        "postgresql://ann:CANARY%ff@h/d",
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_without_quoting_it(url: str):
    with pytest.raises(ConfigurationError, match="DATABASE_URL") as refused:
        parse_url(url)
    error = refused.value
    told = [error.message, error.detail, error.hint, repr(error), str(error)]
    assert "CANARY" not in " ".join(told + traceback.format_exception(error))
    assert error.hint


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:CANARY@h/d",
        "postgresql://ann:CANARY@h:1,i:2/d?schema=x",
        "postgresql://ann@h/d?password=CANARY",
        "postgresql://ann:x?CANARY@h/d",
        "postgresql://ann:CANARY?x@h/d",
    ],
)
def test_a_password_is_nowhere_but_apart(url: str):
    assert "CANARY" not in everything_about(parse_url(url))


unencoded = st.text("/?#@:%&=+[]1 ", max_size=4)


@unhurried
@given(unencoded, unencoded)
@example("1?", "/")
def test_a_password_that_was_not_encoded_is_understood_or_refused_but_never_shown(
    before: str, after: str
):
    # DEFECT: after "?" and with a "/" before the "@" it is taken for the name of a
    # parameter, and the notice shows it.
    with suppress(ConfigurationError):
        info = parse_url(f"postgresql://ann:{before}CANARY{after}@h/d")
        assert "CANARY" not in everything_about(info)


def test_secrets_are_known_in_every_form():
    assert parse_url("postgresql://ann:p%40ss@h/d").secrets == ("p@ss", "p%40ss")
    assert parse_url("postgresql://ann:plain@h/d").secrets == ("plain",)


def test_a_password_that_no_password_file_can_hold_is_refused():
    # libpq strips a carriage return from the end of the file's line too.
    for end in ("%0A", "%0Ax", "%0D", "%0D%0A"):
        with pytest.raises(ConfigurationError, match="cannot be passed on safely"):
            parse_url(f"postgresql://ann:pw{end}@h/d")


@unhurried
@given(printable)
def test_any_password_survives_a_url(password: str):
    info = parse_url(f"postgresql://ann:{quote(password, safe='')}@h:5432/shop?schema=public")
    assert info.password == password
    assert info.database == "shop"


@unhurried
@given(printable, printable, printable)
def test_any_names_survive_a_url_and_a_connection_string(user: str, password: str, name: str):
    info = parse_url(
        f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@h/{quote(name, safe='')}"
    )
    assert (info.parameters["user"], info.password, info.database) == (user, password, name)
    assert psycopg2.extensions.parse_dsn(info.dsn()) == info.parameters


@unhurried
@given(password=printable)
def test_any_password_survives_a_password_file(
    password: str, tmp_path_factory: pytest.TempPathFactory
):
    path = tmp_path_factory.mktemp("private") / "pgpass"
    write_passfile(path, password)
    line = path.read_bytes().decode()
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert as_libpq_reads(line.removesuffix("\n")) == ["*", "*", "*", "*", password]


def as_libpq_reads(line: str) -> list[str]:
    """The fields of a line as passwordFromFile of fe-connect.c takes them apart."""
    fields, characters = [""], iter(line)
    for character in characters:
        if character == "\\":
            fields[-1] += next(characters, "")
        elif character == ":":
            fields.append("")
        else:
            fields[-1] += character
    return fields


# Signing in


@pytest.mark.parametrize("password", PASSWORDS)
def test_any_password_signs_in_ourselves_and_our_programs(
    password: str,
    server: Conninfo,
    new_role: Callable[..., Role],
    own_toolchain: Toolchain,
    tmp_path: Path,
):
    role = new_role(password=password)
    info = parse_url(url_of(server, "postgres", role.name, password))
    with connect(info, application_name="test") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        assert cursor.fetchone() == (role.name,)
    assert ask(info, own_toolchain, tmp_path) == f"{role.name}|postgres"


def test_a_wrong_password_does_not_sign_in(
    server: Conninfo, new_role: Callable[..., Role], own_toolchain: Toolchain, tmp_path: Path
):
    """Else the tests above would prove nothing."""
    role = new_role(password="right")
    info = parse_url(url_of(server, "postgres", role.name, "wrong"))
    with pytest.raises(AssertionError, match="password authentication failed"):
        ask(info, own_toolchain, tmp_path)


NAMES = [
    "dbname=src port=5599",
    "postgresql://elsewhere/src",
    "it's",
    'a "quoted" name',
    "with spaces ",
    "Büro & Lager – 日本",
    "back\\slash",
    "a/b?c#d 100%",
    "-h elsewhere",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_database_of_any_name_is_connected_to_and_dumped(
    name: str,
    new_database: Callable[..., Database],
    server: Conninfo,
    own_toolchain: Toolchain,
    tmp_path: Path,
):
    made = new_database(name)
    made.run("CREATE TABLE the_right_one (id int)")
    info = parse_url(made.url)
    assert info.database == name
    with connect(info, application_name="test") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        assert cursor.fetchone() == (name,)
    make_dump(own_toolchain, info, tmp_path / "x.dump")
    listed = command.run([own_toolchain.pg_restore, "-l", tmp_path / "x.dump"], timeout=20).output
    assert f";     dbname: {name}\n" in listed
    assert "the_right_one" in listed


def test_changes_of_a_connection_string_win(server: Conninfo):
    info = Conninfo({"host": "h", "dbname": "d"})
    assert info.dsn(dbname="other", connect_timeout=3) == "host=h dbname=other connect_timeout=3"


# Password files


def test_a_password_file_is_private_and_goes_away(tmp_path: Path):
    info = Conninfo({"dbname": "d"}, "a:b\\c")
    private = tmp_path / "to be" / "made"
    with client_environment(info, private) as environment:
        path = Path(environment["PGPASSFILE"])
        assert path.parent == private
        assert path.stat().st_mode & 0o777 == 0o600
        assert private.stat().st_mode & 0o777 == 0o700
        assert path.read_text() == "*:*:*:*:a\\:b\\\\c\n"
        assert "a:b\\c" not in "".join(environment.values())
    assert list(private.iterdir()) == []


def test_a_password_file_is_private_whatever_the_umask(tmp_path: Path):
    before = os.umask(0)
    try:
        with client_environment(Conninfo({}, "pw"), tmp_path / "private") as environment:
            assert Path(environment["PGPASSFILE"]).stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_password_file_goes_away_on_errors_too(error: type[BaseException], tmp_path: Path):
    with pytest.raises(error), client_environment(Conninfo({}, "pw"), tmp_path):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_password_file_that_is_gone_already_is_no_error(tmp_path: Path):
    with client_environment(Conninfo({}, "pw"), tmp_path) as environment:
        Path(environment["PGPASSFILE"]).unlink()


def test_two_programs_have_two_password_files(tmp_path: Path):
    info = Conninfo({}, "pw")
    with client_environment(info, tmp_path) as one, client_environment(info, tmp_path) as two:
        assert one["PGPASSFILE"] != two["PGPASSFILE"]


def test_a_password_file_is_never_written_over_another(tmp_path: Path):
    write_passfile(tmp_path / "pgpass", "first")
    with pytest.raises(FileExistsError):
        write_passfile(tmp_path / "pgpass", "second")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(FileExistsError):
        write_passfile(tmp_path / "link", "second")
    assert not (tmp_path / "target").exists()


def test_without_a_password_the_user_s_own_file_serves(
    server: Conninfo,
    new_role: Callable[..., Role],
    own_toolchain: Toolchain,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    role = new_role(password="of the user's own file")
    write_passfile(tmp_path / "own", role.password)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "own"))
    info = Conninfo({**server.parameters, "user": role.name, "dbname": "postgres"})
    assert ask(info, own_toolchain, tmp_path / "private") == f"{role.name}|postgres"
    assert not (tmp_path / "private").exists()


def test_a_password_of_the_environment_does_not_hide_the_url_s(
    server: Conninfo, own_toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PGPASSWORD", "wrong")
    monkeypatch.setenv("PGPASSFILE", "/nowhere")
    assert ask(at(server, "postgres"), own_toolchain, tmp_path) == "backstop|postgres"


def test_a_password_file_of_the_url_does_not_hide_its_password(
    server: Conninfo, own_toolchain: Toolchain, tmp_path: Path
):
    # The parameter passfile would win over PGPASSFILE.
    url = f"{url_of(server, 'postgres')}&passfile={tmp_path}/nothing"
    assert ask(parse_url(url), own_toolchain, tmp_path) == "backstop|postgres"


def test_stale_password_files_are_removed_and_those_in_use_stay(tmp_path: Path):
    stale = tmp_path / "pgpass-0123456789abcdef"
    write_passfile(stale, "pw")
    (tmp_path / "something else").touch()
    with client_environment(Conninfo({}, "pw"), tmp_path) as ours:
        remove_stale_passfiles(tmp_path)
        assert Path(ours["PGPASSFILE"]).read_text() == "*:*:*:*:pw\n"
    assert not Path(ours["PGPASSFILE"]).exists()
    assert not stale.exists()
    assert (tmp_path / "something else").exists()


def test_a_password_file_of_a_process_that_was_killed_is_removed(tmp_path: Path):
    code = (
        "import pathlib, sys\n"
        "from app.postgres.conninfo import Conninfo, client_environment\n"
        "with client_environment(Conninfo({}, 'pw'), pathlib.Path(sys.argv[1])): input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, cwd=ROOT
    ) as other:
        wait_until(lambda: any(tmp_path.iterdir()), "the other's file")
        remove_stale_passfiles(tmp_path)
        assert any(tmp_path.iterdir()), "its owner lives"
        other.kill()
    remove_stale_passfiles(tmp_path)
    assert not any(tmp_path.iterdir())


def test_no_private_folder_holds_no_stale_files(tmp_path: Path):
    remove_stale_passfiles(tmp_path / "not made yet")


def test_a_foreign_folder_does_not_stop_the_tidying(tmp_path: Path):
    (tmp_path / "pgpass-folder").mkdir()
    write_passfile(tmp_path / "pgpass-stale", "pw")
    remove_stale_passfiles(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["pgpass-folder"]


def test_a_server_s_superuser_is_who_the_tests_think(server: Conninfo):
    with closing(psycopg2.connect(as_admin(server).url)) as connection:
        assert connection.info.user == "backstop"
