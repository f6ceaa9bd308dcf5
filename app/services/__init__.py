"""The rules: what may happen, in which order, in which transaction."""
