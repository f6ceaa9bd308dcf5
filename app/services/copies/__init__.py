"""Copies of backups in stores: made, read back, fetched, and removed."""
