"""The rows of the catalogue, one class a file."""

from app.models.admin import Admin
from app.models.admin_session import AdminSession
from app.models.alarm import GOOD_NEWS, Alarm, Fact
from app.models.assertion import Assertion
from app.models.audit_entry import ActOutcome, AuditEntry
from app.models.backup import DatabaseBackup
from app.models.copy import Copy, Loss
from app.models.database import Database, State
from app.models.delivery import Delivery, DeliveryStatus
from app.models.job import Job, Status, Trigger
from app.models.known_place import KnownPlace
from app.models.notifier import Notifier
from app.models.panel import Panel
from app.models.proof import Level, Proof, Result
from app.models.restore import Kind, Restore
from app.models.retention import KeptPolicy, RetentionPolicy, StoreRetentionPolicy
from app.models.schedule import Firing, Outcome, Schedule, Task
from app.models.server_look import ServerLook
from app.models.sign_in_throttle import SignInThrottle
from app.models.store import ReadBack, Store, StoreDatabase, TakesCatalogue
from app.models.upload import Upload
from app.models.worker import Worker

AnyJob = type[DatabaseBackup] | type[Restore] | type[Copy]  # whatever a worker runs

__all__ = [
    "GOOD_NEWS",
    "ActOutcome",
    "Admin",
    "AdminSession",
    "Alarm",
    "AnyJob",
    "Assertion",
    "AuditEntry",
    "Copy",
    "Database",
    "DatabaseBackup",
    "Delivery",
    "DeliveryStatus",
    "Fact",
    "Firing",
    "Job",
    "KeptPolicy",
    "Kind",
    "KnownPlace",
    "Level",
    "Loss",
    "Notifier",
    "Outcome",
    "Panel",
    "Proof",
    "ReadBack",
    "Restore",
    "Result",
    "RetentionPolicy",
    "Schedule",
    "ServerLook",
    "SignInThrottle",
    "State",
    "Status",
    "Store",
    "StoreDatabase",
    "StoreRetentionPolicy",
    "TakesCatalogue",
    "Task",
    "Trigger",
    "Upload",
    "Worker",
]
