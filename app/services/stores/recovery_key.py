"""A recovery key: made here, shown once, and kept by its public part alone."""

import logging

from app.encryption import Identity, make_identity
from app.services.audit.acting import acting, tell
from app.services.stores.lookup import get_store
from app.services.stores.service import Changes, edit_store

logger = logging.getLogger(__name__)


@acting
def make_recovery_key(name: str, *, by: str) -> Identity:
    """Make a key that reads all later copies in a store, and add its recipient there.

    The secret is nowhere but in what is returned. Raises NotFound, InvalidInput if the store
    has as many recipients as are possible, and ConfigurationError.
    """
    store, identity = get_store(name), make_identity()
    recipients = (*store.recipients, identity.recipient.key)
    edit_store(name, Changes(recipients=recipients), by=by)
    tell(detail=f"recipient {identity.recipient.key}")
    logger.info("recovery key made store=%r recipient=%s", name, identity.recipient.key)
    return identity
