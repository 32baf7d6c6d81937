"""Meshway's gateway: forwards gRPC calls, frame by frame, to the instances that a registry lists."""


def is_compiled() -> bool:
    """Whether the hot modules run as compiled by mypyc, or interpreted."""
    from gateway import model

    return not (model.__file__ or "").endswith(".py")
