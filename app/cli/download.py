"""flask backup download: a dump as a file, or for another program."""

import hashlib
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import click

from app.cli.completion import backup_names
from app.cli.groups import CatalogueCommand, examples
from app.errors import InvalidInput, VerificationError
from app.formatting import bytes_text
from app.models import DatabaseBackup
from app.services.backups import service

_BLOCK = 1024 * 1024  # bytes


@click.command(
    "download",
    cls=CatalogueCommand,
    epilog=examples(
        "flask backup download backup_2026-11-23T13-51-57-344Z.dump -o shop.dump",
        "flask backup download backup_2026-11-23T13-51-57-344Z.dump -o - | pg_restore --list",
    ),
)
@click.argument("name", shell_complete=backup_names)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Target; - is stdout.")
def download(name: str, output: Path | None) -> None:
    """Copy a dump to a file, or to standard output."""
    backup, dump = service.open_backup(name)
    target = output or Path(backup.filename)
    with dump:
        if str(target) == "-":
            _copy(dump, sys.stdout.buffer, backup)
        else:
            _copy_to_file(dump, target, backup)
    click.echo(f"{target} ({bytes_text(backup.size)}, SHA-256 {backup.sha256})", err=True)


def _copy_to_file(dump: BinaryIO, target: Path, backup: DatabaseBackup) -> None:
    """Copy to a new file, which has its name only when it is whole."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        try:
            with partial.open("xb") as copy:
                _copy(dump, copy, backup)
            os.link(partial, target)
        finally:
            with suppress(OSError):
                partial.unlink()
    except FileExistsError as error:
        raise InvalidInput(
            f"{target} exists already", hint="Choose another name: -o FILE"
        ) from error
    except OSError as error:
        raise InvalidInput(f"{target} cannot be written", detail=f"{error.strerror}.") from error


def _copy(dump: BinaryIO, copy: BinaryIO, backup: DatabaseBackup) -> None:
    """Copy, and compare the checksum."""
    digest = hashlib.sha256()
    while block := dump.read(_BLOCK):
        digest.update(block)
        copy.write(block)
    if digest.hexdigest() != backup.sha256:
        raise VerificationError(
            f"{backup.filename} was changed since it was made",
            detail="Its SHA-256 is not the recorded one.",
            hint="Do not restore it; flask backup check shows which dumps are whole.",
        )
