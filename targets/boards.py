"""Targets that a user adds: each a TOML file, given by its path or kept among the user's settings.

    name = "my-board"
    description = "our camera, second revision"
    triple = "aarch64-linux-gnu"
    cpu = "cortex-a55"
    features = ["neon", "dotprod"]
    cores = 4

``compiler`` and ``package`` name the C++ compiler and what brings it; they may be left out for a triple whose
compiler the table of toolchains has.

A table ``gpu`` makes it a target whose network runs on the board's GPU. A GPU of the table needs its name
alone; what else is given goes before the table's:

    [gpu]
    name = "mali-g57"
    max_threads = 256
"""

import difflib
import os
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from targets.errors import TargetError
from targets.gpu import Gpu
from targets.gpus import GPUS, TEXTURES_REFUSED
from targets.info import TargetInfo, Verified
from targets.toolchains import Toolchain, of_triple

SUFFIX = ".toml"
_NAME = r"^[a-z0-9][a-z0-9_.-]*$"
_LINE = r"^[^\p{Cc}\p{Zl}\p{Zp}]*$"
_TRIPLE = r"^(aarch64|arm|armv7|armv7a|armv7l|i686|riscv64|x86_64)(-[a-z0-9_.]+){1,3}$"
_WORD = r"^[a-z0-9][a-z0-9_.+-]*$"
_MOST_CORES = 1024
_MOST_THREADS = 4096
_MOST_LOCAL_BYTES = 1 << 24
_MOST_ARGUMENT_BYTES = 1 << 16
_NEEDED = ("kind", "max_threads", "local_bytes")

Word = Annotated[str, Field(pattern=_WORD)]
Line = Annotated[str, Field(pattern=_LINE)]


class BoardGpu(BaseModel):
    """The fields of a board's GPU."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(pattern=_NAME)
    description: Line | None = None
    kind: Literal["mali", "adreno", ""] | None = None
    max_threads: int | None = Field(default=None, ge=1, le=_MOST_THREADS)
    local_bytes: int | None = Field(default=None, ge=1, le=_MOST_LOCAL_BYTES)
    warp: int | None = Field(default=None, ge=1, le=_MOST_THREADS)
    units: int | None = Field(default=None, ge=1, le=_MOST_CORES)
    registers: int | None = Field(default=None, ge=1, le=_MOST_CORES)
    float16: bool | None = None
    opencl: str | None = Field(default=None, pattern=r"^[1-9]\.[0-9]$")
    max_argument_bytes: int | None = Field(default=None, ge=8, le=_MOST_ARGUMENT_BYTES)
    textures: bool = False


class Board(BaseModel):
    """The fields of such a file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(pattern=_NAME)
    description: Line = ""
    triple: str = Field(pattern=_TRIPLE)
    cpu: Word
    features: list[Word] = []
    cores: int = Field(ge=1, le=_MOST_CORES)
    clusters: Line = ""
    compiler: Line | None = None
    package: Line = ""
    gpu: BoardGpu | None = None


def folder() -> Path:
    """Return the folder of the user's own targets; it need not exist."""
    return platformdirs.user_config_path("deeprebirth") / "targets"


def files() -> list[Path]:
    """Return the files of the user's own targets in the order of their names."""
    return sorted(folder().glob(f"*{SUFFIX}"))


def read(path: Path) -> TargetInfo:
    """Read a target from a file; LLVM's names in it are not looked at.

    Raises
    ------
    TargetError
        If the file cannot be read or a field is wrong; the message names both.
    """
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise TargetError(f"cannot read the target {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise TargetError(f"{path} is not TOML: {_in_one_line(error)}") from None
    try:
        board = Board.model_validate(fields)
    except ValidationError as error:
        raise TargetError(f"{path}: {_first(error)}") from None
    toolchain = _toolchain(board, path)
    info = TargetInfo(
        name=board.name,
        description=board.description or board.name,
        triple=board.triple,
        cpu=board.cpu,
        cores=board.cores,
        device=board.description or board.name,
        compiler=toolchain.compiler,
        compiler_package=toolchain.package,
        features=tuple(board.features),
        clusters=board.clusters,
        family=toolchain.family,
        verified=Verified.NOT,
    )
    return info if board.gpu is None else replace(info, gpu=_gpu(board.gpu, path))


def _gpu(fields: BoardGpu, path: Path) -> Gpu:
    """Return the GPU of the file, which is the table's with what the file says otherwise."""
    if fields.textures:
        raise TargetError(f"{path}: gpu.textures: {TEXTURES_REFUSED}")
    given = fields.model_dump(exclude_none=True, exclude={"textures"})
    known = GPUS.get(fields.name)
    if known is not None:
        return replace(known, **given)
    missing = [name for name in _NEEDED if name not in given]
    if missing:
        near = difflib.get_close_matches(fields.name, GPUS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise TargetError(
            f"{path}: gpu.{missing[0]}: {fields.name} is not in the table{hint}, so this has to be there"
        )
    return Gpu(**{"description": fields.name} | given)


def _toolchain(board: Board, path: Path) -> Toolchain:
    """Return the compiler that the file names, or that of the triple; a path is relative to the file."""
    known = of_triple(board.triple)
    if board.compiler is None:
        if known is None:
            raise TargetError(
                f"{path}: compiler: none is known for {board.triple}: name the C++ compiler that links for it"
            )
        return known
    compiler = str(path.parent / board.compiler) if os.sep in board.compiler else board.compiler
    return Toolchain(known.family if known else board.triple, board.triple, compiler, board.package)


def _first(error: ValidationError) -> str:
    """Return the first thing that is wrong with a file, as ``field: what``."""
    wrong = error.errors()[0]
    field = ".".join(str(part) for part in wrong["loc"])
    if wrong["type"] == "extra_forbidden":
        inner = field.startswith("gpu.")
        near = difflib.get_close_matches(
            field.removeprefix("gpu."), (BoardGpu if inner else Board).model_fields, n=1
        )
        return f"{field!r}: there is no such field{f'; did you mean {near[0]}?' if near else ''}"
    if wrong["type"] == "missing":
        return f"{field}: this field has to be there"
    return f"{field}: {_in_one_line(wrong['msg'])}, not {wrong['input']!r}"


def _in_one_line(error: object) -> str:
    return " ".join(str(error).split())
