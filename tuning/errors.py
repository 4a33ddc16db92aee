"""The errors of this package; each message is one line and says what to do."""


class TuningError(RuntimeError):
    """Tuning, compiling or measuring could not go on."""


class Mistake(TuningError):
    """What the caller gave cannot be used: an address, a key, a directory, a budget."""
