"""Results as JSON, for API and terminal: camelCase keys, times in UTC."""
