"""Meshway's registry: who offers which service, for how long, and who is told when that changes."""
