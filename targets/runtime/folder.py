"""Packs the folder that is copied to a board and started there with one command.

bin/deeprebirth-server  lib/libtvm_*.so  include/  licences/  start  deeprebirth-server.service  README

For a target whose GPU runs the network, the OpenCL plug-in is one of the libraries.
"""

import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import Template

from targets.errors import TargetError
from targets.info import OWN_CPU, TargetInfo
from targets.runtime.compile import compile_plugin, compile_server, find_opencl_headers, strip
from targets.runtime.opencl import NAME as PLUGIN
from targets.runtime.tvm_runtime import fetch, given, has_wheels, how_to_make

SERVER = "bin/deeprebirth-server"
START = "start"
_HEADERS = ("tvm/ffi", "dlpack")
_TEMPLATES = Path(__file__).with_name("board")
_VERSIONS = {"glibc": rb"GLIBC_(\d[\d.]*)", "libstdc++ with GLIBCXX": rb"GLIBCXX_(\d[\d.]*)"}


@dataclass(frozen=True)
class Packed:
    """What was packed.

    Attributes
    ----------
    bytes : int
        Of all files.
    needs : dict of str to str
        The system's libraries that have to be on the board, and their oldest version.
    """

    bytes: int
    needs: dict[str, str]


def check(target: TargetInfo, tvm_runtime: Path | None) -> None:
    """Find out before anything is fetched whether a folder can be made for a target.

    Raises
    ------
    TargetError
        If the target is this machine, there is no runtime for it, or no compiler, or it has a GPU and
        OpenCL's headers are missing.
    """
    if target.cpu == OWN_CPU:
        raise TargetError(
            f"target {target.name} has Python and needs no runtime: use `deeprebirth serve` there"
        )
    if tvm_runtime is None and not has_wheels(target):
        raise TargetError(
            f"there is no prebuilt TVM runtime for {target.name}: give --tvm-runtime DIR; to make it, "
            f"{how_to_make(target)}"
        )
    target.toolchain.probe()
    if target.gpu is not None:
        find_opencl_headers()


def pack(
    target: TargetInfo,
    folder: Path,
    key: str,
    tvm_runtime: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Packed:
    """Make the server for a target and put everything into an empty folder.

    Parameters
    ----------
    target : TargetInfo
    folder : Path
        Exists, and is empty.
    key : str
        That the unit of systemd registers the board under.
    tvm_runtime : Path, optional
        A runtime that the user made; by default it is fetched.
    say : callable
        Told in a line what happens.

    Raises
    ------
    TargetError
        As ``check``, or if the runtime cannot be fetched or the server not be compiled.
    """
    check(target, tvm_runtime)
    compiler = target.require_compiler()
    with tempfile.TemporaryDirectory(prefix="deeprebirth-runtime-") as scratch:
        if tvm_runtime is None:
            say("fetching TVM's runtime for the board")
        runtime = fetch(target, Path(scratch)) if tvm_runtime is None else given(target, tvm_runtime)
        say("compiling the board's server")
        for name in ("bin", "lib", "licences"):
            (folder / name).mkdir()
        compile_server(compiler, runtime, folder / SERVER)
        if target.gpu is not None:
            say("compiling the OpenCL plug-in")
            compile_plugin(compiler, runtime, folder / "lib" / PLUGIN)
        for library in runtime.libraries:
            strip(compiler, Path(shutil.copy(library, folder / "lib")))
        for headers in runtime.headers:
            for part in _HEADERS:
                if (headers / part).is_dir():
                    shutil.copytree(headers / part, folder / "include" / part, dirs_exist_ok=True)
        for licence in runtime.licences:
            shutil.copyfile(licence, folder / "licences" / _licence_name(licence, Path(scratch)))
    needs = _needs(folder)
    words = " and ".join(f"{library} {version}" for library, version in needs.items())
    _fill(folder, key=key, device=target.device or target.name, needs=f"{words} or newer")
    return Packed(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()), needs)


def _fill(folder: Path, **words: str) -> None:
    """Write the templates; the start script, which a shell reads, as it is."""
    for template in _TEMPLATES.iterdir():
        text = template.read_text(encoding="utf-8")
        filled = text if template.name == START else Template(text).substitute(words)
        (folder / template.name).write_text(filled, encoding="utf-8")
    (folder / START).chmod(0o755)


def _needs(folder: Path) -> dict[str, str]:
    """Return the newest versions of symbols that the files ask the board's libraries for."""
    data = b"".join(path.read_bytes() for name in ("bin", "lib") for path in (folder / name).iterdir())
    found = {library: re.findall(pattern, data) for library, pattern in _VERSIONS.items()}
    return {
        library: max((text.decode().rstrip(".") for text in versions), key=_parts)
        for library, versions in found.items()
        if versions
    }


def _parts(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part]


def _licence_name(licence: Path, scratch: Path) -> str:
    """Name a licence after what it is for: the packages' own names for theirs are all alike."""
    try:
        return "-".join(licence.relative_to(scratch).parts)
    except ValueError:
        return licence.name
