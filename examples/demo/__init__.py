"""A whole mesh on one machine: real processes, real calls, one instance killed, one call shown as spans."""
