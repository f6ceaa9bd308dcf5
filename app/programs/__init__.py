"""The only door to other programs: run to their end, or beside us."""
