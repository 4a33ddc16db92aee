"""The folder for a board, made once, and the board: qemu with the instructions of a Cortex-A72.

Besides, an OpenCL device, which is PoCL's, and modules of kernels for it.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import tvm
import tvm_ffi
from tvm import te
from tvm.script import tirx as T

import targets
import tuning
from targets.runtime import Packed, opencl, pack
from targets.runtime.tvm_runtime import LIBRARIES, TvmRuntime
from tuning import RpcConfig
from tuning.building.candidate import Recipe
from tuning.devices import tracker

BOARD = "raspberry-pi-4"
QEMU = ("qemu-aarch64", "-cpu", "cortex-a72", "-L", "/usr/aarch64-linux-gnu")
WAIT_SECONDS = 120.0


@T.prim_func(s_tir=True)
def doubling(values: T.Buffer((16,), "float32"), doubled: T.Buffer((16,), "float32")):
    T.func_attr({"global_symbol": "doubling"})
    for i in range(16):
        with T.sblock("doubled"):
            at = T.axis.spatial(16, i)
            doubled[at] = values[at] * T.float32(2)


@T.prim_func(s_tir=True)
def sleeping(seconds: T.int32):
    T.func_attr({"global_symbol": "sleeping"})
    T.evaluate(T.call_extern("int32", "sleep", seconds))


@T.prim_func(s_tir=True)
def halves(values: T.Buffer((16,), "float16"), doubled: T.Buffer((16,), "float16")):
    T.func_attr({"global_symbol": "halves"})
    for i in range(16):
        with T.sblock("doubled"):
            at = T.axis.spatial(16, i)
            doubled[at] = values[at] + values[at]


@dataclass
class Board:
    """A board's server that runs, and what it said."""

    process: subprocess.Popen[str]
    config: RpcConfig
    folder: Path

    def take(self, seconds: float = 600) -> tracker.Lease:
        return tracker.request(self.config, WAIT_SECONDS, seconds, WAIT_SECONDS)

    def session_folders(self) -> list[Path]:
        return list(self.folder.glob("deeprebirth-*/*"))

    def says(self, pattern: str) -> str:
        """Read its lines until one has the pattern; pytest's time-out is the bound."""
        for line in self.process.stderr:
            if re.search(pattern, line):
                return line
        raise AssertionError(f"ended without saying {pattern!r}")


@pytest.fixture(scope="session")
def board_target() -> targets.TargetInfo:
    """The target of the emulated board, on the cores that this machine has."""
    target = targets.find(BOARD)
    for program, package in ((QEMU[0], "qemu-user"), (target.compiler, target.compiler_package)):
        if shutil.which(program) is None:
            pytest.skip(f"needs the package {package}")
    return replace(target, cores=2)


@pytest.fixture(scope="session")
def packed(board_target: targets.TargetInfo, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Packed]:
    folder = tmp_path_factory.mktemp("Ordner für ein Brett")
    return folder, pack(board_target, folder, "brett")


