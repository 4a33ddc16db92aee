"""The manifest.h of a bundle: what run.cpp has to know of manifest.json, so that it needs no JSON parser."""

import string
import zlib
from collections.abc import Mapping
from pathlib import Path

from pipeline.bundle.manifest import Manifest
from pipeline.report.tables import printable

_DEVICE_TYPES = {"cpu": "kDLCPU", "opencl": "kDLOpenCL"}
_PLAIN = (string.ascii_letters + string.digits + " .,:;-_").encode()


def header(manifest: Manifest, files: Mapping[str, Path]) -> str:
    """Return the text of manifest.h.

    Parameters
    ----------
    manifest : Manifest
        The bundle's facts; its `files` are not used.
    files : Mapping[str, Path]
        The files that run.cpp loads, by the names that it knows them by (`kLibrary`, ...).
    """
    gpu = manifest.target.gpu
    notices = ", ".join(map(_literal, manifest.notices))
    lines = [
        "// What run.cpp has to know of manifest.json; written by deeprebirth.",
        "#pragma once",
        "",
        "#include <dlpack/dlpack.h>",
        "",
        "#include <array>",
        "#include <cstdint>",
        "",
        "namespace manifest {",
        "",
        "struct File {",
        "  const char* name;",
        "  uint64_t bytes;",
        "  uint32_t crc32;",
        "};",
        "",
        *(f"inline constexpr File {name} = {_file(path)};" for name, path in files.items()),
        f"inline constexpr int kInputs = {len(manifest.inputs)};",
        f"inline constexpr int kOutputs = {len(manifest.outputs)};",
        f"inline constexpr int kThreads = {manifest.target.threads};",
        f"inline constexpr DLDeviceType kDeviceType = {_DEVICE_TYPES[manifest.target.device_type]};",
        f"inline constexpr const char* kGpu = {_literal('' if gpu is None else gpu.description)};",
        f"inline constexpr const char* kGpuFamily = {_literal('' if gpu is None else gpu.kind)};",
        f"inline constexpr double kTolerance = {manifest.tolerance!r};",
        f"inline constexpr std::array<const char*, {len(manifest.notices)}> kNotices = {{{notices}}};",
        "",
        "}  // namespace manifest",
    ]
    return "\n".join(lines) + "\n"


def _file(path: Path) -> str:
    return f"{{{_literal(path.name)}, {path.stat().st_size}u, {_crc32(path):#010x}u}}"


def _crc32(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def _literal(text: str) -> str:
    """A C++ string literal of one printable line; what could mean something else is an octal escape."""
    return '"' + "".join(map(_character, printable(text).encode())) + '"'


def _character(byte: int) -> str:
    return chr(byte) if byte in _PLAIN else f"\\{byte:03o}"
