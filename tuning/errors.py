"""The errors of this package; each message is one line and says what to do."""

_NOT_BUILT = "cannot build it"


class TuningError(RuntimeError):
    """Tuning, compiling or measuring could not go on."""


class Mistake(TuningError):
    """What the caller gave cannot be used: an address, a key, a directory, a budget."""


def last_line(error: BaseException) -> str:
    """Return the last line of an error's message, where TVM says what went wrong; its name if it has none.

    A driver that cannot build a kernel adds its log: then it is what TVM says and the log's first error.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    built = next((place for place, line in enumerate(lines) if _NOT_BUILT in line), None)
    if built is None:
        return lines[-1] if lines else type(error).__name__
    log = lines[built + 1 :]
    first = next((line for line in log if "error" in line.lower()), lines[-1])
    return f"{lines[built].partition(';')[0]}: {first}"
