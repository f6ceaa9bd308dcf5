"""A PostgreSQL server for one drill: made from nothing, kept apart, removed whole."""
