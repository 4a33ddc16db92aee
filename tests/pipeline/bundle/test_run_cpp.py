"""The bundle's C++ example, built and run: here, emulated for aarch64, and compiled for armv7."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import tvm
from tvm import relax

from pipeline.bundle import Bundle, pack, verify_bundle
from pipeline.report.collect import target_of
from pipeline.report.model import FOR_TIMING_ONLY
from relay_passes.round_weights import rounded
from targets import TargetInfo, find
from targets.machine import core_count
from targets.runtime.opencl import OpenCLDevice
from tuning import compile_module

SECONDS = 300
# All cores: by itself TVM takes half of them on x86.
THREADS = core_count()
HOSTILE = '100 % "quoted" \\ ??/ größer\nsecond line \x1b[31m'
SHOWN = 'notice: 100 % "quoted" \\ ??/ größer second line  [31m'
SYSROOT = Path("/usr/aarch64-linux-gnu")
CORTEX_A72 = TargetInfo(
    name="cortex-a72",
    description="64-bit ARM",
    triple="aarch64-linux-gnu",
    cpu="cortex-a72",
    cores=2,
    compiler="aarch64-linux-gnu-g++",
    compiler_package="g++-aarch64-linux-gnu",
)
LIBRARIES = ("lib/libtvm_runtime.so", "lib/libtvm_ffi.so", "libtvm_runtime_opencl.so")
WARNINGS = "-Wall -Wextra -Werror"


@dataclass(frozen=True)
class Example:
    """The example, built for a bundle."""

    bundle: Bundle
    executable: Path
    emulator: tuple[str, ...] = ()

    def run(self, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        own = {key: value for key, value in os.environ.items() if not key.startswith("TVM_")}
        return subprocess.run(
            [*self.emulator, self.executable, *words],
            cwd=self.bundle.directory,
            env=own | environment,
            capture_output=True,
            encoding="utf-8",
            timeout=SECONDS,
        )


def call(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, encoding="utf-8", timeout=SECONDS)


def wheel_folders() -> list[Path]:
    return [Path(find_spec(name).submodule_search_locations[0]) for name in ("tvm", "tvm_ffi")]


def opencl_folder() -> Path:
    return Path(find_spec("targets.runtime.opencl").submodule_search_locations[0])


def build(bundle: Bundle, place: Path, homes: list[Path], compiler: str = "g++") -> Path:
    """Build the example with cmake, or where there is none with the compiler and the same flags."""
    place.mkdir()
    if shutil.which("cmake") is None:
        built = call(*direct_command(bundle, place, homes, compiler))
        assert built.returncode == 0, built.stderr
        return place / "run"
    cross = ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"] if compiler != "g++" else []
    configured = call(
        "cmake",
        *("-S", bundle.directory, "-B", place),
        f"-DTVM_HOME={';'.join(map(str, homes))}",
        f"-DCMAKE_CXX_COMPILER={compiler}",
        f"-DCMAKE_CXX_FLAGS={WARNINGS}",
        *cross,
    )
    assert configured.returncode == 0, configured.stderr
    built = call("cmake", "--build", place)
    assert built.returncode == 0, built.stdout + built.stderr
    return place / "run"


def direct_command(bundle: Bundle, place: Path, homes: list[Path], compiler: str) -> list[str | Path]:
    libraries = [home / name for home in homes for name in LIBRARIES if (home / name).exists()]
    return [
        *(compiler, "-O3", "-DNDEBUG", "-std=gnu++17", *WARNINGS.split()),
        *(word for home in homes for word in ("-isystem", home / "include")),
        *(bundle.directory / "run.cpp", "-o", place / "run", "-Wl,--no-as-needed"),
        *libraries,
        *(f"-Wl,-rpath,{path.parent}" for path in libraries),
    ]


@pytest.fixture(scope="session")
def write_compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Bundle]:
    """Write a bundle of a small network that our compiler made for a target."""
    from pipeline.bundle import write_bundle

    def write(module: tvm.IRModule, info: TargetInfo, golden: dict, **changes: object) -> Bundle:
        compiled = compile_module(module, info, None)
        facts = {
            "name": "small",
            "library": compiled.library,
            "weights": compiled.weights,
            "target": target_of(info, info.threads),
            "versions": {},
            "tuned_trials": 0,
            "records_applied": 0,
            "tolerance": 1e-4,
        }
        return write_bundle(tmp_path_factory.mktemp("Bündel") / "größe 1", **facts | golden | changes)

    return write


def small_network(arrays: dict) -> tuple[tvm.IRModule, dict]:
    """A convolution, ReLU and a pool, and its golden tensors as torch computes them."""
    kernel, bias = (relax.const(each) for each in arrays["weights"].values())
    data = arrays["golden_inputs"]["data"]
    builder = relax.BlockBuilder()
    image = relax.Var("data", relax.TensorType(data.shape, "float32"))
    with builder.function("main", [image]):
        with builder.dataflow():
            biased = relax.op.add(builder.emit(relax.op.nn.conv2d(image, kernel, padding=1)), bias)
            first = builder.emit(relax.op.nn.relu(builder.emit(biased)))
            result = builder.emit_output(relax.op.nn.max_pool2d(first, pool_size=2, strides=2))
        builder.emit_func_output(result)
    pooled = torch.nn.functional.max_pool2d(torch.from_numpy(arrays["golden_outputs"]["relu"]), 2)
    return builder.get(), {"golden_inputs": {"data": data}, "golden_outputs": {"pool": pooled.numpy()}}


@pytest.fixture(scope="session")
def example(
    write_compiled: Callable[..., Bundle], arrays: dict, tmp_path_factory: pytest.TempPathFactory
) -> Example:
    module, golden = small_network(arrays)
    notices = [FOR_TIMING_ONLY, HOSTILE]
    target = find("host").with_threads(THREADS)
    bundle = write_compiled(module, target, golden, structure_only=True, notices=notices)
    return Example(bundle, build(bundle, tmp_path_factory.mktemp("bau") / "größe 1", wheel_folders()))


@pytest.fixture(scope="session", params=["opencl", "mali-g76+host"])
def on_opencl(
    request: pytest.FixtureRequest,
    opencl: OpenCLDevice,
    write_compiled: Callable[..., Bundle],
    arrays: dict,
    tmp_path_factory: pytest.TempPathFactory,
) -> Example:
    module, golden = small_network(arrays)
    bundle = write_compiled(module, find(request.param), golden)
    place = tmp_path_factory.mktemp("bau") / "größe 1"
    return Example(bundle, build(bundle, place, [*wheel_folders(), opencl_folder()]))


def test_the_golden_output_is_computed_through_opencl(on_opencl: Example, opencl: OpenCLDevice):
    run = on_opencl.run(on_opencl.bundle.directory, "3")
    assert (run.returncode, run.stderr) == (0, "")
    assert difference_in(run.stdout) <= 1e-4
    where = run.stdout.splitlines()[-1].partition(" ms on ")[2]
    assert ", OpenCL " in where
    if "pocl" in opencl.version.lower():
        assert where.startswith("PoCL on ")
        stands_in = on_opencl.bundle.manifest.target.name != "opencl"
        assert ("in place of Mali-G76, emulated" in where) == stands_in


def test_a_machine_without_opencl_is_told(on_opencl: Example, tmp_path: Path):
    hidden = {"OCL_ICD_VENDORS": str(tmp_path), "OCL_ICD_FILENAMES": ""}
    run = on_opencl.run(".", "1", **hidden)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == "error: there is no OpenCL device here: install the driver of the GPU\n"
    python = subprocess.run(
        [sys.executable, "load_and_run.py"],
        cwd=on_opencl.bundle.directory,
        env=os.environ | hidden,
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
    )
    assert (python.returncode, python.stdout) == (1, "")
    assert python.stderr.splitlines()[-1].startswith("error: there is no opencl device here")


def test_a_bundle_for_opencl_verifies_in_a_fresh_process(on_opencl: Example):
    assert verify_bundle(on_opencl.bundle.directory) <= 1e-4
    text = (on_opencl.bundle.directory / "README.txt").read_text("utf-8")
    assert "libtvm_runtime_opencl.so" in text
    gpu = find(on_opencl.bundle.manifest.target.name).gpu
    assert f"{gpu.max_threads} work items" in text
    assert gpu.description in text
    assert "TVM_NUM_THREADS" not in text


def difference_in(output: str) -> float:
    line = next(line for line in output.splitlines() if line.startswith("largest difference"))
    return float(line.partition(": ")[2].partition(",")[0])


def test_the_golden_output_is_computed(example: Example):
    run = example.run(example.bundle.directory, "3")
    assert (run.returncode, run.stderr) == (0, "")
    assert difference_in(run.stdout) <= 1e-4
    last = run.stdout.splitlines()[-1]
    assert last.startswith("median time of 3 runs: ")
    assert last.endswith(f"{os.uname().sysname} {os.uname().machine}, {THREADS} thread{'s' * (THREADS > 1)}")


def test_notices_come_first(example: Example):
    assert example.run().stdout.splitlines()[:2] == [f"notice: {FOR_TIMING_ONLY}", SHOWN]


def test_threads_given_by_the_user_count(example: Example):
    assert example.run(".", "1", TVM_NUM_THREADS="1").stdout.rstrip().endswith(", 1 thread")


def flip(path: Path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def cut(path: Path):
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path):
    os.truncate(path, 0)


@pytest.mark.parametrize("damage", [flip, cut, empty, os.unlink])
@pytest.mark.parametrize("name", ["library.so", "weights.params", "golden.params"])
def test_a_damaged_file_is_told(example: Example, name: str, damage: Callable, tmp_path: Path):
    copy = shutil.copytree(example.bundle.directory, tmp_path / "beschädigt")
    damage(copy / name)
    run = example.run(copy)
    assert run.returncode == 1
    assert run.stderr.startswith(f"error: {name} ")
    assert len(run.stderr.splitlines()) == 1
    assert "median" not in run.stdout


def test_a_folder_that_is_no_bundle(example: Example, tmp_path: Path):
    run = example.run(tmp_path)
    assert (run.returncode, len(run.stderr.splitlines())) == (1, 1)
    assert "name the bundle's folder" in run.stderr


@pytest.mark.parametrize("words", [(".", "0"), (".", "-1"), (".", "x"), (".", ""), (".", "2", "3")])
def test_wrong_use(example: Example, words: tuple[str, ...]):
    run = example.run(*words)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("usage: ")


def test_not_a_number_is_a_difference(write: Callable[..., Bundle], arrays: dict, tmp_path: Path):
    wrong = arrays["golden_outputs"]["conv"].copy()
    wrong[0, 1, 2, 3] = np.nan
    golden = arrays["golden_outputs"] | {"conv": wrong}
    bundle = write(tmp_path / "bundle", golden_outputs=golden, tolerance=1e9)
    run = Example(bundle, build(bundle, tmp_path / "build", wheel_folders())).run()
    assert run.returncode == 1
    assert np.isnan(difference_in(run.stdout))
    assert "median" not in run.stdout


def every_type() -> dict[str, np.ndarray]:
    halves = np.arange(1 << 16, dtype="uint16").view("float16")
    values = {"float16": halves[np.isfinite(halves)], "bool": np.array([True, False])}
    for name in ("int8", "uint8", "int32", "int64"):
        limits = np.iinfo(name)
        values[name] = np.array([limits.min >> 11, -1 & limits.max, 7], name)
    for name in ("float32", "float64"):
        values[name] = np.array([-1.5, np.finfo(name).max, np.finfo(name).tiny], name)
    return values


def test_a_small_difference_among_all_types_and_many_tensors(
    write_compiled: Callable[..., Bundle], tmp_path: Path
):
    """Outputs are the inputs, compared with them as NumPy widens them; one number is off by 2**-30."""
    given = every_type() | {f"more {index}": np.full(index + 1, index, "float32") for index in range(5)}
    builder = relax.BlockBuilder()
    inputs = [
        relax.Var(f"x{index}", relax.TensorType(each.shape, str(each.dtype)))
        for index, each in enumerate(given.values())
    ]
    with builder.function("main", inputs):
        with builder.dataflow():
            last = builder.emit_output(relax.op.nn.relu(inputs[-1]))
        builder.emit_func_output(relax.Tuple([*inputs[:-1], last]))
    golden = {name: each.astype("float64") for name, each in given.items()}
    golden["float64"][0] += 2.0**-30
    bundle = write_compiled(
        builder.get(), find("host"), {"golden_inputs": given, "golden_outputs": golden}, tolerance=2.0**-31
    )
    run = Example(bundle, build(bundle, tmp_path / "build", wheel_folders())).run()
    assert (run.returncode, run.stderr) == (1, "")
    assert difference_in(run.stdout) == pytest.approx(2.0**-30, rel=1e-8, abs=0)
    assert "NOT at most" in run.stdout
    assert "median" not in run.stdout


def int8_network() -> tuple[tvm.IRModule, dict]:
    """Adds weights of both types, of all sizes, to its inputs, and so returns them where these are zero."""
    generator = np.random.default_rng(0)
    sizes = np.exp2(np.linspace(-11, 8, 24)).reshape(24, 1, 1)
    weights = [
        rounded((generator.standard_normal((24, 5, 70)) * sizes).astype(dtype), 0)
        for dtype in ("float32", "float16")
    ]
    weights = [each.transpose(order) for each, order in zip(weights, [(1, 0, 2), (2, 1, 0)], strict=True)]
    zeros = [np.zeros_like(each) for each in weights]
    builder = relax.BlockBuilder()
    inputs = [
        relax.Var(f"x{index}", relax.TensorType(each.shape, str(each.dtype)))
        for index, each in enumerate(weights)
    ]
    with builder.function("main", inputs):
        with builder.dataflow():
            pairs = zip(inputs, weights, strict=True)
            sums = [builder.emit_output(relax.op.add(each, relax.const(weight))) for each, weight in pairs]
        builder.emit_func_output(relax.Tuple(sums))
    return builder.get(), {
        "golden_inputs": {f"x{index}": each for index, each in enumerate(zeros)},
        "golden_outputs": {f"w{index}": each for index, each in enumerate(weights)},
    }


def write_int8(write_compiled: Callable[..., Bundle], info: TargetInfo, **changes: object) -> Bundle:
    module, golden = int8_network()
    stored = pack(
        {f"weight_{index:05d}": each for index, each in enumerate(golden["golden_outputs"].values())}
    )
    bundle = write_compiled(module, info, golden, stored=stored, tolerance=1e-40, **changes)
    assert bundle.manifest.int8_weights == ("weight_00000", "weight_00001")
    return bundle


def test_int8_weights_are_multiplied_to_the_very_same_numbers(
    write_compiled: Callable[..., Bundle], tmp_path: Path
):
    bundle = write_int8(write_compiled, find("host"))
    run = Example(bundle, build(bundle, tmp_path / "build", wheel_folders())).run(".", "1")
    assert (run.returncode, run.stderr) == (0, "")
    assert difference_in(run.stdout) == 0
    assert verify_bundle(bundle.directory) == 0


@pytest.fixture
def cmake() -> str:
    path = shutil.which("cmake")
    return path or pytest.skip("needs cmake (Debian package cmake)")


def test_the_pip_packages_are_found(example: Example, cmake: str, tmp_path: Path):
    python = f"-DPython3_EXECUTABLE={sys.executable}"
    configured = call(cmake, "-S", example.bundle.directory, "-B", tmp_path / "b", python)
    assert configured.returncode == 0, configured.stderr
    cache = (tmp_path / "b" / "CMakeCache.txt").read_text(encoding="utf-8")
    assert all(f"{folder}/lib/lib{folder.name}" in cache for folder in wheel_folders())


def test_a_folder_without_the_runtime(example: Example, cmake: str, tmp_path: Path):
    configured = call(cmake, "-S", example.bundle.directory, "-B", tmp_path / "b", f"-DTVM_HOME={tmp_path}")
    assert configured.returncode != 0
    assert "is not TVM's runtime" in " ".join(configured.stderr.split())


@pytest.fixture(scope="session")
def aarch64_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with include/ and lib/ of the aarch64 wheels, as a board's runtime has."""
    place = tmp_path_factory.mktemp("aarch64 wheels")
    wanted = [f"{name}=={metadata.version(name)}" for name in ("apache-tvm", "apache-tvm-ffi")]
    fetched = call(
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
        *("--only-binary=:all:", "--platform", "manylinux_2_28_aarch64", "--python-version", "3.11"),
        *("--dest", place, *wanted),
    )
    if fetched.returncode:
        pytest.skip(f"the aarch64 wheels cannot be fetched: {fetched.stderr.strip().splitlines()[-1]}")
    home = place / "Gerät"
    for wheel in place.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                _, _, inside = member.filename.partition("/")
                if not member.is_dir() and (inside.startswith("include/") or inside in LIBRARIES):
                    (home / inside).parent.mkdir(parents=True, exist_ok=True)
                    (home / inside).write_bytes(archive.read(member))
    return home


