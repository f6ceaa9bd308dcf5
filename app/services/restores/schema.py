"""The definitions in a backup, as SQL."""

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO

from app.errors import InvalidInput, ToolError
from app.postgres.archive import Expected, read_header, write_schema
from app.postgres.encodings import python_codec
from app.services.backups.listing import get_backup
from app.services.databases.configured import storage
from app.services.restores.by_hand import find_reader


@dataclass(frozen=True)
class SchemaFile:
    """The SQL, in a file without a name that the caller closes, and its encoding for Python."""

    file: BinaryIO
    codec: str


def open_schema(filename: str) -> SchemaFile:
    """The SQL that creates all that a backup holds, without rows.

    Raises NotFound, InvalidInput if there is no dump, ObjectMissing if it is gone, ToolError,
    DumpError.
    """
    backup = get_backup(filename)
    if not backup.is_completed:
        raise InvalidInput(f"{filename} is not completed: it holds no schema")
    with storage().open(filename) as dump, ExitStack() as stack:  # no rule removes it meanwhile
        reader = find_reader(backup)
        if reader is None:
            raise ToolError(f"no pg_restore {backup.oldest_reader} or newer was found here")
        expected = Expected(read_header(dump).entries, backup.database_size or 0)
        file = stack.enter_context(tempfile.TemporaryFile())
        write_schema(reader, storage().path_of(filename), file, expected)
        file.seek(0)
        stack.pop_all()
    return SchemaFile(file, python_codec((backup.contents or {}).get("encoding", "UTF8")))
