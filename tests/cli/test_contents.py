"""flask backup contents, and a restore of some of the tables that it lists."""

import json

from flask import Flask

from tests.api.test_contents import held
from tests.api.test_downloads import planted
from tests.cli.test_restore import Run, made, run, run_without_server
from tests.conftest import Database, url_of

__all__ = ["run", "run_without_server"]


def test_the_listed_names_are_those_that_a_restore_takes(run: Run, shop: Database, server):
    shop.run('CREATE TABLE "Odd.one" AS SELECT 1')
    name = made(run)
    lines = run("backup", "contents", name).stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        'public."Odd.one"', "public.customers", "public.orders",
    ]  # fmt: skip
    assert lines[2].split()[1] == "500"
    told = json.loads(run("backup", "contents", name, "--json", "--search", "odd").stdout)
    assert [each["name"] for each in told["tables"]] == ["Odd.one"]

    wanted = [word for each in ('public."Odd.one"', "public.orders") for word in ("--tables", each)]
    result = run("backup", "restore", name, *wanted, "--into", f"{shop.name}_some")
    try:
        assert result.exit_code == 0, result.output
        assert "Left out: FK CONSTRAINT orders orders_customer_id_fkey." in result.stderr
        assert "2 tables, 501 rows, no difference" in result.stdout
        assert "  left out: FK CONSTRAINT orders orders_customer_id_fkey" in result.stdout
        copy = Database(f"{shop.name}_some", url_of(server, f"{shop.name}_some"))
        assert copy.run('TABLE "Odd.one"') == [(1,)]
    finally:
        shop.run(f'DROP DATABASE IF EXISTS "{shop.name}_some"')

    refused = run("backup", "restore", name, "--tables", "public.order")
    assert refused.exit_code == 1
    assert "Hint: Did you mean public.orders?" in refused.stderr
    refused = run("backup", "restore", name, "--tables", "public.*", "--replace", "--yes")
    assert "some tables can only be restored beside" in refused.stderr


def test_a_name_does_not_command_the_terminal(run_without_server: tuple[Run, Flask]):
    run, app = run_without_server
    filename = planted(app, contents=held("a\x1b[31mb"))
    shown = run("backup", "contents", filename).stdout
    assert "\x1b" not in shown
    assert '"a\N{REPLACEMENT CHARACTER}[31mb"' in shown


def test_what_has_changed_is_printed(run: Run, shop: Database):
    first = made(run)
    refused = run("backup", "compare", first)
    assert refused.exit_code == 1
    assert "there is no earlier backup to compare with" in refused.stderr
    shop.run("DELETE FROM orders WHERE id > 490; CREATE INDEX orders_later ON orders (id DESC)")
    second = made(run)
    lines = run("backup", "compare", second).stdout.splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "public.orders changed 500 → 490 rows",
        "public.orders_later added INDEX",
    ]
    assert "CREATE INDEX orders_later" in run("backup", "schema", second).stdout
    assert "CREATE INDEX orders_later" not in run("backup", "schema", first).stdout
    found = json.loads(run("backup", "compare", second, first, "--json").stdout)
    assert found["earlier"] == first
    same = run("backup", "compare", second, second)
    assert (same.stdout, same.exit_code) == ("", 0)
    assert "No other object has changed." in same.stderr
