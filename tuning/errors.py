"""The error of this package."""


class TuningError(RuntimeError):
    """Tuning, compiling or measuring could not go on; the message is one line and says what to do."""
