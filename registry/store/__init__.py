"""Where the registry keeps its records."""
