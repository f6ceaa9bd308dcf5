"""The rows of the catalogue, one class a file."""

from app.models.admin import Admin
from app.models.admin_session import AdminSession
from app.models.backup import BackupStatus, DatabaseBackup, Trigger
from app.models.sign_in_throttle import SignInThrottle
from app.models.worker import Worker

__all__ = [
    "Admin",
    "AdminSession",
    "BackupStatus",
    "DatabaseBackup",
    "SignInThrottle",
    "Trigger",
    "Worker",
]
