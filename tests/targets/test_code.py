"""The code for each target: its core has the instructions, and emulated it computes what torch does."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import tvm
import tvm_ffi
from tvm import te

import targets
from tuning.building.toolchain import check_toolchain
from tuning.intrinsics import import_cpu_intrinsics

ARM = [row for row in targets.all_targets() if row.name != "host" and row.gpu is None]
LINUX = [row for row in ARM if "Linux" in row.family]
ON_64_BITS = [row for row in ARM if row.triple.startswith("aarch64")]
IMAGE, WEIGHTS, OUTPUT = (1, 8, 8, 16), (3, 3, 16, 8), (1, 6, 6, 8)

# What QEMU 7.2 emulates instead of a core that it does not know: one that is as old or older.
EMULATED = {
    "generic": {"aarch64-linux-gnu": "cortex-a53", "armv7-linux-gnueabihf": "cortex-a9"},
    "cortex-a73": "cortex-a72",
    "cortex-a55": "cortex-a76",
    "cortex-a78": "cortex-a76",
    "cortex-a78ae": "cortex-a76",
    "carmel": "cortex-a76",
}


def name_of(row: targets.TargetInfo) -> str:
    return row.name


def convolution(dtype: str = "float32", *, power: bool = False) -> tvm.IRModule:
    """Make a 3x3 convolution, channels last, vectors over the output's channels, parallel over its rows.

    With ``power`` the outputs are raised to the 0.3, by a call of the C library.
    """
    image, weights = te.placeholder(IMAGE, dtype, "image"), te.placeholder(WEIGHTS, dtype, "weights")
    y, x, i = te.reduce_axis((0, 3)), te.reduce_axis((0, 3)), te.reduce_axis((0, 16))

    def summand(n, h, w, c):
        return te.sum(image[n, h + y, w + x, i] * weights[y, x, i, c], axis=[y, x, i])

    output = te.compute(OUTPUT, summand, name="convolved")
    arguments = [image, weights, output]
    if power:
        root = tvm.tirx.const(0.3, dtype)
        arguments[2] = te.compute(OUTPUT, lambda *at: te.power(te.abs(output(*at)), root), name="raised")
    schedule = tvm.s_tir.Schedule(te.create_prim_func(arguments))
    block = schedule.get_sblock("convolved")
    n, h, w, c, *reduced = schedule.get_loops(block)
    schedule.reorder(n, h, w, *reduced, c)
    schedule.vectorize(c)
    schedule.parallel(h)
    schedule.decompose_reduction(block, reduced[0])
    return schedule.mod


def assembly(row: targets.TargetInfo, dtype: str = "float32") -> str:
    return tvm.tirx.build(convolution(dtype), target=row.target()).inspect_source("asm")


@pytest.mark.parametrize("row", ARM, ids=name_of)
def test_a_convolution_has_vectors_of_floats(row: targets.TargetInfo) -> None:
    code = assembly(row)
    if row in ON_64_BITS:
        assert re.search(r"\sfmla\s+v\d+\.4s", code)
        assert not re.search(r"\sfmadd\s", code)
    else:
        assert re.search(r"\sv(mul|mla|fma)\.f32\s+q\d+", code)


@pytest.mark.parametrize("row", ON_64_BITS, ids=name_of)
def test_float16_has_its_arithmetic_where_the_row_says_so(row: targets.TargetInfo) -> None:
    in_halves = re.search(r"\sf(mla|mul)\s+v\d+\.[48]h", assembly(row, "float16"))
    assert bool(in_halves) is ("fullfp16" in row.features)


@pytest.mark.parametrize("row", [row for row in ARM if "dotprod" in row.features], ids=name_of)
def test_dot_products_of_int8_have_their_instruction(row: targets.TargetInfo) -> None:
    import_cpu_intrinsics()
    values, weights = te.placeholder((64,), "int8"), te.placeholder((4, 64), "int8")
    k = te.reduce_axis((0, 64))

    def summand(i):
        return te.sum(values[k].astype("int32") * weights[i, k].astype("int32"), axis=k)

    sums = te.compute((4,), summand, name="sums")
    schedule = tvm.s_tir.Schedule(te.create_prim_func([values, weights, sums]))
    block = schedule.get_sblock("sums")
    i, reduced = schedule.get_loops(block)
    outer, inner = schedule.split(reduced, [None, 4])
    schedule.reorder(outer, i, inner)
    schedule.decompose_reduction(block, outer)
    schedule.tensorize(i, "dot_4x4_i8i8s32_sdot")
    assert "\tsdot\t" in tvm.tirx.build(schedule.mod, target=row.target()).inspect_source("asm")


@pytest.mark.parametrize("row", LINUX, ids=name_of)
def test_code_for_it_runs_emulated_and_computes_right(row: targets.TargetInfo, tmp_path: Path) -> None:
    emulator = "qemu-aarch64" if row in ON_64_BITS else "qemu-arm"
    for program, package in ((emulator, "qemu-user"), (row.compiler, row.compiler_package)):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not here: install {package}")
    rng = np.random.default_rng(7)
    image, weights = (rng.standard_normal(shape).astype("float32") for shape in (IMAGE, WEIGHTS))
    program = link(row, tmp_path)
    core = EMULATED.get(row.cpu, row.cpu)
    core = core[row.triple] if isinstance(core, dict) else core
    done = subprocess.run(
        [emulator, "-cpu", core, str(program)],
        input=image.tobytes() + weights.tobytes(),
        capture_output=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    found = np.frombuffer(done.stdout, "float32").reshape(OUTPUT)
    np.testing.assert_allclose(found, in_torch(image, weights), rtol=1e-4, atol=1e-5)
    assert row.verified == targets.Verified.EMULATED


def test_android_is_compiled_only() -> None:
    assert {row.verified for row in ARM if row not in LINUX} == {targets.Verified.COMPILED}


@pytest.mark.parametrize("row", [targets.find("raspberry-pi-4"), targets.find("cortex-a7")], ids=name_of)
def test_the_toolchain_of_a_family_is_sound(row: targets.TargetInfo) -> None:
    if shutil.which(row.compiler) is None:
        pytest.skip(f"{row.compiler} is not here: install {row.compiler_package}")
    check_toolchain(row)


def link(row: targets.TargetInfo, folder: Path) -> Path:
    """Link the convolution's code into a program of its own."""
    code, program = folder / "convolution.o", folder / "Programm für Boards"
    tvm.tirx.build(convolution(power=True), target=row.target()).write_to_file(str(code))
    headers = Path(tvm_ffi.libinfo.find_include_path()), Path(tvm_ffi.libinfo.find_dlpack_include_path())
    source = Path(__file__).with_name("emulation.cpp")
    command = [row.require_compiler(), "-std=c++17", "-static", *(f"-I{path}" for path in headers)]
    subprocess.run([*command, str(source), str(code), "-o", str(program)], check=True, timeout=120)
    return program


def in_torch(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    convolved = torch.nn.functional.conv2d(
        torch.from_numpy(image).permute(0, 3, 1, 2), torch.from_numpy(weights).permute(3, 2, 0, 1)
    )
    return (convolved.abs() ** 0.3).permute(0, 2, 3, 1).numpy()
