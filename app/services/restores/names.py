"""Names that people choose for databases that restores make."""

from app.errors import InvalidInput
from app.postgres.databases import NAME_BYTES
from app.services.restores import scratch


def checked_name(name: str, guarded: str) -> str:
    """The name, if a database beside the one named `guarded` can have it. Raises InvalidInput."""
    if not name.isprintable() or len(name.encode()) > NAME_BYTES or name != name.strip():
        raise InvalidInput(
            f"a database's name has at most {NAME_BYTES} bytes and no control characters"
        )
    if name == guarded or name.startswith(scratch.PREFIX):
        raise InvalidInput(
            f'"{name}" cannot be the name of the new database', hint="Choose another name."
        )
    return name
