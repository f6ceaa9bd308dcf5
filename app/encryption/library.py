"""pyrage, the library that speaks age: some platforms have no wheel of it."""

from typing import Any

from app.errors import ConfigurationError

try:
    import pyrage
except ImportError:
    pyrage = None


def age() -> Any:
    """The library. Raises ConfigurationError where it is not installed."""
    if pyrage is None:
        raise ConfigurationError(
            "encryption is not available on this machine",
            detail="The library pyrage is not installed: it has no wheel for this platform.",
            hint="Install Rust and run pip install pyrage, or run Backstop on Linux with glibc.",
        )
    return pyrage
