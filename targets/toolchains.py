"""The compilers that link libraries for a family of targets: where they are, and how to get them.

Debian's cross compilers and this machine's own are looked for on PATH. A compiler of the Android NDK, known
by its name, is looked for in the NDK first, which ``ANDROID_NDK_HOME`` or ``ANDROID_NDK_ROOT`` names.
"""

import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from targets.elf import check_library
from targets.errors import TargetError

NDK_VARIABLES = ("ANDROID_NDK_HOME", "ANDROID_NDK_ROOT")
NDK_PACKAGE = "Android NDK"
_NDK_PROGRAMS = "toolchains/llvm/prebuilt/*/bin"
_SECONDS = 60.0


@dataclass(frozen=True)
class Toolchain:
    """What makes libraries for one family of targets.

    Attributes
    ----------
    family : str
        The family in words.
    triple : str
        LLVM's target triple.
    compiler : str
        The C++ compiler that links, a name or a path.
    package : str
        The package that brings it; empty for a compiler that the user named.
    """

    family: str
    triple: str
    compiler: str
    package: str

    @property
    def is_on_path(self) -> bool:
        """Whether a package puts it on PATH."""
        return self.package not in ("", NDK_PACKAGE)

    @property
    def remedy(self) -> str:
        """What to do when the compiler is missing or is not the right one."""
        if self.package == NDK_PACKAGE:
            return f"set {NDK_VARIABLES[0]} to the folder of the Android NDK (r23 or newer)"
        if self.package:
            return f"install the package {self.package}"
        return "name a C++ compiler that links for it"

    def find(self) -> str | None:
        """Return the path of the compiler; None if there is none here."""
        return _in_ndk(self.compiler) or shutil.which(self.compiler)

    def where(self) -> str:
        """Return in words why the compiler was not found."""
        if self.package == NDK_PACKAGE:
            variable, folder = _ndk()
            if variable:
                return f"{variable} is {folder}, where there is no {_NDK_PROGRAMS}/{self.compiler}"
            return f"of the Android NDK, and {NDK_VARIABLES[0]} is not set"
        return "which is not a program" if os.sep in self.compiler else "which is not on PATH"

    def probe(self) -> str:
        """Compile and link a trivial shared library and check the machine it is for; return the compiler.

        Raises
        ------
        TargetError
            If the compiler is missing, fails, takes longer than a minute, or builds for another machine.
        """
        path = self.find()
        if path is None:
            raise TargetError(f"{self.family} needs {self.compiler}, {self.where()}: {self.remedy}")
        with tempfile.TemporaryDirectory(prefix="deeprebirth-toolchain-") as folder:
            cause = _cause(path, self.triple, Path(folder))
        if cause:
            raise TargetError(f"{path} does not make libraries for {self.triple} ({cause}): {self.remedy}")
        return path


TOOLCHAINS = (
    Toolchain("this machine", f"{platform.machine()}-linux-gnu", "g++", "g++"),
    Toolchain("64-bit ARM Linux", "aarch64-linux-gnu", "aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu"),
    Toolchain(
        "32-bit ARM Linux", "armv7-linux-gnueabihf", "arm-linux-gnueabihf-g++", "g++-arm-linux-gnueabihf"
    ),
    Toolchain(
        "64-bit ARM Android", "aarch64-linux-android21", "aarch64-linux-android21-clang++", NDK_PACKAGE
    ),
    Toolchain(
        "32-bit ARM Android", "armv7a-linux-androideabi21", "armv7a-linux-androideabi21-clang++", NDK_PACKAGE
    ),
)
HOST, ARM64_LINUX, ARMV7_LINUX, ARM64_ANDROID, ARMV7_ANDROID = TOOLCHAINS


def of_triple(triple: str) -> Toolchain | None:
    """Return the toolchain for a triple; None if the table has none."""
    return next((each for each in TOOLCHAINS if each.triple == triple), None)


def _ndk() -> tuple[str, str]:
    """Return the variable that names the NDK, and its value; both empty if none is set."""
    return next(((name, os.environ[name]) for name in NDK_VARIABLES if os.environ.get(name)), ("", ""))


def _in_ndk(compiler: str) -> str | None:
    _, folder = _ndk()
    if not folder or os.sep in compiler or "-linux-android" not in compiler:
        return None
    found = sorted(Path(folder).glob(f"{_NDK_PROGRAMS}/{compiler}"))
    return next((str(path) for path in found if os.access(path, os.X_OK)), None)


def _cause(compiler: str, triple: str, folder: Path) -> str:
    """Build a library of one function; return why that failed, or nothing."""
    source, library = folder / "probe.cpp", folder / "libprobe.so"
    source.write_text('extern "C" int probe() { return 0; }\n', encoding="ascii")
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(source)]
    try:
        run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        return f"no answer within {_SECONDS:g} s"
    except OSError as error:
        return error.strerror or str(error)
    if run.returncode != 0:
        said = run.stderr.decode(errors="replace").strip().splitlines()
        return said[-1].strip() if said else f"it ended with code {run.returncode}"
    try:
        check_library(library, triple)
    except (TargetError, OSError) as error:
        return str(error)
    return ""
