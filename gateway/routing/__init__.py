"""Which route a call takes: pure matching over an immutable table."""
