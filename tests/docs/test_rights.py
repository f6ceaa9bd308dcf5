"""The rights that the docs name suffice for what the docs say, on each server and nothing more."""

import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask

from app.config import ROOT
from app.models import Kind, Level, Result
from app.postgres.conninfo import Conninfo
from app.services.backups import listing
from app.services.restores import service as restores
from tests.conftest import SMALL_SHOP, Database, url_of
from tests.servers import programs
from tests.services.drills.conftest import newest_proof
from tests.services.restores.conftest import attempt, backed_up, restored

#: What the docs call roles, and what stands for them here: roles are of the whole server.
ROLES = ("backup_reader", "restorer", "drills", "app")
MORE = """
    CREATE TABLE hidden (id int PRIMARY KEY);
    INSERT INTO hidden SELECT generate_series(1, 9);
    ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
    CREATE POLICY few ON hidden USING (id > 7);
    SELECT lo_from_bytea(0, 'a picture');
"""


def documented(role: str, word: str = "CREATE ROLE") -> str:
    """The block of SQL that has this word and is about this role."""
    text = (ROOT / "docs/how-to/give-least-rights.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sql\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (found,) = [each for each in blocks if word in each and role in each]
    return str(found)


@dataclass(frozen=True)
class Guarded:
    """A database that belongs to an ordinary role, on a server of some version."""

    info: Conninfo
    name: str
    major: int

    def as_superuser(self) -> Database:
        return Database(self.name, url_of(self.info, self.name))

    def grant(self, block: str) -> None:
        """What the docs say, by a superuser in the database; with names of our own."""
        for role in ROLES:
            block = re.sub(rf"\b{role}\b", f"{self.name}_{role}", block)
        self.as_superuser().run(block)

    def url(self, role: str, database: str = "") -> str:
        name = f"{self.name}_{role}"
        return url_of(self.info, database or self.name, name, "a long one")

    def settings(self) -> dict[str, Any]:
        return {"pg_bin_dir": programs(18)} if self.major == 18 else {}


@pytest.fixture(params=[15, 17, 18])
def guarded(request: pytest.FixtureRequest) -> Iterator[Guarded]:
    fixture = {15: "server_15", 17: "server", 18: "server_18"}[request.param]
    found = Guarded(request.getfixturevalue(fixture), f"own{secrets.token_hex(3)}", request.param)
    server = Database("postgres", url_of(found.info, "postgres"))
    server.run(f"CREATE ROLE {found.name}_app LOGIN PASSWORD 'a long one'")
    server.run(f"CREATE DATABASE {found.name} OWNER {found.name}_app")
    Database(found.name, found.url("app")).run(SMALL_SHOP)
    yield found
    like = (f"{found.name}%",)
    for (name,) in server.run("SELECT datname FROM pg_database WHERE datname LIKE %s", *like):
        server.run(f'DROP DATABASE "{name}" WITH (FORCE)')
    for (name,) in server.run("SELECT rolname FROM pg_roles WHERE rolname LIKE %s", *like):
        server.run(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_the_backup_role_makes_backups(guarded: Guarded, make_app: Callable[..., Flask]):
    guarded.grant(documented("backup_reader"))
    url = guarded.url("backup_reader")
    with make_app(database_url=url, **guarded.settings()).app_context():
        assert listing.get_backup(backed_up()).is_completed


def test_with_the_two_things_more_it_sees_hidden_rows_and_large_objects(
    guarded: Guarded, make_app: Callable[..., Flask]
):
    guarded.as_superuser().run(MORE)
    guarded.grant(documented("backup_reader"))
    guarded.grant(documented("backup_reader", "BYPASSRLS"))
    guarded.grant(documented("backup_reader", "pg_largeobject_metadata"))
    url = guarded.url("backup_reader")
    with make_app(database_url=url, **guarded.settings()).app_context():
        contents = listing.get_backup(backed_up()).contents
        assert contents is not None
        rows = {each["name"]: each["rows"] for each in contents["tables"]}
        assert rows["hidden"] == 9
        assert contents["objects"]["large objects"] == 1


def test_the_restoring_role_backs_up_and_restores_beside_and_in_place_of_the_living_one(
    guarded: Guarded, make_app: Callable[..., Flask]
):
    guarded.grant(documented("restorer"))
    url = guarded.url("restorer")
    owner = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
    with make_app(database_url=url, **guarded.settings()).app_context():
        filename = backed_up()
        beside = restored(filename, Kind.BESIDE, into=f"{guarded.name}_beside")
        assert (beside.result["differences"], beside.result["rows"]) == ([], 550)
        copy = Database(beside.database, url_of(guarded.info, beside.database))
        assert copy.run(owner) == [(f"{guarded.name}_app",)]
        guarded.as_superuser().run("DELETE FROM orders")
        row = restored(filename, Kind.REPLACE)
        assert guarded.as_superuser().run("SELECT count(*) FROM orders") == [(500,)]
        assert guarded.as_superuser().run(owner) == [(f"{guarded.name}_app",)]
        restores.undo_restore(row.id, by="ann")
        assert guarded.as_superuser().run("SELECT count(*) FROM orders") == [(0,)]


def test_the_drilling_role_drills_what_belongs_to_others(
    guarded: Guarded, make_app: Callable[..., Flask]
):
    guarded.grant(documented("backup_reader"))
    guarded.grant(documented("drills"))
    drills = guarded.url("drills", "postgres")
    more = guarded.settings() | {"drill_url": drills, "drill_on_live": True}
    with make_app(database_url=guarded.url("backup_reader"), **more).app_context():
        filename = backed_up()
        row = attempt(filename, Kind.DRILL)
        assert row.is_completed, (row.error_message, row.error_detail, row.log)
        assert (row.result["differences"], row.result["rows"]) == ([], 550)
        proof = newest_proof(filename)
        assert (proof.level >= Level.RESTORED, proof.result) == (True, Result.PASSED)