@pytest.fixture(scope="session")
def library(board_target: targets.TargetInfo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Functions for the board."""
    functions = {each.attrs["global_symbol"]: each for each in (doubling, sleeping)}
    return build(board_target, functions, tmp_path_factory.mktemp("library") / "functions.so")


def build(target: targets.TargetInfo, functions: dict[str, tvm.tirx.PrimFunc], path: Path) -> Path:
    recipe = Recipe.of(target, target.require_compiler())
    built = tvm.tirx.build(tvm.IRModule(functions), target=tvm.ir.load_json(recipe.target))
    built.export_library(str(path), fcompile=tvm.support.cc.cross_compiler(recipe.compiler))
    return path


@pytest.fixture(scope="session")
def newer_library(board_target: targets.TargetInfo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A function with arithmetic in float16, which a Cortex-A72 lacks."""
    newer = replace(targets.find("cortex-a76"), cores=1)
    return build(newer, {"halves": halves}, tmp_path_factory.mktemp("newer") / "newer.so")


@pytest.fixture(scope="session")
def own_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A function for this machine, which the board is not."""
    return build(targets.find("host"), {"doubling": doubling}, tmp_path_factory.mktemp("own") / "own.so")


@pytest.fixture(scope="session")
def a_tracker() -> Iterator[RpcConfig]:
    with tuning.LocalSession(targets.find("host")) as session:
        yield session.rpc_config


@pytest.fixture(scope="session")
def start_board(
    packed: tuple[Path, Packed], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[RpcConfig, str], AbstractContextManager[Board]]:
    """Start a board's server as long as a ``with`` block, registered at a tracker under a key."""

    @contextmanager
    def started(
        at: RpcConfig, key: str, scratch: Path | None = None, folder: Path | None = None
    ) -> Iterator[Board]:
        scratch = scratch or tmp_path_factory.mktemp("scratch ü")
        command = [*QEMU, str((folder or packed[0]) / "bin/deeprebirth-server")]
        command += ["--tracker", f"{at.host}:{at.port}", "--key", key, "--threads", "2"]
        environment = os.environ | {"TMPDIR": str(scratch)}
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
            try:
                yield Board(process, RpcConfig(at.host, at.port, key), scratch)
            finally:
                process.kill()

    return started


@pytest.fixture(scope="session")
def board(a_tracker: RpcConfig, start_board) -> Iterator[Board]:
    with start_board(a_tracker, "brett-ä") as started:
        tracker.wait_for_device(started.config, WAIT_SECONDS)
        yield started


@pytest.fixture(scope="session")
def run_server(packed: tuple[Path, Packed]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the server with the words of a command line that it does not serve with."""
    command = [*QEMU, str(packed[0] / "bin/deeprebirth-server")]
    return lambda *words: subprocess.run(
        [*command, *words], capture_output=True, text=True, timeout=WAIT_SECONDS
    )


@pytest.fixture(scope="session")
def own_runtime() -> TvmRuntime:
    """The headers of the installed TVM, whose libraries are for this machine."""
    places = Path(tvm.__file__).parent, Path(tvm_ffi.__file__).parent
    headers = (places[0] / "include", places[1] / "include", places[1] / "3rdparty/dlpack/include")
    return TvmRuntime(
        headers, tuple(next(places[0].parent.rglob(f"tvm*/**/{name}")) for name in LIBRARIES), ()
    )


@pytest.fixture(scope="session")
def needs_opencl() -> None:
    if not opencl.is_built():
        pytest.skip("needs the package opencl-c-headers when deeprebirth is installed")
    try:
        listed = opencl.listing()
    except opencl.NoDevice:
        pytest.skip("needs the package pocl-opencl-icd")
    if "PoCL" not in listed.chosen.version:
        pytest.skip("is for PoCL")


@pytest.fixture(scope="session")
def device(needs_opencl: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tvm.runtime.Device]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEEPREBIRTH_OPENCL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield tvm.opencl(0)


def opencl_target() -> tvm.target.Target:
    return tvm.target.Target({"kind": "opencl"}, host={"kind": "llvm"})


def affine_library(dtype: str, size: int, items: int = 50) -> tvm.runtime.Executable:
    """Three times a tensor, and two."""
    values = te.placeholder((size,), dtype)
    result = te.compute((size,), lambda i: values[i] * tvm.tirx.const(3, dtype) + tvm.tirx.const(2, dtype))
    schedule = tvm.s_tir.Schedule(te.create_prim_func([values, result]))
    (loop,) = schedule.get_loops(schedule.get_sblock("compute"))
    groups, inner = schedule.split(loop, [None, items])
    schedule.bind(groups, "blockIdx.x")
    schedule.bind(inner, "threadIdx.x")
    return tvm.compile(schedule.mod, opencl_target())


@pytest.fixture(scope="session")
def affine() -> Callable[..., tvm.runtime.Executable]:
    return affine_library


TENSOR = (3, 64, 1)
"""The code, bits and lanes of a tensor's address among arguments."""


def module_bytes(source: str, kernel: str, arguments: list[tuple[int, int, int]], launch: list[str]) -> bytes:
    """Write a module of one kernel as TVM's compiler does."""

    def number(value: int) -> bytes:
        return value.to_bytes(8, "little")

    def text(value: str) -> bytes:
        return number(len(value.encode())) + value.encode()

    types = (bytes([code, bits]) + lanes.to_bytes(2, "little") for code, bits, lanes in arguments)
    extra = (bytes(4) for _ in arguments)
    parts = (text("cl"), number(1), text(kernel), text(kernel), number(len(arguments)), *types)
    launches = (number(len(launch)), *map(text, launch), number(len(arguments)), *extra)
    return b"".join((*parts, *launches, text(source)))


def opencl_module(
    source: str,
    kernel: str,
    arguments: list[tuple[int, int, int]],
    launch: tuple[str, ...] = ("blockIdx.x", "threadIdx.x"),
) -> tvm.runtime.Module:
    load = tvm.get_global_func("ffi.Module.load_from_bytes.opencl")
    return load(module_bytes(source, kernel, arguments, [*launch]))


@pytest.fixture(scope="session")
def make_module() -> Callable[..., tvm.runtime.Module]:
    return opencl_module


@pytest.fixture(scope="session")
def write_module() -> Callable[..., bytes]:
    return module_bytes
