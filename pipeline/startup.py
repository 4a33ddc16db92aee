"""Check before TVM is imported that the pinned versions are the installed ones.

A newer apache-tvm-ffi than the pinned one ends the process with a segmentation fault, so there is no error
to catch afterwards. The pins stand in the distribution's own metadata and nowhere else.
"""

import re
from dataclasses import dataclass
from importlib import metadata

from pipeline.errors import UserError

DISTRIBUTION = "deeprebirth"
FFI = "apache-tvm-ffi"

PINNED = re.compile(r"^\s*([A-Za-z0-9._-]+)\s*==\s*([^\s;,]+)\s*$")


class WrongVersions(UserError):
    """A pinned package is missing or has another version than the one deeprebirth works with."""


@dataclass(frozen=True)
class Pin:
    """A package that has to have one version; `found` is None when it is not installed."""

    package: str
    wanted: str
    found: str | None

    @property
    def met(self) -> bool:
        """Whether the versions agree, leaving aside a local label such as ``+cpu``."""
        return self.found is not None and self.found.partition("+")[0] == self.wanted


def pins() -> tuple[Pin, ...]:
    """Return the packages that deeprebirth pins with ``==``, and the versions found of them.

    Raises
    ------
    WrongVersions
        deeprebirth is not installed, so that its pins are unknown.
    """
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError as error:
        raise WrongVersions(
            "deeprebirth is not installed in this Python: run `python -m pip install -e .` in its folder"
        ) from error
    matches = (PINNED.match(requirement) for requirement in requirements)
    return tuple(Pin(match[1], match[2], _found(match[1])) for match in matches if match)


def check_versions() -> None:
    """Refuse to go on with other versions than the pinned ones.

    Raises
    ------
    WrongVersions
        Names each package, what was found, what is wanted, and the command that puts it right.
    """
    wrong = [pin for pin in pins() if not pin.met]
    if wrong:
        raise WrongVersions(f"{explain(wrong)}; {remedy(wrong)}")


def explain(wrong: list[Pin]) -> str:
    """Say in one line which packages are wrong, and why it matters for TVM's ffi."""
    found = ", ".join(
        f"{pin.package} {pin.found or 'is not installed'} ({pin.wanted} is wanted)" for pin in wrong
    )
    ends = any(pin.package == FFI for pin in wrong)
    return (
        f"wrong versions: {found}{'; another apache-tvm-ffi ends the process while tuning' if ends else ''}"
    )


def remedy(wrong: list[Pin]) -> str:
    """Say which command installs the wanted versions."""
    wanted = " ".join(f'"{pin.package}=={pin.wanted}"' for pin in wrong)
    return f"run: python -m pip install {wanted}"


def _found(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
