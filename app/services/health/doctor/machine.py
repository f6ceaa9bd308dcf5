"""The machine: folders, their rights, and the key of the sessions."""

import os
import stat
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile

from app.config import settings
from app.services.health.doctor.findings import Finding, State, examined, ok, problem, warning

_OTHERS_MAY_READ = stat.S_IRGRP | stat.S_IROTH
_PRIVATE = stat.S_IRWXG | stat.S_IRWXO  # what nobody else may have of a secret


def examine_machine() -> list[Finding]:
    """Both folders and the secret key."""
    instance = settings().instance_dir
    return [
        examined("backup folder", look_at_backup_folder),
        examined("instance folder", partial(_folder, "instance folder", instance)),
        examined("secret key", partial(_secret_key, instance / "secret_key")),
    ]


def look_at_backup_folder() -> Finding:
    """Whether dumps can be kept there, for us alone."""
    folder = settings().backup_dir
    found = _folder("backup folder", folder)
    is_open = folder.exists() and folder.stat().st_mode & _OTHERS_MAY_READ
    if found.state is State.OK and is_open:
        return warning(
            found.subject,
            f"other users may see which dumps are in {folder}",
            f"Keep it to yourself: chmod 700 {folder}",
        )
    return found


def _folder(subject: str, folder: Path) -> Finding:
    """Whether it is ours alone to write to."""
    if not folder.exists():
        return _missing(subject, folder)
    if not folder.is_dir():
        return problem(
            subject, f"{folder} is not a folder", "Remove it, or name another in settings."
        )
    about = folder.stat()
    if about.st_uid not in (os.geteuid(), 0):
        return problem(
            subject,
            f"{folder} belongs to uid {about.st_uid}, and we are uid {os.geteuid()}",
            "Run Backstop as the user to whom its folders belong, or change their owner.",
        )
    if _others_may_write(about):
        return problem(
            subject, f"other users may write to {folder}", f"Forbid it: chmod go-w {folder}"
        )
    try:
        TemporaryFile(dir=folder).close()
    except OSError as error:
        return problem(
            subject,
            f"{folder} cannot be written: {error.strerror}",
            "Check its owner and rights, and whether the disk is full or mounted read-only.",
        )
    return ok(subject, f"{folder} is ours, and can be written")


def _missing(subject: str, folder: Path) -> Finding:
    parent = next(ancestor for ancestor in folder.parents if ancestor.exists())
    effective = os.access in os.supports_effective_ids
    if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK, effective_ids=effective):
        return ok(subject, f"{folder} will be made when it is needed")
    return problem(
        subject,
        f"{folder} does not exist and cannot be made in {parent}",
        "Make it, and give it to the user who runs Backstop.",
    )


def _others_may_write(about: os.stat_result) -> bool:
    """A group with the user's own number is theirs alone (as pam_umask sees it)."""
    by_group = about.st_mode & stat.S_IWGRP and about.st_gid != about.st_uid
    return bool(by_group or about.st_mode & stat.S_IWOTH)


def _secret_key(file: Path) -> Finding:
    """Whether nobody else can read what signs the cookies."""
    if not file.exists() or file.read_text(encoding="ascii").strip() != settings().secret_key:
        return ok("secret key", "from SECRET_KEY or the file that SECRET_KEY_FILE names")
    about = file.stat()
    if about.st_mode & _PRIVATE or about.st_uid not in (os.geteuid(), 0):
        return problem(
            "secret key",
            f"{file}, which signs the cookies, is not for us alone",
            f"chmod 600 {file}; remove it if somebody may have read it, and start the panel anew.",
        )
    return ok("secret key", f"in {file}, for us alone")
