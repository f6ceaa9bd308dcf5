"""Texts of services on pages, in the viewer's language.

Services know nothing of languages: their texts are English, also in the API and in a terminal.
A page looks them up as it shows them: as they stand, or by a template of the catalogue, in
which `{name}` stands for a value. `app/translations/extraction.py` finds them in the code;
those below it could not tell from other strings.
"""

import re
from functools import cache, lru_cache

import flask_babel
from flask_babel.speaklater import LazyString

from app.viewer import language

WORDS = (
    # States, outcomes, kinds
    "Active", "active", "Paused", "paused", "Retired", "retired",
    "Pending", "Completed", "Failed", "Waiting", "Running", "Not possible",
    "Done", "Refused", "Ok", "Warning", "Problem",
    "Drill", "Beside", "Replace", "In place", "Refresh", "Missing", "Damaged",
    "Added", "Removed", "Changed", "drill", "restore", "backup", "copy",
    "always", "sample", "never", "encrypted",
    # Who started it
    "admin", "api", "cli", "schedule",
    # What a job is doing
    "Starting", "Dumping", "Checking", "Publishing", "Loading", "Comparing", "Asserting",
    "Saving", "Changing", "Swapping", "Uploading", "Verifying", "Fetching",
    # Proofs
    "Checksum right", "Read back", "Restored", "Restored and checked", "Proof failed",
    "checksum right", "read back", "restored", "restored and checked", "not read back", "here",
    # Days of the overview
    "a backup was restore-tested", "backed up and verified", "no backup succeeded", "no backup",
    # Workers
    "No worker runs", "The worker is silent",
    # Why retention keeps or removes
    "there is no policy", "there is no good backup", "over the size limit", "no rule keeps it",
    "younger than 24 hours, and the clock was set back", "there is room", "within {length}",
    "younger than 24 hours, if the clock was set ahead since", "last",
    "the oldest, while there are fewer than {places} {periods}", "{why}, if its file were there",
    "hour {label}", "day {label}", "week {label}", "month {label}", "year {label}",
    "the newest good one", "the newest drilled one",
    "hours", "days", "weeks", "months", "years",
    # What a restore will meet
    "the proof of this backup has failed; do not rely on it alone",
    "{job} is running, and must end first",
    "the backup is of PostgreSQL {dumped}, and this server is older: features that it does not know cannot be restored",  # noqa: E501
    "role {name} does not exist: its objects and grants are not restored to it",
    "created by our admin, as only a superuser may: {names}",
    "only a superuser can create {names}: if you trust everyone who could write to the database, let a superuser load the dump",  # noqa: E501
    "{name} is created without its rows, because others need it",
    "left out: {names}",
    # Why a restore or a drill is not accepted
    "an assertion does not hold in the restored database; the live one stays",
    "an assertion does not hold in the restored database; the one made before stays",
    "the drill found assertions that do not hold", "assertions were not answered",
    "the drill found damage in the restored database",
    "assertions were not answered; the live database stays",
    "assertions were not answered; the one made before stays",
    # Restores by hand
    "No pg_restore {version} or newer was found here.",
    "It came from {server}: replace HOST, PORT and USER.",
    # Steps of tests, when retention applies, titles of alarms
    "host name", "network", "TLS", "sign-in", "version", "pooler", "rights", "size", "write",
    "list", "refuse a second", "remove", "versioning", "object lock", "unfinished uploads", "open",
    "owner", "role {role} may read all that a dump needs", "{server} accepts connections",

    "Something listens there, but does not answer as PostgreSQL does: check the port.",
    "It removes nothing.", "It applies {when}.",
    "It removes nothing automatically until it is confirmed; then it applies {when}.",
    "after each scheduled backup, next at {time}",
    "after each scheduled backup; none is scheduled now",
    "after each copy to {store} of a scheduled backup, next at {time}",
    "after each copy to {store} of a scheduled backup; none is scheduled now",
    "attempt {number} of {all}: {reason}", "{word}: not possible here",
    "No good backup of {name} for more than {length}", "A backup of {name} failed",
    "{number} backups of {name} failed", "A copy of {name} to {where} is overdue",
    "A copy is missing or damaged in {name}", "{number} copies are missing or damaged in {name}",
    "The export of the catalogue to {name} is overdue", "Notifier {name} does not accept messages",
    "A worker on {host} is silent", "The file of a backup is missing",
    "Files of {number} backups are missing", "A backup of {name} damaged",
    "{number} backups of {name} damaged", "Drill of {name} failed",
    # What the doctor looks at and finds
    "backup folder", "instance folder", "run on PostgreSQL {version} in {folder}, {isolation}",
    "isolated by bubblewrap", "{free} free; a backup takes {size}",
    "{free} free; a backup takes {size}; at {daily} a day the disk is full in {days} days",
    "Delete backups, or free some space.", "the server cannot be asked",
    "the catalogue cannot be read", 'no connection to database "{name}" on {server}',
    "PostgreSQL {version} on {server}: database {name} ({size}), role {role}",
    "the server's clock is {seconds} s ahead of ours",
    "the server's clock is {seconds} s behind ours",
    "Synchronize both machines by NTP: backups are named and ordered by time.",
    "tables", "row security", "large objects",
    "role {role} may read all tables ({tables}) and sequences ({sequences})",
    "hides no row from role {role}", "role {role} may read all of them ({number})",
    "role {role} may not read {names}",
    "row-level security may hide rows of {names} from role {role}; pg_dump refuses that",
    "{version} in {folder}, compression {compression}; chosen because {reason}",
    "BACKSTOP_PG_BIN_DIR names it", "it is of the server's major version",
    "it is the next newer one, and there is none of {major}",
    # Why retention leaves a backup alone
    "pinned: {reason}", "foreign: it was not made here", "its proof failed: a person decides",
    "not read back completely yet", "made in the future of this clock",
    # Of restores and proofs
    "about {size} is needed on the server; {free} are free",
    "about {size} is needed on the server; how much is free is not known",
    "an unknown size is needed on the server; {free} are free", "it is true",
    # Of requests that no page expects
    "not found", "bad request", "method not allowed", "internal server error",
    "request entity too large", "unsupported media type",
    "The requested URL was not found on the server. If you entered the URL manually please check your spelling and try again.",  # noqa: E501
    "The method is not allowed for the requested URL.",
    "The server encountered an internal error and was unable to complete your request. Either the server is overloaded or there is an error in the application.",  # noqa: E501
    "The CSRF token is missing.", "The CSRF token is invalid.", "The CSRF token has expired.",
    "The CSRF session token is missing.", "The CSRF tokens do not match.",
    "No form of the panel takes a file: send it URL-encoded.",
)  # fmt: skip


