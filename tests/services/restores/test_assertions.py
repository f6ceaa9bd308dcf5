"""What is asked of a restored database beyond the comparison: assertions and pg_amcheck."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from flask import Flask

from app import config
from app.models import Kind, Level, Proof, Restore, Result
from app.postgres import amcheck
from app.postgres.conninfo import Conninfo
from app.services.backups import service as backups
from app.services.proofs import ask, assertions
from app.services.proofs import records as proofs
from app.services.restores import service as restores
from tests.conftest import RESTORED_SLEEPS, Database, url_of
from tests.postgres.conftest import wait_until
from tests.services.restores.conftest import attempt, backed_up, restored

pytestmark = pytest.mark.usefixtures("context")

_TRUE = "SELECT count(*) = 500 FROM orders"
_STUBBORN = """
    CREATE FUNCTION stubborn() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN PERFORM set_config('statement_timeout', '0', false); RETURN true; END $$
"""
_FALSE = "SELECT count(*) > 500 FROM orders"


def keep(name: str, statement: str) -> str:
    return assertions.add_assertion(name, statement, created_by="ann").id


def last_of(filename: str, level: Level = Level.ASSERTED) -> Proof | None:
    found = proofs.list_proofs(backups.get_backup(filename).id)
    return next((each for each in found if each.level == level), None)


def best_of(filename: str) -> Proof:
    backup = backups.get_backup(filename)
    return proofs.best_proofs([backup])[backup.id]


@pytest.fixture
def impatient(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """No assertion may take longer than an instant."""
    found = app.extensions["backstop.settings"]
    monkeypatch.setitem(app.extensions, "backstop.settings", replace(found, stall_timeout=0.3))
    monkeypatch.setattr("app.postgres.assertions._GRACE", 0.3)


@pytest.fixture
def checking(make_app: Callable[..., Flask]) -> Iterator[Flask]:
    """A panel whose drills run pg_amcheck."""
    app = make_app(drill_amcheck=True)
    with app.app_context():
        yield app


def test_a_drill_asks_all_and_proves_more(leftovers):
    filename = backed_up()
    restored(filename, Kind.DRILL)
    assert last_of(filename) is None  # nothing was asked
    keep("orders are there", _TRUE)
    keep("totals", "SELECT bool_and(total >= 0)\nFROM orders; -- of all")
    row = restored(filename, Kind.DRILL)
    assert [each["passed"] for each in row.result["assertions"]] == [True, True]
    proof = last_of(filename)
    assert (proof.result, proof.word) == (Result.PASSED, "Restored and checked")
    assert proof.evidence["differences"] == []
    assert [(each["name"], each["told"]) for each in proof.evidence["assertions"]] == [
        ("orders are there", "it is true"),
        ("totals", "it is true"),
    ]
    assert proof.milliseconds >= last_of(filename, Level.RESTORED).milliseconds
    assert best_of(filename).id == proof.id
    assert leftovers() == []


#: What may be true, and why that is not known.
_UNANSWERED = {
    "slow": ("SELECT pg_sleep(60) IS NULL", "it took longer than 0.3 s"),
    "slow plan": ("SELECT stubborn() AND pg_sleep(60) IS NULL", "it took longer than 0.3 s"),
    "cancelled": ("SELECT pg_cancel_backend(pg_backend_pid())", "canceling statement"),
    "disk full": ("SELECT lacks('53100')", "no room"),
    "out of memory": ("SELECT lacks('53200')", "no room"),
}
_LACKS = """
    CREATE FUNCTION lacks(code text) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN RAISE 'no room' USING ERRCODE = code; END $$
