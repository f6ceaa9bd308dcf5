"""Keep secrets out of what programs and servers say."""

import re
from collections.abc import Iterable

LONG_ENOUGH = 6  # characters of a secret that is masked inside words too


def masked(text: str, secrets: Iterable[str]) -> str:
    """The text without secrets; short ones are masked as whole words only."""
    for secret in secrets:
        if len(secret) >= LONG_ENOUGH:
            text = text.replace(secret, "*****")
        else:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "*****", text)
    return text
