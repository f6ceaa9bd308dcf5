"""The application names of the sessions of a job, by which they are found."""


def backup_session(filename: str) -> str:
    """The application name of all sessions of a backup."""
    return f"backstop {filename}"


def restore_session(restore_id: str) -> str:
    """The application name of all sessions of a restore."""
    return f"backstop restore {restore_id}"
