"""Make one custom-format archive out of the directory that a parallel pg_dump writes."""

from app.postgres.assembly.assembly import (
    Assembly,
    DamagedDirectory,
    assemble,
    finished_entry,
)

__all__ = ["Assembly", "DamagedDirectory", "assemble", "finished_entry"]
