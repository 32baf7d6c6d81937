"""Meshway's gateway: forwards gRPC calls, frame by frame, to the instances that a registry lists."""