"""


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", [Kind.DRILL, Kind.BESIDE, Kind.REPLACE])
def test_what_is_not_answered_says_nothing_of_the_backup(kind: Kind, living: Database):
    living.run(_STUBBORN)
    living.run(_LACKS)
    filename = backed_up()
    restored(filename, Kind.DRILL)
    for name, (statement, _) in _UNANSWERED.items():
        keep(name, statement)
    keep("the last is asked too", _TRUE)
    row = attempt(filename, kind)
    proof = last_of(filename)
    assert proof.result is Result.NOT_POSSIBLE
    answers = {each["name"]: each for each in proof.evidence["assertions"]}
    assert answers.pop("the last is asked too")["passed"]
    for name, (_, words) in _UNANSWERED.items():
        assert answers[name]["unanswered"]
        assert answers[name]["told"].startswith(words), answers[name]
    assert best_of(filename).word == "Restored"
    assert row.is_completed == (kind is Kind.BESIDE)
    if kind is not Kind.BESIDE:
        assert row.error_message.startswith("assertions were not answered")
        assert "assertion slow: it took longer than 0.3 s" in row.error_detail


def test_what_is_not_true_counts_beside_what_is_not_answered(shop: Database):
    shop.run(_LACKS)
    filename = backed_up()
    keep("no answer", "SELECT lacks('53100')")
    false = keep("false", _FALSE)
    row = attempt(filename, Kind.DRILL)
    assert row.error_message == "the drill found assertions that do not hold"
    assert row.error_detail == "assertion false: it is false"
    assert best_of(filename).is_failed
    assertions.remove_assertion(false, by="ann")
    assert not best_of(filename).is_failed


@pytest.mark.usefixtures("impatient")
def test_whatever_does_not_return_true_fails_in_its_own_words(shop: Database, leftovers):
    shop.run("CREATE TABLE \"odd\x1b[2J\" AS SELECT '-infinity'::date AS day, 'caf\u00e9' AS word")
    filename = backed_up()
    expected = {
        "false": (_FALSE, "it is false"),
        "null": ("SELECT NULL::boolean", "it is null"),
        "no row": ("SELECT true WHERE false", "it returned no row"),
        "two rows": ("VALUES (true), (true)", "it returned more than one row"),
        "two columns": ("SELECT true, true", "it returned 2 columns"),
        "a text": ("SELECT 'true'", "it returned neither true nor false"),
        "a number": ("SELECT 1", "it returned neither true nor false"),
        "error": ("SELECT 1 / 0 = 1", "division by zero"),
        "a percent sign": ("SELECT '%s' = 'x'", "it is false"),
        "syntax": ("SELEKT true", 'syntax error at or near "SELEKT"'),
        "no such table": ("TABLE nonsense", 'relation "nonsense" does not exist'),
        "two statements": ("SELECT true; SELECT true", "it is not one query: "),
        "way out": ("SELECT true; COMMIT; DROP TABLE orders", "it is not one query: "),
        "commit": ("COMMIT", "it is not one query: "),
        "a comment": ("-- SELECT true", "it is not one query: "),
        "insert": (
            "INSERT INTO customers VALUES (99, 'x') RETURNING true",
            "cannot execute INSERT in a read-only transaction",
        ),
        "update": ("UPDATE orders SET total = 0", "it is not one query: "),
        "delete": (
            "WITH gone AS (DELETE FROM orders RETURNING 1) SELECT true",
            "cannot execute SELECT in a read-only transaction",
        ),
        "create": ("CREATE TABLE more ()", "it is not one query: "),
        "may write": (
            "SELECT set_config('transaction_read_only', 'off', true) = 'off'",
            "transaction read-write mode must be set before any query",
        ),
        "program": ("COPY (SELECT 1) TO PROGRAM 'id'", "it is not one query: "),
        "superuser": (
            "SELECT pg_read_file('/etc/passwd') <> ''",
            "permission denied for function pg_read_file",
        ),
        "escapes": ('SELECT nothing FROM "odd\x1b[2J"', 'column "nothing" does not exist'),
        "words": ('SELECT word::int = 1 FROM "odd\x1b[2J"', "invalid input syntax for type"),
        "a day": ('SELECT day FROM "odd\x1b[2J"', "it returned "),
    }
    expected["unreadable"] = (
        "SELECT '0044-03-15 BC'::date",
        "it returned a value that cannot be read: ",
    )
    for name, (statement, _) in expected.items():
        keep(name, statement)
    keep("the last is asked too", _TRUE)
    row = attempt(filename, Kind.DRILL)
    assert row.error_message == "the drill found assertions that do not hold"
    proof = last_of(filename)
    told = {each["name"]: each["told"] for each in proof.evidence["assertions"]}
    for name, (_, words) in expected.items():
        assert told[name].startswith(words), (name, told[name])
        assert f"assertion {name}: {words}" in row.error_detail
    assert told["the last is asked too"] == "it is true"
    assert proof.result is Result.FAILED
    assert len(proof.evidence["differences"]) == len(expected)
    assert last_of(filename, Level.RESTORED).is_passed
    assert best_of(filename).word == "Proof failed"
    assert leftovers() == []


@pytest.mark.usefixtures("impatient")
def test_nothing_that_is_asserted_changes_what_is_restored(living: Database, server: Conninfo):
    """Large objects could be written in a transaction that may only read, before 16.

    Nor does it stay: what has undone its own timeout would be in the way of the rename.
    """
    living.run(_STUBBORN)
    living.run("SELECT lo_from_bytea(4711, 'mine')")
    living.run("CREATE SEQUENCE numbers")
    living.run(
        "CREATE PROCEDURE empties(INOUT done boolean) LANGUAGE plpgsql AS"
        " $$ BEGIN COMMIT; DELETE FROM orders; done := true; END $$"
    )
    filename = backed_up()
    keep("large object", "SELECT lo_unlink(4711) = 1")
    keep("sequence", "SELECT nextval('numbers') > 0")
    keep("procedure", "CALL empties(true)")
    keep("endless", "SELECT stubborn() AND pg_sleep(60) IS NULL")
    row = restored(filename, Kind.BESIDE)
    assert (row.result["differences"], len(row.result["assertions"])) == ([], 4)
    assert not any(each["passed"] for each in row.result["assertions"])
    beside = Database(row.database, url_of(server, row.database))
    assert beside.run("SELECT last_value, is_called FROM numbers") == [(1, False)]
    assert beside.run("SELECT convert_from(lo_get(4711), 'UTF8')") == [("mine",)]
    assert beside.run("SELECT count(*) FROM orders") == [(500,)]
    assert last_of(filename).is_failed


def test_names_are_looked_up_as_in_the_database(shop: Database):
    shop.run("CREATE SCHEMA warehouse")
    shop.run("CREATE TABLE warehouse.stock AS SELECT 1 AS id")
    shop.run(f'ALTER DATABASE "{shop.name}" SET search_path = "$user", warehouse, public')
    filename = backed_up()
    keep("stock", "SELECT count(*) = 1 FROM stock, customers WHERE stock.id = customers.id")
    assert restored(filename, Kind.DRILL).result["assertions"][0]["passed"]


def test_a_false_one_stops_a_replace(living: Database, leftovers):
    filename = backed_up()
    living.run("INSERT INTO customers VALUES (1000, 'since the backup')")
    keep("nobody is lost", "SELECT count(*) = 51 FROM customers")
    row = attempt(filename, Kind.REPLACE)
    assert row.error_message == (
        "an assertion does not hold in the restored database; the live one stays"
    )
    assert row.error_detail == "assertion nobody is lost: it is false"
    assert living.run("SELECT count(*) FROM customers") == [(51,)]
    assert (row.kept, leftovers()) == (None, [])
    assert last_of(filename).is_failed


def test_a_failure_is_over_when_its_assertion_holds_or_is_removed():
    filename = backed_up()
    key = keep("orders", _FALSE)
    attempt(filename, Kind.DRILL)
    assert best_of(filename).is_failed
    assertions.edit_assertion(key, statement=_TRUE, by="ann")
    assert best_of(filename).is_failed  # nobody has asked yet
    restored(filename, Kind.DRILL)
    assert best_of(filename).word == "Restored and checked"
    assertions.edit_assertion(key, statement=_FALSE, by="ann")
    attempt(filename, Kind.DRILL)
    assert best_of(filename).is_failed
    assertions.remove_assertion(key, by="ann")
    assert best_of(filename).word == "Restored and checked"


def test_a_cancel_ends_an_assertion(shop: Database, leftovers):
    filename = backed_up()
    keep("slow", "SELECT pg_sleep(100) IS NULL")
    ended: list[Restore] = []

    def cancel(app: Flask) -> None:
        with app.app_context():
            wait_until(
                lambda: shop.run(RESTORED_SLEEPS) == [(1,)],
                "the assertion is asked",
            )
            (pending,) = restores.list_restores(limit=1)
            restores.cancel_restore(pending.id, by="bob")

    other = threading.Thread(target=cancel, args=(config.current_app._get_current_object(),))
    other.start()
    ended.append(attempt(filename, Kind.DRILL))
    other.join()
    assert ended[0].error_message == "cancelled by bob"
    assert (last_of(filename), last_of(filename, Level.RESTORED), leftovers()) == (None, None, [])


def test_a_server_that_ends_the_session_says_nothing_of_the_backup():
    filename = backed_up()
    keep("suicide", "SELECT pg_terminate_backend(pg_backend_pid())")
    row = attempt(filename, Kind.DRILL)
    assert row.error_message == "the server ended the session of an assertion"
    assert last_of(filename) is None


# pg_amcheck


def _without_amcheck(database: Database) -> bool:
    return database.run("SELECT count(*) FROM pg_extension WHERE extname = 'amcheck'") == [(0,)]


def test_pg_amcheck_looks_at_a_drill_and_leaves_nothing(checking: Flask, shop: Database, leftovers):
    filename = backed_up()
    row = restored(filename, Kind.DRILL)
    assert (row.result["amcheck"], row.result["differences"]) == ("nothing found", [])
    proof = last_of(filename)
    assert (proof.result, proof.evidence["amcheck"]) == (Result.PASSED, "nothing found")
    assert leftovers() == []
    assert _without_amcheck(shop)


def test_it_finds_an_index_that_lacks_what_its_table_has(checking: Flask, shop: Database):
    """An index expression that never answers the same: what is looked up is not there."""
    shop.run(
        "CREATE FUNCTION dice(int) RETURNS float8 LANGUAGE sql IMMUTABLE AS 'SELECT random() + $1'"
    )
    shop.run('CREATE INDEX "of \x1b chance" ON orders (dice(id))')
    filename = backed_up()
    keep("orders", _TRUE)
    row = attempt(filename, Kind.DRILL)
    assert row.error_message == "the drill found damage in the restored database"
    assert row.error_detail.startswith(
        'pg_amcheck: btree index "public.of \N{REPLACEMENT CHARACTER} chance": heap tuple '
    )
    assert "lacks matching index tuple" in row.error_detail
    proof = last_of(filename)
    assert (proof.result, proof.evidence["amcheck"]) == (Result.FAILED, "1 finding")
    assert proof.evidence["assertions"][0]["passed"]
    assertions.remove_assertion(proof.evidence["assertions"][0]["id"], by="ann")
    assert best_of(filename).is_failed  # it was not that
    restored(filename, Kind.BESIDE)  # there it is not asked


def test_an_amcheck_of_one_s_own_is_used_and_kept(
    checking: Flask, shop: Database, monkeypatch: pytest.MonkeyPatch
):
    shop.run("CREATE SCHEMA tools; CREATE EXTENSION amcheck SCHEMA tools")
    undone: list[list[str]] = []
    real = amcheck.lend

    def lend(*words: object, **more: str) -> list[str]:
        undone.append(real(*words, **more))
        return undone[-1]

    monkeypatch.setattr(amcheck, "lend", lend)
    row = restored(backed_up(), Kind.DRILL)
    assert (row.result["amcheck"], row.result["differences"]) == ("nothing found", [])
    assert undone[0]
    assert all(each.startswith("REVOKE EXECUTE ON FUNCTION tools.") for each in undone[0])


def test_it_never_runs_code_as_a_superuser(checking: Flask, shop: Database, monkeypatch):
    """A function of an index tells who has signed in to run it: never the admin."""
    shop.run(
        "CREATE FUNCTION who(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN"
        " IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = session_user)"
        "    AND pg_catalog.current_database() LIKE 'backstop%'"
        " THEN RAISE EXCEPTION 'a superuser'; END IF; RETURN $1; END $$"
    )
    shop.run("CREATE INDEX ON orders (who(id))")
    assert restored(backed_up(), Kind.DRILL).result["amcheck"] == "nothing found"


def test_where_it_cannot_be_run_a_drill_goes_on(
    checking: Flask, server: Conninfo, shop: Database, monkeypatch, make_app
):
    filename = backed_up()
    with monkeypatch.context() as patch:
        patch.setattr(amcheck, "_OLDEST", 99)
        row = restored(filename, Kind.DRILL)
    told = "not available here: servers before PostgreSQL 99 cannot check tables"
    assert row.result["amcheck"] == told
    assert last_of(filename) is None
    keep("orders", _TRUE)
    shop.run("CREATE ROLE backs_up LOGIN PASSWORD 'known' CREATEDB CREATEROLE")
    shop.run("ALTER TABLE customers OWNER TO backs_up; ALTER TABLE orders OWNER TO backs_up")
    shop.run(f'ALTER DATABASE "{shop.name}" OWNER TO backs_up')
    try:
        url = url_of(server, shop.name, "backs_up", "known")
        with make_app(database_url=url, drill_url=url, drill_amcheck=True).app_context():
            filename = backed_up()
            row = restored(filename, Kind.DRILL)
            words = row.result["amcheck"]
            assert words.startswith("not available here: permission denied")
            proof = last_of(filename)
            assert [each["passed"] for each in proof.evidence["assertions"]] == [True]
    finally:
        shop.run(f'ALTER DATABASE "{shop.name}" OWNER TO CURRENT_USER')
        shop.run("DROP OWNED BY backs_up; DROP ROLE backs_up")


def test_what_kept_it_from_looking_is_no_finding(monkeypatch: pytest.MonkeyPatch):
    words = (
        'btree index "shop.public.a":\n    ERROR:  canceling statement due to user request\n'
        'heap table "shop.public.b":\n    ERROR:  permission denied for function verify_heapam\n'
    )
    found = 'btree index "shop.public.c":\n    ERROR:  item order invariant\n    DETAIL:  Lower.\n'
    told = list(amcheck._reported(words + found, "shop"))
    kept = [each for each in told if not amcheck.re.search(amcheck._NO_FINDING, each)]
    assert kept == ['btree index "public.c": item order invariant DETAIL: Lower.']
    assert len(told) == 3
    assert ask.Asserted(found=kept).failures == [f"pg_amcheck: {kept[0]}"]
