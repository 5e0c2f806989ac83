"""Requests and answers of the service, encoded and decoded. Pure."""


def __getattr__(name: str) -> object:
    """Return `Answer`, which pickles look for here."""
    if name != "Answer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from moe_segments.core.wire.file_segments import Answer

    return Answer
