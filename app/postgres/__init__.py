"""The only door to PostgreSQL: its server, pg_dump and pg_restore."""
