"""Databases: added, edited, paused, retired and chosen."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from app.errors import Conflict, InvalidInput, NotFound
from app.extensions import db, writing
from app.models import Database, DatabaseBackup, RetentionPolicy, State, Status, Task, Trigger
from app.sealing import unseal
from app.services.backups import listing
from app.services.backups import service as backups
from app.services.backups.filters import Filters
from app.services.databases import lookup, service
from app.services.databases.configured import Address
from app.services.databases.service import Changes
from app.services.proofs import assertions
from app.services.retention import policies
from app.services.retention.rules import Policy
from app.services.schedules import service as schedules
from tests.conftest import database_id

pytestmark = pytest.mark.usefixtures("context")

CRM = "postgresql://reader:canary-pw@crm.example.org:6432/crm"
MOVED = "postgresql://other:canary-two@crm-2.example.org/crm"


@pytest.fixture
def shop_url() -> str:
    return "postgresql://ann:canary-env@127.0.0.1:1/shop"  # nothing is asked of it


def add(name: str = "crm", url: str = CRM, **changes: Any) -> Database:
    return service.add_database(name, url, Changes(**changes), by="ann")


def edit(database: str, **changes: Any) -> Database:
    return service.edit_database(database, Changes(**changes), by="bob")


def names(*, with_retired: bool = False) -> list[str]:
    return [database.name for database in lookup.list_databases(with_retired=with_retired)]


def words(error: pytest.ExceptionInfo[Any]) -> str:
    return f"{error.value.message} {error.value.detail} {error.value.hint} {error.value!r}"


def queued(database: Database | None = None) -> DatabaseBackup:
    return backups.queue_backup(database, trigger=Trigger.CLI, created_by="ann")


# Find


def test_the_database_of_the_environment_has_a_row_and_is_the_default():
    database = lookup.default_database()
    assert (database.name, database.server, database.dbname) == ("shop", "127.0.0.1:1", "shop")
    assert (database.url, database.from_environment) == ("", True)
    assert lookup.default_database().id == database.id
    assert lookup.choose_database().id == lookup.choose_database("shop").id == database.id
    assert names() == ["shop"]


def test_the_default_stays_what_it_is_while_others_are_added():
    add()
    assert lookup.default_database().name == "shop"
    assert names() == ["crm", "shop"]


@pytest.mark.parametrize(
    ("dbname", "name"),
    [("Größe & Co", "gr-e-co"), ("__x", "x"), ("ü", "database"), ("a" * 63, "a" * 50)],
)
def test_a_name_is_made_of_any_name_on_the_server(dbname: str, name: str):
    first = lookup.database_at(Address("db1:5432", dbname))
    second = lookup.database_at(Address("db2:5432", dbname))
    assert (first.name, second.name) == (name, f"{name}-2")
    assert service.NAME.fullmatch(second.name)
    assert lookup.database_at(Address("db1:5432", dbname)).id == first.id


def test_who_asks_for_an_unknown_one_hears_of_those_that_there_are():
    lookup.default_database()
    add()
    with pytest.raises(NotFound, match="no database is named 'cmr'") as error:
        lookup.get_database("cmr")
    assert "crm, shop" in error.value.hint


def test_a_long_list_of_names_is_cut():
    for number in range(25):
        add(f"db{number:02d}", f"postgresql://u@db{number}.example.org/shop")
    with pytest.raises(NotFound) as error:
        lookup.get_database("none")
    assert error.value.hint.endswith("db19 and 5 more.")


def test_the_only_one_left_is_the_default_and_of_several_one_must_be_named():
    lookup.default_database()
    crm = add()
    service.retire_database("shop", by="ann")
    assert lookup.default_database().id == crm.id
    add("wiki", "postgresql://u@wiki.example.org/wiki")
    with pytest.raises(InvalidInput, match="which database") as error:
        lookup.choose_database()
    assert "crm, wiki" in error.value.hint
    assert lookup.choose_database("wiki").name == "wiki"
    for name in ("crm", "wiki"):
        service.retire_database(name, by="ann")
    with pytest.raises(InvalidInput) as error:
        lookup.default_database()
    assert error.value.hint == "Add one first."


def test_two_processes_that_ask_for_the_default_at_once_make_one_row(
    app: Flask, monkeypatch: pytest.MonkeyPatch
):
    both_have_looked, make = threading.Barrier(2), lookup._make
    made: list[str] = []

    def make_at_once(address: Address) -> Database:
        both_have_looked.wait(30)
        return make(address)

    def ask() -> None:
        with app.app_context():
            made.append(lookup.default_database().id)

    monkeypatch.setattr(lookup, "_make", make_at_once)
    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(60)
    assert len(made) == 2
    assert len(set(made)) == 1
    assert names() == ["shop"]


# Add


def test_one_is_added_with_its_secret_sealed_and_nothing_asked_of_its_server():
    database = add(compression="zstd:3", without_rows_of=(" public.events ", ""), max_age=3600)
    assert (database.name, database.server, database.dbname) == (
        "crm",
        "crm.example.org:6432",
        "crm",
    )
    assert (database.state, database.created_by) == (State.ACTIVE, "ann")
    assert not database.from_environment
    assert "canary" not in database.url
    assert unseal(database.url) == CRM
    assert (database.compression, database.max_age) == ("zstd:3", 3600)
    assert database.without_rows_of == ["public.events"]


@pytest.mark.parametrize(
    "name", ["", "Crm", "-crm", "_crm", "c rm", "crm\n", "crm/x", "ü", "a" * 64, "../crm"]
)
def test_a_wrong_name_is_refused(name: str):
    with pytest.raises(InvalidInput, match="not a valid name"):
        add(name)
    add()
    with pytest.raises(InvalidInput, match="not a valid name"):
        edit("crm", name=name)
    assert names() == ["crm"]


def test_a_name_that_is_taken_is_refused():
    add()
    with pytest.raises(Conflict, match="named crm already"):
        add("crm", MOVED)
    add("wiki", "postgresql://u@wiki.example.org/wiki")
    with pytest.raises(Conflict, match="named crm already"):
        edit("wiki", name="crm")
    assert names() == ["crm", "wiki"]


def test_the_same_database_is_not_guarded_twice():
    lookup.default_database()
    with pytest.raises(Conflict, match=r"shop on 127\.0\.0\.1:1 is guarded already, as shop"):
        add("again", "postgresql://someone-else@127.0.0.1:1/shop")
    add()
    with pytest.raises(Conflict, match="guarded already, as crm"):
        add("again", "postgresql://someone-else@crm.example.org:6432/crm")
    add("wiki", "postgresql://u@wiki.example.org/wiki")
    with pytest.raises(Conflict, match="guarded already, as crm") as error:
        edit("wiki", url=CRM)
    assert "canary" not in words(error)
    assert lookup.get_database("wiki").server == "wiki.example.org:5432"


def test_the_address_of_a_retired_one_is_free():
    add()
    service.retire_database("crm", by="ann")
    assert add("crm-2").server == "crm.example.org:6432"
    assert names() == ["crm-2"]


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:canary-pw@db1/crm",
        "canary-pw",
        "postgresql://u:canary/pw@db1/crm",
        "postgresql://u:canary@pw@db1/crm",
        "postgresql://u:canary-pw%zz@db1/crm",
        "postgresql://u:canary-pw@db1/crm?service=mine",
        "postgresql://u:canary-pw@db1/crm?sslpassword=canary-too",
        "postgresql://u:canary-pw@/crm",  # names no host
        "postgresql:///crm?password=canary-pw",
        "postgresql://u:canary%0Apw@db1/crm",
    ],
)
def test_an_invalid_url_is_refused_without_its_secret(url: str, caplog: pytest.LogCaptureFixture):
    with pytest.raises(InvalidInput) as error:
        add("new", url)
    add()
    with pytest.raises(InvalidInput) as other:
        edit("crm", url=url)
    assert "canary" not in words(error) + words(other) + caplog.text
    assert error.value.hint
    assert unseal(lookup.get_database("crm").url) == CRM


def test_a_url_without_a_host_is_refused_and_one_with_a_socket_is_not():
    with pytest.raises(InvalidInput, match="names no host"):
        add("local", "postgresql:///shop")
    assert add("local", "postgresql:///shop?host=/run/postgresql").dbname == "shop"
    assert add("numbered", "postgresql://u@/shop?hostaddr=10.0.0.1").dbname == "shop"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compression": "zstd:x"}, "the compression"),
        ({"compression": "brotli"}, "the compression"),
        ({"max_age": -1}, "must not be negative"),
        ({"without_rows_of": ("events",)}, "not the name of a table"),
        ({"without_rows_of": ("public.ev\nents",)}, "not the name of a table"),
        ({"without_rows_of": tuple(f"public.t{n}" for n in range(1001))}, "at most 1000"),
    ],
)
def test_what_cannot_be_an_option_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(InvalidInput, match=message):
        add(**changes)
    add()
    with pytest.raises(InvalidInput, match=message):
        edit("crm", **changes)


def test_there_is_an_end_to_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(service, "MAX_DATABASES", 1)
    add()
    with pytest.raises(Conflict, match="the limit of 1 databases is reached"):
        add("wiki", "postgresql://u@wiki.example.org/wiki")
    assert names() == ["crm"]


# Edit


def test_a_new_host_or_password_changes_nothing_else():
    database = add(compression="gzip:1", max_age=60)
    nightly = schedules.NewSchedule("nightly", Task.BACKUP, "0 3 * * *")
    schedule = schedules.add_schedule(nightly, of=database, created_by="ann")
    assertions.add_assertion("a", "SELECT true", of=database, created_by="ann")
    policies.set_policy(Policy(keep_last=3), database, by="ann")
    backup = queued(database)
    with writing() as session:
        session.get_one(DatabaseBackup, backup.id).status = Status.COMPLETED
    edited = edit("crm", url=MOVED)
    assert (edited.id, edited.name, edited.state) == (database.id, "crm", State.ACTIVE)
    assert (edited.server, unseal(edited.url)) == ("crm-2.example.org:5432", MOVED)
    assert (edited.compression, edited.max_age) == ("gzip:1", 60)
    assert [row.id for row in schedules.list_schedules(edited)] == [schedule.id]
    assert [row.name for row in assertions.list_assertions(edited)] == ["a"]
    assert policies.get_policy(edited) == Policy(keep_last=3)
    (found,) = listing.list_backups(Filters(edited)).backups
    assert (found.id, found.server) == (backup.id, "crm.example.org:6432")  # where it was made
    assert queued(edited).server == "crm-2.example.org:5432"


def test_a_new_name_is_found_and_the_old_one_is_not():
    database = add()
    assert edit("crm", name="customers").id == database.id
    assert lookup.get_database("customers").id == database.id
    with pytest.raises(NotFound):
        edit("crm", max_age=5)


def test_options_are_edited_one_by_one_and_emptied():
    add(compression="zstd:3", without_rows_of=("public.events",), max_age=3600)
    edited = edit("crm", max_age=0)
    assert (edited.compression, edited.max_age) == ("zstd:3", None)
    edited = edit("crm", compression="", without_rows_of=())
    assert (edited.compression, edited.without_rows_of) == ("", [])
    assert unseal(edited.url) == CRM


def test_the_url_is_not_edited_while_a_backup_of_it_is_pending():
    backup = queued(add())
    with pytest.raises(Conflict, match=f"{backup.filename} of crm is still being made"):
        edit("crm", url=MOVED)
    assert lookup.get_database("crm").server == "crm.example.org:6432"
    assert edit("crm", name="customers").name == "customers"  # this does not touch the backup
    with writing() as session:
        session.get_one(DatabaseBackup, backup.id).status = Status.FAILED
    assert edit("customers", url=MOVED).server == "crm-2.example.org:5432"


def test_the_one_of_the_environment_may_get_a_url_of_its_own():
    before = lookup.default_database()
    edited = edit("shop", url="postgresql://u:canary-pw@db1/shop")
    assert (edited.id, edited.from_environment) == (before.id, False)
    assert lookup.state_of(edited) is State.ACTIVE


# Pause, resume, retire


def test_a_paused_one_is_still_backed_up_on_demand():
    add()
    paused = service.pause_database("crm", by="ann")
    assert lookup.state_of(paused) is State.PAUSED
    assert queued(paused).database_id == paused.id
    assert names() == ["crm"]
    assert service.resume_database("crm", by="ann").state is State.ACTIVE


def test_a_retired_one_is_never_backed_up_and_its_backups_stay():
    database = add()
    backup = queued(database)
    with pytest.raises(Conflict, match="is still being made"):
        service.retire_database("crm", by="ann")
    with writing() as session:
        session.get_one(DatabaseBackup, backup.id).status = Status.COMPLETED
    retired = service.retire_database("crm", by="ann")
    assert lookup.state_of(retired) is State.RETIRED
    for make in (backups.queue_backup, backups.create_backup):
        with pytest.raises(Conflict, match="crm is retired") as error:
            make(retired, trigger=Trigger.CLI, created_by="ann")
        assert error.value.hint == "Back it up again: flask database resume crm."
    assert [row.id for row in listing.list_backups(Filters(retired)).backups] == [backup.id]
    assert names() == []
    assert names(with_retired=True) == ["crm"]
    assert queued(service.resume_database("crm", by="ann")).is_pending


def test_nobody_changes_the_state_of_one_that_is_not_there():
    for change in (service.pause_database, service.resume_database, service.retire_database):
        with pytest.raises(NotFound):
            change("crm", by="ann")


# DATABASE_URL changes


def test_another_url_in_the_environment_retires_the_old_one_and_gives_the_new_one_a_row(
    make_app: Callable[..., Flask],
):
    old = lookup.default_database()
    backup = queued(old)
    policies.set_policy(Policy(keep_last=3), by="ann")
    with writing() as session:
        session.get_one(DatabaseBackup, backup.id).status = Status.COMPLETED
    with make_app(database_url="postgresql://u:canary-pw@db2/shop").app_context():
        new = lookup.default_database()
        assert (new.id != old.id, new.name, new.server) == (True, "shop-2", "db2:5432")
        assert lookup.state_of(lookup.get_database("shop")) is State.RETIRED
        assert names() == ["shop-2"]
        assert names(with_retired=True) == ["shop", "shop-2"]
        assert [row.id for row in listing.list_backups(Filters(old)).backups] == [backup.id]
        assert listing.list_backups(Filters(new)).backups == []
        assert policies.get_policy(new) == Policy()
        with pytest.raises(Conflict, match="shop is retired"):
            queued(lookup.get_database("shop"))
        with pytest.raises(Conflict, match="DATABASE_URL no longer names shop"):
            service.resume_database("shop", by="ann")
    assert lookup.state_of(lookup.get_database("shop")) is State.ACTIVE
    assert lookup.default_database().id == old.id
    assert policies.get_policy() == Policy(keep_last=3)
    assert len(db.session.scalars(select(RetentionPolicy)).all()) == 1


def test_a_new_password_in_the_environment_changes_no_row(make_app: Callable[..., Flask]):
    old = lookup.default_database()
    with make_app(database_url="postgresql://ann:another@127.0.0.1:1/shop").app_context():
        assert lookup.default_database().id == old.id
    assert names(with_retired=True) == ["shop"]


def test_an_address_that_only_an_old_row_names_counts_as_retired():
    of_row = database_id("db9:5432", "old")
    database = lookup.database_of(of_row)
    assert lookup.state_of(database) is State.RETIRED
    assert (database.state, database.created_at.tzinfo is None) == (State.ACTIVE, False)
    assert names() == []
    with pytest.raises(NotFound, match="belongs to none"):
        lookup.database_of(database_id("elsewhere", "theirs"))
