"""The embedded PostgreSQL: a server and a sample shop that need nothing installed."""

from app.postgres.embedded.server import DATABASE, SERVER, EmbeddedServer, ServerStatus

__all__ = ["DATABASE", "SERVER", "EmbeddedServer", "ServerStatus"]
