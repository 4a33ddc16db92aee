"""The error that every question about a target can raise."""


class TargetError(ValueError):
    """A target that is not known or cannot be built for here; the message is one line."""
