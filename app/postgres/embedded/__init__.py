"""The embedded PostgreSQL: a server and a sample shop without any installation."""

from app.postgres.embedded.server import DATABASE, SERVER, EmbeddedServer, ServerStatus

__all__ = ["DATABASE", "SERVER", "EmbeddedServer", "ServerStatus"]
