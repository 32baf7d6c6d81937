"""The gateway's own services and the operator's endpoints."""