_LONGEST = 600  # characters; to fit templates to what a hostile dump says may take long
ENOUGH = 8  # characters of a template beside its values, or it would fit anything
_PLACE = re.compile(r"\{([a-z_][a-z_0-9]*)\}")


def _(message: str, **values: object) -> str:
    """A text of our own, in the viewer's language."""
    return str(flask_babel.gettext(message, **values))


def _l(message: str, **values: object) -> LazyString:
    """The same, looked up each time it is shown."""
    return LazyString(_, message, **values)


def ngettext(one: str, many: str, number: int, /, **values: object) -> str:
    """The text for this number, which it can contain as `num`."""
    return str(flask_babel.ngettext(one, many, number, **values))


def said(text: str | None) -> str:
    """A text of a service in the viewer's language; in English if no catalogue has it."""
    if not text or language() == "en" or len(text) > _LONGEST:
        return text or ""
    return _translated(language(), text)


def word_text(value: str) -> str:
    """One word of a service, with a capital at its start."""
    return said(value.capitalize())


@lru_cache(5_000)
def _translated(wanted: str, text: str) -> str:
    messages = _messages(wanted)
    if text in messages:
        return messages[text]
    for template, message in _templates(wanted):
        if match := template.fullmatch(text):
            values = {name: _translated(wanted, value) for name, value in match.groupdict().items()}
            return message.format(**values)
    return text


@cache
def _messages(_wanted: str) -> dict[str, str]:
    """The catalogue of the viewer's language."""
    catalogue = flask_babel.get_translations()._catalog  # noqa: SLF001
    return {key: text for key, text in catalogue.items() if isinstance(key, str) and text}


@cache
def _templates(wanted: str) -> list[tuple[re.Pattern[str], str]]:
    """Those with places for values, and their translations: the longest first."""
    with_places = {
        key: text
        for key, text in _messages(wanted).items()
        if _PLACE.search(key) and len(_PLACE.sub("", key)) >= ENOUGH
    }
    ordered = sorted(with_places, key=lambda key: len(_PLACE.sub("", key)), reverse=True)
    return [(re.compile(_pattern(key), re.DOTALL), with_places[key]) for key in ordered]


def _pattern(template: str) -> str:
    texts = _PLACE.split(template)  # names at the odd places
    return "".join(
        f"(?P<{part}>.+?)" if number % 2 else re.escape(part) for number, part in enumerate(texts)
    )
