"""The shapes of answers that consist of several parts."""

from marshmallow import Schema

from app.api.calls import Medium, Shape
from app.schemas.accounts import AccountSchema
from app.schemas.alerts import DeliverySchema
from app.schemas.copies import CopySchema
from app.schemas.databases import DatabaseSchema
from app.schemas.jobs import BackupSchema, ProofSchema, RestoreSchema
from app.schemas.schedules import FiringSchema, ScheduleSchema
from app.schemas.stores import StoreSchema
from app.services.jobs.progress import Progress
from app.steps import Step


def _keys_of(schema: type[Schema]) -> dict[str, Shape]:
    return {field.data_key or name: field for name, field in schema().fields.items()}


DUMP = Medium("application/octet-stream")
SQL = Medium("text/plain")
ACCOUNT = _keys_of(AccountSchema)
DELIVERY = _keys_of(DeliverySchema) | {"notifier": str}
ENTRY = {
    "id": int,
    **dict.fromkeys(("at", "actor", "face", "origin", "action", "subject"), str),
    **dict.fromkeys(("outcome", "detail", "previousHash", "hash"), str),
}
FINDING = dict.fromkeys(("subject", "state", "told", "hint"), str)
DOCTOR_REPORT = {"healthy": bool, "findings": [FINDING]}
STEPS_REPORT = {"passed": bool, "steps": [Step]}

_SPREAD = {
    "filename": str,
    **dict.fromkeys(("copies", "places"), int),
    "in": [dict.fromkeys(("store", "proof", "provenAt"), (str, None))],
}
DATABASE_OVERVIEW = _keys_of(DatabaseSchema) | {
    "lastGoodAt": (str, None),
    "nextBackupAt": (str, None),
    "isLate": bool,
    "newestGood": (_SPREAD, None),
}
NEIGHBOUR = {
    "dbname": str,
    "size": (int, None),
    "owner": str,
    "mayConnect": bool,
    "guardedAs": (str, None),
    "state": (str, None),
    "proposedName": str,
}

PROOF = _keys_of(ProofSchema)
BACKUP = _keys_of(BackupSchema) | {"proof": (PROOF, None)}
BACKUP_IN_LIST = BACKUP | {"fileExists": bool}
BACKUP_DETAILS = BACKUP_IN_LIST | {
    "proofs": [PROOF | {"evidence": dict}],
    "log": str,
    "progress": (Progress, None),
    "roles": str,
    "brings": dict,
    "restore": ({"commands": [str], "oldestReader": int, "warning": str}, None),
}
COPY = _keys_of(CopySchema) | {"store": str, "progress": (Progress, None)}
STORE = _keys_of(StoreSchema) | {"copies": int, "size": int}
TABLE = {
    "schema": str,
    "name": str,
    "rows": (int, None),
    "bytes": (int, None),
    "isPartitioned": bool,
    "isOfExtension": bool,
}
COMPARISON = {
    **dict.fromkeys(("earlier", "backup"), str),
    "tables": [
        dict.fromkeys(("schema", "name", "change"), str)
        | dict.fromkeys(("rowsBefore", "rows", "bytesBefore", "bytes"), (int, None))
    ],
    "tablesTotal": int,
    "objects": ([dict.fromkeys(("kind", "schema", "name", "change"), str)], None),
    "objectsTotal": (int, None),
}
UPLOAD = {"id": str, "name": str, "size": int, "received": int, "partSize": int}

RESTORE_DETAILS = _keys_of(RestoreSchema) | {"log": str, "progress": (Progress, None)}
_OF_ANY_PREVIEW = {
    **dict.fromkeys(("database", "dumpedVersion", "serverVersion", "powers"), str),
    **dict.fromkeys(("tables", "rows", "sessions"), int),
    **{key: [str] for key in ("missingRoles", "missingRolesSql", "privileged")},
    **{key: [str] for key in ("definitions", "leftOut", "remarks")},
    **dict.fromkeys(("running", "owner"), (str, None)),
    **dict.fromkeys(("neededBytes", "freeBytes"), (int, None)),
    "proof": (PROOF, None),
}
RESTORE_PREVIEW = (
    _OF_ANY_PREVIEW | {"forSuperusers": [str]},
    _OF_ANY_PREVIEW | {"stays": [str], "goes": [str]},  # in place
)

_TALLY = {"number": int, "size": int}
_VERDICT = {"filename": str, "createdAt": str, "size": int, "reasons": [str]}
_RULES = ("keepLast", "keepHourly", "keepDaily", "keepWeekly", "keepMonthly", "keepYearly")
_POLICY = {
    **dict.fromkeys((*_RULES, "maxTotalSize"), (int, None)),
    "keepWithin": (str, None),
    "timeZone": str,
}
OUTLOOK = {
    "store": (str, None),  # None: the backups here
    "policy": _POLICY,
    "confirmedAt": (str, None),
    "nextPruneAt": (str, None),
    "outlook": str,
    "wouldRemove": _TALLY | {"filenames": [str]},
    "lastRemoval": (_TALLY | {"at": str}, None),
}
PLAN = {
    "policy": _POLICY,
    "removed": _TALLY,
    "kept": _TALLY,
    "excess": int,
    "removing": [_VERDICT],
    "keeping": [_VERDICT],
}
PRUNED = {"removed": [str], "size": int, "spared": {str: str}, "failed": {str: str}}

SCHEDULE = _keys_of(ScheduleSchema) | {"lastFiring": (FiringSchema, None)}
SCHEDULE_DETAILS = SCHEDULE | {"nextTimes": [str]}
