"""The errors of this package; each message is one line and says what to do."""


class TuningError(RuntimeError):
    """Tuning, compiling or measuring could not go on."""


class Mistake(TuningError):
    """What the caller gave cannot be used: an address, a key, a directory, a budget."""


def last_line(error: BaseException) -> str:
    """Return the last line of an error's message, where TVM says what went wrong; its name if it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
