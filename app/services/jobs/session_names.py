"""The application names of the sessions that work for a job: by them they are found again."""


def backup_session(filename: str) -> str:
    """The name of all sessions that work for a backup."""
    return f"backstop {filename}"


def restore_session(restore_id: str) -> str:
    """The name of all sessions that work for a restore."""
    return f"backstop restore {restore_id}"
