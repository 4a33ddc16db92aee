"""TVM's runtime for a board: headers to compile against, libraries to link with and to copy.

For 64-bit ARM Linux it is in the wheels of the installed version, which pip fetches by the tag of their
platform. For other systems there is no wheel: the user makes the runtime from TVM's sources and names its
folder.
"""

import subprocess
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from targets.elf import check_library
from targets.errors import TargetError
from targets.info import TargetInfo

LIBRARIES = ("libtvm_runtime_extra.so", "libtvm_runtime.so", "libtvm_ffi.so")
"""In the order of linking: each needs those after it."""

_PACKAGES = ("apache-tvm", "apache-tvm-ffi")
_PLATFORMS = {"aarch64-linux-gnu": "manylinux_2_28_aarch64"}
_HEADERS = ("tvm/include/", "tvm_ffi/include/", "tvm_ffi/3rdparty/dlpack/include/")
_LICENCES = ("tvm/LICENSE", "tvm/NOTICE", "tvm/licenses/LICENSE.builtin_fp16.txt")
_FFI_LICENCES = ("/licenses/LICENSE", "/licenses/NOTICE", "libbacktrace/LICENSE")
_FETCH_SECONDS = 900.0


@dataclass(frozen=True)
class TvmRuntime:
    """Where the parts of a runtime are.

    Attributes
    ----------
    headers, libraries, licences : tuple of Path
        Folders of headers; files.
    """

    headers: tuple[Path, ...]
    libraries: tuple[Path, ...]
    licences: tuple[Path, ...]


def has_wheels(target: TargetInfo) -> bool:
    """Tell whether there are wheels with a runtime for the target's system."""
    return target.triple in _PLATFORMS


def fetch(target: TargetInfo, folder: Path) -> TvmRuntime:
    """Fetch the wheels for a target and unpack what a board needs of them into a folder.

    Raises
    ------
    TargetError
        If pip cannot fetch them.
    """
    wanted = [f"{package}=={metadata.version(package)}" for package in _PACKAGES]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--no-deps"]
    command += ["--platform", _PLATFORMS[target.triple], "--dest", str(folder), *wanted]
    try:
        run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_FETCH_SECONDS)
    except subprocess.TimeoutExpired:
        raise _not_fetched(wanted, f"pip took longer than {_FETCH_SECONDS:g} s") from None
    if run.returncode != 0:
        raise _not_fetched(wanted, _reason(run.stderr.decode(errors="replace")))
    for wheel in sorted(folder.glob("*.whl")):
        _unpack(wheel, folder)
    return TvmRuntime(
        headers=tuple(folder / name for name in _HEADERS),
        libraries=tuple(next(folder.rglob(name)) for name in LIBRARIES),
        licences=tuple(_licences(folder.rglob("*"))),
    )


def given(target: TargetInfo, folder: Path) -> TvmRuntime:
    """Take a runtime that the user made: ``include`` and ``lib`` in a folder.

    Raises
    ------
    TargetError
        If something is missing in it, or is for another machine.
    """
    for name in (*(f"lib/{library}" for library in LIBRARIES), "include/tvm/ffi/function.h"):
        if not (folder / name).is_file():
            raise TargetError(f"--tvm-runtime {folder} has no {name}: {how_to_make(target)}")
    libraries = tuple(folder / "lib" / name for name in LIBRARIES)
    for library in libraries:
        check_library(library, target.triple)
    return TvmRuntime((folder / "include",), libraries, tuple(_licences(folder.glob("*"))))


def how_to_make(target: TargetInfo) -> str:
    """Say in words how to make a runtime for a target."""
    version = metadata.version("apache-tvm").partition(".post")[0]
    return (
        f"build the runtime of TVM {version} from its sources for {target.triple}, and put its headers "
        f"(tvm, dlpack) into DIR/include and {', '.join(LIBRARIES)} into DIR/lib"
    )


def _not_fetched(wanted: list[str], reason: str) -> TargetError:
    return TargetError(
        f"the wheels {' and '.join(wanted)} for the board cannot be fetched ({reason}): check the network, "
        "or give --tvm-runtime DIR"
    )


def _reason(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["pip does not say why"])[-1]


def _unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if _is_needed(name)]
        archive.extractall(folder, names)


def _is_needed(name: str) -> bool:
    wanted = name.startswith(_HEADERS) or Path(name).name in LIBRARIES or name in _LICENCES
    return wanted or ("tvm_ffi" in name and name.endswith(_FFI_LICENCES))


def _licences(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.is_file() and path.name.startswith(("LICENSE", "NOTICE")))
