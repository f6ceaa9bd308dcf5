"""The sample shop `ecom`, loaded whole or not at all."""

from pathlib import Path

import psycopg2

from app.errors import PostgresError
from app.postgres.connection import connect, told
from app.postgres.conninfo import Conninfo

DATABASE = "ecom"

_SQL = Path(__file__).with_name("sample.sql")


def load(maintenance: Conninfo, sample: Conninfo) -> None:
    """Make the database and fill it, unless that has been done.

    Until the sample is in, the database's connection limit is 0; the loading
    transaction itself lifts it. So a load that was interrupted is seen, and
    done again; nothing else could be in the database by then.

    Raises PostgresError if the server refuses.
    """
    try:
        if _is_to_be_filled(maintenance):
            _fill(sample)
    except psycopg2.Error as error:
        raise PostgresError(
            "the sample database could not be made", detail=told(error, sample)
        ) from error


def _is_to_be_filled(maintenance: Conninfo) -> bool:
    with connect(maintenance, application_name="backstop sample") as connection:
        connection.autocommit = True  # CREATE DATABASE wants no transaction around it
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
