"""Sockets and the event loop: the only place that waits on the network."""