@pytest.fixture(scope="session")
def emulator() -> tuple[str, ...]:
    for program, package in (
        (CORTEX_A72.compiler, CORTEX_A72.compiler_package),
        ("qemu-aarch64", "qemu-user"),
    ):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program} (Debian package {package})")
    return ("qemu-aarch64", "-cpu", "cortex-a72", "-L", str(SYSROOT))


def test_emulated_cortex_a72(
    emulator: tuple[str, ...],
    aarch64_home: Path,
    write_compiled: Callable[..., Bundle],
    arrays: dict,
    tmp_path: Path,
):
    module, golden = small_network(arrays)
    bundle = write_compiled(module, CORTEX_A72, golden)
    executable = build(bundle, tmp_path / "build", [aarch64_home], CORTEX_A72.compiler)
    run = Example(bundle, executable, emulator).run(".", "2")
    assert (run.returncode, run.stderr) == (0, "")
    assert difference_in(run.stdout) <= 1e-4
    assert "Linux aarch64, 2 threads, emulated" in run.stdout.splitlines()[-1]


def test_int8_weights_on_an_emulated_cortex_a72(
    emulator: tuple[str, ...], aarch64_home: Path, write_compiled: Callable[..., Bundle], tmp_path: Path
):
    bundle = write_int8(write_compiled, CORTEX_A72)
    executable = build(bundle, tmp_path / "build", [aarch64_home], CORTEX_A72.compiler)
    run = Example(bundle, executable, emulator).run(".", "1")
    assert (run.returncode, run.stderr) == (0, "")
    assert difference_in(run.stdout) == 0


