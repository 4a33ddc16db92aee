"""What a user can do wrong: one line each, which says what is wrong and what to do."""

from __future__ import annotations


class UserError(Exception):
    """A mistake the user can put right.

    The command line prints the message and exits 2.

    Parameters
    ----------
    message : str
        What is wrong and what to do. Line breaks (from a library's message) become blanks.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(message.split()))


class ModelNotReadable(UserError):
    """The file is missing, cannot be read, or does not hold a model."""


class ShapeNeeded(UserError):
    """An input has a size that is not fixed."""


class ImportRefused(UserError):
    """The model holds something that cannot be imported, or would not be imported right."""
