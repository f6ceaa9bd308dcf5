"""Make one custom-format archive out of the directory that a parallel pg_dump writes."""

from app.postgres.assembly.assembly import Assembly, assemble, finished_entry

__all__ = ["Assembly", "assemble", "finished_entry"]