def test_an_instruction_that_the_device_lacks(
    emulator: tuple[str, ...],
    aarch64_home: Path,
    write_compiled: Callable[..., Bundle],
    tmp_path: Path,
):
    """Arithmetic of halves is an instruction of the Cortex-A76 that the Cortex-A72 does not have."""
    newer = TargetInfo(
        name="cortex-a76",
        description="64-bit ARM",
        triple=CORTEX_A72.triple,
        cpu="cortex-a76",
        cores=1,
        compiler=CORTEX_A72.compiler,
    )
    values = np.ones(16, "float16")
    builder = relax.BlockBuilder()
    data = relax.Var("data", relax.TensorType(values.shape, "float16"))
    with builder.function("main", [data]):
        with builder.dataflow():
            result = builder.emit_output(relax.op.add(data, data))
        builder.emit_func_output(result)
    golden = {"golden_inputs": {"data": values}, "golden_outputs": {"sum": values + values}}
    bundle = write_compiled(builder.get(), newer, golden)
    executable = build(bundle, tmp_path / "build", [aarch64_home], CORTEX_A72.compiler)
    run = Example(bundle, executable, emulator).run()
    assert run.returncode == 1
    assert run.stderr.startswith("error: this processor lacks an instruction that library.so uses")


def test_compiles_for_armv7(example: Example, tmp_path: Path):
    compiler = "arm-linux-gnueabihf-g++"
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler} (Debian package g++-arm-linux-gnueabihf)")
    compiled = call(
        *(compiler, "-O0", "-std=gnu++17", "-Wno-psabi", *WARNINGS.split(), "-c"),
        *(word for home in wheel_folders() for word in ("-isystem", home / "include")),
        *(example.bundle.directory / "run.cpp", "-o", tmp_path / "run.o"),
    )
    assert compiled.returncode == 0, compiled.stderr
    header = (tmp_path / "run.o").read_bytes()[:20]
    assert (header[4], header[18]) == (1, 40), "ELF of 32 bits for ARM"
