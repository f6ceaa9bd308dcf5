"""A PostgreSQL server for one drill: created, isolated, and removed completely."""
