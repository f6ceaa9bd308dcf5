"""Keys of encrypted copies that are made here: recovery keys for people, drill keys for us."""

import logging
from contextlib import suppress

from app.encryption import Identity, make_identity, parse_identity
from app.errors import ConfigurationError, Conflict
from app.extensions import writing
from app.models import Store
from app.sealing import seal, unseal
from app.services.audit.acting import acting, tell
from app.services.stores.lookup import get_store
from app.services.stores.service import Changes, edit_store, locked_row

logger = logging.getLogger(__name__)


@acting
def make_recovery_key(name: str, *, by: str) -> Identity:
    """Make a key that reads all later copies in a store, and add its recipient there.

    The secret is nowhere but in what is returned. Raises NotFound, InvalidInput if the store
    has as many recipients as are possible, and ConfigurationError.
    """
    identity = _add_recipient(name, by)
    logger.info("recovery key made store=%r recipient=%s", name, identity.recipient.key)
    return identity


@acting
def make_drill_key(name: str, *, by: str) -> Store:
    """Make a key with which the panel itself reads all later copies in a store.

    Its secret is sealed with SECRET_KEY. Raises NotFound, Conflict if there is one already or
    the store does not encrypt, InvalidInput if it has as many recipients as are possible, and
    ConfigurationError.
    """
    store = get_store(name)
    if store.drill_key:
        raise Conflict(f"{name} has a drill key already")
    if not store.recipients:
        raise Conflict(
            f"copies in {name} are not encrypted",
            detail="The panel would hold the only key.",
            hint=f"Make a recovery key first: flask store recovery-key {name}",
        )
    identity = _add_recipient(name, by)
    _keep(name, seal(identity.secret))
    logger.info("drill key made store=%r recipient=%s", name, identity.recipient.key)
    return get_store(name)


@acting
def forget_drill_key(name: str, *, by: str) -> Store:
    """Forget the drill key of a store, which no longer encrypts to it.

    Raises NotFound, and Conflict without one, or if the store has no other recipient.
    """
    store = get_store(name)
    if not store.drill_key:
        raise Conflict(f"{name} has no drill key")
    with suppress(ConfigurationError):  # SECRET_KEY has changed: its recipient is unknown
        own = {identity.recipient.key for identity in drill_identities(store)}
        left = tuple(key for key in store.recipients if key not in own)
        if not left:
            raise Conflict(
                f"{name} has no other recipient",
                detail="Without one, new copies would not be encrypted.",
                hint=f"Make a recovery key first: flask store recovery-key {name}",
            )
        edit_store(name, Changes(recipients=left), by=by)
    _keep(name, "")
    logger.info("drill key forgotten store=%r by=%r", name, by)
    return get_store(name)


def drill_identities(store: Store) -> tuple[Identity, ...]:
    """The drill key of a store, if it has one.

    Raises ConfigurationError if SECRET_KEY has changed.
    """
    return (parse_identity(unseal(store.drill_key)),) if store.drill_key else ()


def _add_recipient(name: str, by: str) -> Identity:
    store, identity = get_store(name), make_identity()
    recipients = (*store.recipients, identity.recipient.key)
    edit_store(name, Changes(recipients=recipients), by=by)
    tell(detail=f"recipient {identity.recipient.key}")
    return identity


def _keep(name: str, drill_key: str) -> None:
    with writing() as session:
        locked_row(name, session).drill_key = drill_key
