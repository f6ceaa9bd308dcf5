"""The sample shop `ecom`, loaded completely or not at all."""

from pathlib import Path

import psycopg2

from app.errors import PostgresError
from app.postgres.connection import connect, error_text
from app.postgres.conninfo import Conninfo

DATABASE = "ecom"

_SQL = Path(__file__).with_name("sample.sql")


def load(maintenance: Conninfo, sample: Conninfo) -> None:
    """Create the database and fill it, unless that was done.

    The database has a connection limit of 0 until the loading transaction lifts it: so an
    interrupted load is noticed and repeated. Raises PostgresError if the server refuses.
    """
    try:
        if _is_to_be_filled(maintenance):
            _fill(sample)
    except psycopg2.Error as error:
        raise PostgresError(
            "the sample database could not be created", detail=error_text(error, sample)
        ) from error


def _is_to_be_filled(maintenance: Conninfo) -> bool:
    with connect(maintenance, application_name="backstop sample") as connection:
        connection.autocommit = True  # CREATE DATABASE cannot run in a transaction
        with connection.cursor() as cursor:
            cursor.execute("SELECT datconnlimit FROM pg_database WHERE datname = %s", (DATABASE,))
            row = cursor.fetchone()
            if row is None:
                cursor.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template0 CONNECTION LIMIT 0")
    return row is None or row[0] == 0


def _fill(sample: Conninfo) -> None:
    with connect(sample, application_name="backstop sample") as connection:
        with connection.cursor() as cursor:
            cursor.execute(_SQL.read_text(encoding="utf-8"))
            cursor.execute(f"ALTER DATABASE {DATABASE} CONNECTION LIMIT -1")
        connection.commit()
