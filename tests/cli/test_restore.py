"""flask backup drill and restore, and flask restore, as cron and people use them."""

import json
import re
from collections.abc import Callable

import pytest
from click.testing import Result
from flask import Flask

from app.extensions import writing
from app.models import Kind, Status
from app.services.backups import listing
from tests.api.test_downloads import planted
from tests.api.test_restores import planted_restore
from tests.conftest import NO_SERVER, Database

Run = Callable[..., Result]


@pytest.fixture
def run(app: Flask) -> Run:
    cli = app.test_cli_runner()
    return lambda *words, **more: cli.invoke(args=list(words), **more)


@pytest.fixture
def run_without_server(make_app: Callable[..., Flask]) -> tuple[Run, Flask]:
    """For what needs rows only."""
    app = make_app(database_url=NO_SERVER)
    cli = app.test_cli_runner()
    return (lambda *words, **more: cli.invoke(args=list(words), **more)), app


def made(run: Run) -> str:
    result = run("backup", "create")
    assert result.exit_code == 0, result.output
    return result.stdout.split(" ", 1)[0]


def test_a_drill_of_the_newest_tells_what_it_found(run: Run, app: Flask):
    name = made(run)
    result = run("backup", "drill", "--latest")
    assert result.exit_code == 0, result.output
    told = (
        rf"Restored {name} in \d+\.\d s: 2 tables, 550 rows, no difference\.\n"
        r"  on PostgreSQL \d+\.\d+ for this drill alone, .*isolated.*\n"
    )
    assert re.fullmatch(told, result.stdout)
    assert result.stderr == ""
    assert re.search(r"Restored in .*s \d{4}-", run("backup", "list").stdout)
    shown = run("backup", "show", name).stdout
    assert re.search(r"proof: +Restored in ", shown)
    assert re.search(r"proof: +Read back \(", shown)
    assert run("backup", "drill", name, "-q").output == ""


def test_a_restore_beside_prints_the_new_name_first(run: Run, shop: Database):
    name = made(run)
    result = run("backup", "restore", name, "--into", f"{shop.name}_mine")
    try:
        assert result.exit_code == 0, result.output
        assert re.search(r"Proven of it: Read back \(.* UTC\)\.\n", result.stderr)
        assert "is needed on the server; " in result.stderr
        assert result.stdout.startswith(f"{shop.name}_mine (restored in ")
        assert f"into a new database {shop.name}_mine" in result.stderr
        again = run("backup", "restore", name, "--into", f"{shop.name}_mine")
        assert again.exit_code == 1
        assert "exists already" in again.stderr
        listed = run("restore", "list").stdout
        assert listed.count("beside") == 1  # the second did not even begin
        assert f"into {shop.name}_mine" in listed
    finally:
        shop.run(f'DROP DATABASE IF EXISTS "{shop.name}_mine"')


def test_missing_roles_are_named_before_it_begins(run: Run, shop: Database):
    role = f"{shop.name}_gone"
    shop.run(f"CREATE ROLE {role} LOGIN; GRANT SELECT ON orders TO {role}")
    name = made(run)
    shop.run(f"DROP OWNED BY {role}; DROP ROLE {role}")
    refused = run("backup", "restore", name, "--replace", "--yes")
    assert refused.exit_code == 1
    assert f"role {role} does not exist" in refused.stderr
    assert f'CREATE ROLE "{role}" WITH NOSUPERUSER ' in refused.stderr
    result = run("backup", "restore", name, "--into", f"{shop.name}_mine")
    shop.run(f'DROP DATABASE "{shop.name}_mine"')
    assert result.exit_code == 0, result.output
    create = result.stderr.partition("To create the missing roles:\n")[2].splitlines()
    assert create[0].startswith(f'  CREATE ROLE "{role}" WITH NOSUPERUSER ')


def test_a_replace_is_confirmed_undone_and_its_rest_dropped(run: Run, shop: Database):
    name = made(run)
    shop.run("DELETE FROM orders")
    refused = run("backup", "restore", name, "--replace", input="another\n")
    assert refused.exit_code == 1
    assert f"Error: type {shop.name} to replace it" in refused.stderr
    assert shop.run("SELECT count(*) FROM orders") == [(0,)]

    result = run("backup", "restore", name, "--replace", input=f"{shop.name}\n")
    assert result.exit_code == 0, result.output
    assert "Connected to that now: 0 sessions." in result.stderr
    done = r"\(restored in \d+\.\d s: 2 tables, 550 rows"
    assert re.match(f"{shop.name} is that of {name} {done}", result.stdout)
    assert shop.run("SELECT count(*) FROM orders") == [(500,)]
    kept = re.search(r"is kept as (\S+) until ", result.stdout)
    undo = re.search(r"To undo it: flask (restore undo \S+)", result.stdout)
    assert kept
    assert undo
    words = undo[1].split()
    assert undo[1] in run("restore", "show", words[-1]).stdout

    assert run(*words, input="n\n").exit_code == 1
    undone = run("restore", "undo", "--yes")  # the newest that can be
    assert undone.exit_code == 0, undone.output
    assert shop.run("SELECT count(*) FROM orders") == [(0,)]
    assert run(*words, "--yes").exit_code == 1  # once is enough
    assert "there is no replace that can be undone" in run("restore", "undo", "--yes").stderr

    dropped = run("restore", "drop", words[-1], input="y\n")
    assert dropped.exit_code == 0, dropped.output
    left = shop.run("SELECT count(*) FROM pg_database WHERE datname ~ %s", f"^{shop.name}__")
    assert left == [(0,)]


def test_a_drill_that_fails_exits_1_and_marks_the_backup(run: Run, app: Flask):
    name = made(run)
    dump = app.extensions["backstop.settings"].backup_dir / name
    raw = bytearray(dump.read_bytes())
    raw[-100] ^= 1
    dump.chmod(0o600)
    dump.write_bytes(raw)
    result = run("backup", "drill", name)
    assert result.exit_code == 1
    assert f"Error: {name} is not what it was when it was made" in result.stderr
    assert "Hint: " in result.stderr
    assert "PROOF FAILED" in run("backup", "list").stdout
    assert "PROOF FAILED" in run("backup", "show", name).stdout


def test_a_drill_that_is_not_possible_says_so(run: Run, app: Flask):
    name = made(run)
    with app.app_context(), writing():
        row = listing.get_backup(name)
        contents = dict(row.contents or {})
        row.contents = contents | {"extensions": [{"name": "no_such", "version": "1"}]}
    result = run("backup", "drill", name)
    assert result.exit_code == 1
    assert "Error: a drill is not possible here, which says nothing about the" in result.stderr
    assert "no_such" in result.stderr
    assert "Read back" in run("backup", "list").stdout  # as proven as before


def test_a_drill_wants_one_backup(run_without_server: tuple[Run, Flask]):
    run, app = run_without_server
    assert run("backup", "drill").exit_code == 2
    nothing = run("backup", "drill", "--latest")
    assert nothing.exit_code == 1
    assert "there is no good backup of shop yet" in nothing.stderr
    name = planted(app, status=Status.FAILED)
    assert run("backup", "drill", name, "--latest").exit_code == 2
    assert f"{name} is FAILED and has no dump" in run("backup", "drill", name).stderr
    assert (
        "only a restore beside"
        in run("backup", "restore", planted(app), "--replace", "--into", "x").stderr
    )


def test_restores_are_listed_and_shown(run_without_server: tuple[Run, Flask]):
    run, app = run_without_server
    restore_id = planted_restore(
        app,
        planted(app),
        result={
            "differences": ["rows of public.orders: 500 expected, 499 found"],
            "missingRoles": ["ghost"],
            "leftOut": ["SUBSCRIPTION s"],
            "tables": 1,
            "rows": 1,
        },
    )
    assert restore_id in run("restore", "list").stdout
    assert json.loads(run("restore", "list", "--json").stdout)["restores"][0]["id"] == restore_id
    shown = run("restore", "show", restore_id).stdout
    assert "1 table, 1 row, 1 difference" in shown
    assert "different: rows of public.orders" in shown
    assert "missing role: ghost" in shown
    assert "left out: SUBSCRIPTION s" in shown
    assert json.loads(run("restore", "show", restore_id, "--json").stdout)["kind"] == "beside"
    for command in ("undo", "drop"):
        assert run("restore", command, restore_id, "--yes").exit_code == 1
    assert "has ended already" in run("restore", "cancel", restore_id).stderr
    assert "no restore has this id" in run("restore", "show", "x").stderr


def test_one_that_waits_is_cancelled(run_without_server: tuple[Run, Flask]):
    run, app = run_without_server
    name = planted(app)
    restore_id = planted_restore(app, name, status=Status.PENDING, kind=Kind.DRILL)
    busy = run("backup", "drill", name)
    assert busy.exit_code == 1
    assert "Error: another drill is running" in busy.stderr
    assert run("restore", "cancel", restore_id).exit_code == 0
    assert "Error: cancelled by " in run("restore", "show", restore_id).stdout


def test_a_restore_in_place_tells_what_stays_and_asks_for_the_word(run: Run, shop: Database):
    name = made(run)
    shop.run("DELETE FROM orders; CREATE TABLE newer (id int)")
    assert run("backup", "restore", name, "--in-place", "--replace").exit_code == 2
    refused = run("backup", "restore", name, "--in-place", "--yes")
    assert refused.exit_code == 1
    assert "runs with all rights of role backstop" in refused.stderr
    assert "--as-superuser" in refused.stderr
    words = ("backup", "restore", name, "--in-place", "--as-superuser")
    assert run(*words, input="another\n").exit_code == 1
    assert shop.run("SELECT count(*) FROM orders") == [(0,)]
    result = run(*words, input=f"{shop.name}\n")
    assert result.exit_code == 0, result.output
    assert "Not in the backup, and kept: table public.newer." in result.stderr
    assert f"{name} was loaded over {shop.name} in " in result.stdout
    assert "no difference, 1 more in the database than in the backup" in result.stdout
    assert re.search(r"Its state before is in backup_\S+\.dump\.", result.stdout)
    assert "not in the backup, and kept: table public.newer" in result.stdout
    assert shop.run("SELECT count(*) FROM orders") == [(500,)]
    shop.run("CREATE VIEW late AS SELECT * FROM orders")
    refused = run(*words, "--yes")
    assert refused.exit_code == 1
    assert "Detail: view public.late depends on table public.orders." in refused.stderr
