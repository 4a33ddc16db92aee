"""Instructions counted in loops whose numbers are known, in the assembly and as executed under qemu."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import tvm
from arm_codegen import TARGET, summary
from codegen.counting import Executing, statically
from codegen.emulation import EmulationError, Emulator, link_sources, missing
from codegen.instructions import read_assembly, read_disassembly
from codegen.kernels import Convolution, heaviest, plain, untuned
from codegen.loops import Counts, count, inner_loop, inner_loops
from googlenet import googlenet
from tvm import relax

import pipeline
from pipeline.merging import MergeRequest, merge_network

ROOT = Path(__file__).parents[2]
PHONE = tvm.target.Target(TARGET)
emulated = pytest.mark.skipif(missing() is not None, reason=f"tools are missing: {missing()}")

NESTED = """
        .text
        .globl  nested
nested:                                 // @nested
        movi    v0.2d, #0000000000000000
        mov     x9, #5                  ; outer
.outer:
        mov     x8, #100
.inner: subs    x8, x8, #1
        fmla    v0.4s, v1.4s, v2.s[0]
        fmla    v3.2s, v1.2s, v2.2s
        fmadd   s4, s5, s6, s4
        fadd    v3.2s, v3.2s, v7.2s
        b.ne    .inner
        fmul    s4, s4, s4
        subs    x9, x9, #1
        b.ne    .outer
        ret
"""

TWO = """
two:
.first: fmul    v0.4s, v1.4s, v2.4s
        cbnz    w0, .done
        fmadd   s0, s1, s2, s3
        tbnz    w1, #3, .first
.again: ldr     q1, [x2], #16
        str     q1, [x3], #16
        subs    x4, x4, #1
        bne     .again
.done:  ret
"""

NEWER = """
        .arch   armv8.2-a+dotprod
        .globl  main
main:   sdot    v0.4s, v1.16b, v2.16b
        ret
"""

DISASSEMBLY = """
program:     file format elf64-littleaarch64


Disassembly of section .text:

0000000000400100 <main>:
  400100:\t1e211800 \tfmul\ts0, s0, s1
  400104:\t17ffffff \tb\t400100 <main>

0000000000400200 <kernel>:
  400200:\t4f811040 \tfmla\tv0.4s, v2.4s, v1.s[0]
  400204:\tf1000508 \tsubs\tx8, x8, #0x1
  400208:\t54ffffc1 \tb.ne\t400200 <kernel>  // b.any
  40020c:\td65f03c0 \tret
"""


@pytest.mark.parametrize(
    ("line", "in_vectors", "in_scalars"),
    [
        ("fmla v0.4s, v1.4s, v2.s[1]", 4, 0),
        ("fmls v31.2s, v1.2s, v2.2s", 2, 0),
        ("fmla v0.8h, v1.8h, v2.8h", 8, 0),
        ("fmul v0.4s, v1.4s, v2.4s", 4, 0),
        ("fmadd s0, s1, s2, s3", 0, 1),
        ("fmul s0, s1, s2", 0, 1),
        ("fmla s0, s1, v2.s[3]", 0, 1),
        ("fadd v0.4s, v1.4s, v2.4s", 0, 0),
        ("madd x0, x1, x2, x3", 0, 0),
        ("mul v0.4s, v1.4s, v2.4s", 0, 0),
        ("fmov v0.4s, #1.00000000", 0, 0),
        ("ldp q0, q1, [x0, #32]", 0, 0),
    ],
)
def test_an_instruction_does_so_many_multiply_adds(line: str, in_vectors: int, in_scalars: int) -> None:
    counts = count(read_assembly(f"\t{line}\n"))
    assert (counts.instructions, counts.in_vectors, counts.in_scalars) == (1, in_vectors, in_scalars)


@pytest.mark.parametrize(
    ("line", "moved"),
    [
        ("ldr q1, [x2], #16", 16),
        ("ldur d1, [x2, #-8]", 8),
        ("ldp q0, q1, [x0, #32]", 32),
        ("ldnp q0, q1, [x0]", 32),
        ("stp x29, x30, [sp, #-16]!", 16),
        ("str wzr, [x0]", 4),
        ("str s0, [x0, x1, lsl #2]", 4),
        ("ldrb w0, [x1]", 1),
        ("ldursh w0, [x1]", 2),
        ("ldrsw x0, [x1]", 4),
        ("ldpsw x0, x1, [x2]", 8),
        ("ld1 { v0.4s, v1.4s }, [x0]", 32),
        ("ld1 {v30.4s-v1.4s}, [x0], #64", 64),
        ("st1 {v0.s}[1], [x0]", 4),
        ("ld1r {v0.4s}, [x0]", 4),
        ("ld2 {v0.8h, v1.8h}, [x0]", 32),
        ("ldaxr x0, [x1]", 8),
        ("stlr w0, [x1]", 4),
        ("prfm pldl1keep, [x0]", 0),
        ("mov x0, x1", 0),
        ("fmla v0.4s, v1.4s, v2.s[1]", 0),
    ],
)
def test_an_instruction_moves_so_many_bytes(line: str, moved: int) -> None:
    assert count(read_assembly(f"\t{line}\n")).moved_bytes == moved


def test_the_inner_of_two_nested_loops() -> None:
    code = read_assembly(NESTED)
    (loop,) = inner_loops(code)
    assert count(code) == Counts(13, 6, 2)
    assert (loop.first, loop.last, loop.depth) == (3 * 4, 8 * 4, 1)
    assert count(loop.body) == Counts(6, 6, 1)
    assert count(loop.body).vector_share == pytest.approx(6 / 7)
    assert inner_loop(code) == loop


def test_of_several_loops_that_which_multiplies_and_adds_or_that_which_ran_most() -> None:
    code = read_assembly(TWO)
    first, second = inner_loops(code)
    assert count(first.body) == Counts(4, 4, 1)
    assert count(second.body) == Counts(4, 0, 0, 32)
    assert inner_loop(code) == first
    assert inner_loop(code, lambda address: 9 if address >= second.first else 1) == second
    assert count(second.body).vector_share == 0


def test_code_without_a_loop_has_none() -> None:
    assert inner_loop(read_assembly("straight:\n\tfmadd s0, s1, s2, s3\n\tb .end\n.end:\n\tret\n")) is None


def test_the_named_functions_of_a_disassembly_are_read() -> None:
    code = read_disassembly(DISASSEMBLY, ["kernel"])
    assert [each.address for each in code] == [0x400200, 0x400204, 0x400208, 0x40020C]
    assert [each.jumps_to for each in code] == [None, None, 0x400200, None]
    assert count(inner_loop(code).body) == Counts(3, 4, 0)


@emulated
def test_what_is_executed_under_qemu(tmp_path: Path) -> None:
    folder = tmp_path / "größe, and a space"
    folder.mkdir()
    kernel, caller = folder / "nested.s", folder / "caller.c"
    kernel.write_text(NESTED.replace(";", "//"))
    caller.write_text(
        "void nested(void);\nint main(int count, char **words) { while (--count) nested(); return 0; }\n"
    )
    compiled = folder / "nested.o"
    subprocess.run(["aarch64-linux-gnu-gcc", "-c", "-o", compiled, kernel], check=True, timeout=60)
    program = link_sources([caller, compiled], folder / "program", compiled)
    emulator = Emulator(folder, "cortex-a72")
    once, thrice = (emulator.run(program.path, ["call"] * calls) for calls in (1, 3))
    inner, outer, ends = 5 * 100, 5, 1
    wanted = Counts(6 * inner + 4 * outer + 3 * ends, 6 * inner, inner + outer)
    assert count(program.code, once.runs.__getitem__) == wanted
    assert count(program.code, thrice.runs.__getitem__).instructions == 3 * wanted.instructions
    start_up = 0.01
    assert thrice.instructions - once.instructions == pytest.approx(2 * wanted.instructions, rel=start_up)
    loop = inner_loop(program.code, once.runs.__getitem__)
    assert count(loop.body, once.runs.__getitem__) == Counts(6 * inner, 6 * inner, inner)


@emulated
def test_a_program_that_fails_is_told_in_a_line(tmp_path: Path) -> None:
    source = tmp_path / "newer.s"
    source.write_text(NEWER)
    compiled = tmp_path / "newer.o"
    subprocess.run(["aarch64-linux-gnu-gcc", "-c", "-o", compiled, source], check=True, timeout=60)
    program = link_sources([compiled], tmp_path / "program", compiled)
    emulator = Emulator(tmp_path, "cortex-a72")
    with pytest.raises(EmulationError, match=r"^qemu-aarch64: .*(-4|Illegal instruction)[^\n]*$"):
        emulator.run(program.path)
    with pytest.raises(EmulationError, match=r"^aarch64-linux-gnu-gcc: [^\n]+$"):
        link_sources([tmp_path / "none.s"], tmp_path / "program", compiled)


@pytest.fixture(scope="module")
def small() -> Convolution:
    """The heavier of two convolutions: 16x9x9 to 32x9x9, 3x3."""
    builder = relax.BlockBuilder()
    image = relax.Var("image", relax.TensorType((1, 16, 9, 9), "float32"))
    with builder.function("main", [image], attrs={"num_input": 1}):
        with builder.dataflow():
            y = builder.emit(relax.op.nn.conv2d(image, _ones(32, 16, 3, 3), padding=1))
            y = builder.emit(relax.op.nn.relu(builder.emit(relax.op.add(y, _ones(1, 32, 1, 1)))))
            result = builder.emit_output(builder.emit(relax.op.nn.conv2d(y, _ones(4, 32, 1, 1))))
        builder.emit_func_output(result)
    first, second = heaviest(builder.get(), PHONE, 10)
    assert second.weight == (4, 32, 1, 1)
    assert heaviest(builder.get(), PHONE, 1)[0].name == first.name
    return first


def _ones(*shape: int) -> relax.Expr:
    return relax.const(np.ones(shape, "float32"))


def _network(image: tuple[int, ...], weight: relax.Expr, **attributes: int) -> tvm.IRModule:
    """Return a network of one convolution with a bias."""
    builder = relax.BlockBuilder()
    given = relax.Var("image", relax.TensorType(image, "float32"))
    with builder.function("main", [given], attrs={"num_input": 1}):
        with builder.dataflow():
            y = builder.emit(relax.op.nn.conv2d(given, weight, **attributes))
            bias = _ones(1, int(weight.ty.shape[0]), 1, 1)
            result = builder.emit_output(builder.emit(relax.op.add(y, bias)))
        builder.emit_func_output(result)
    return builder.get()


@pytest.mark.parametrize(
    ("image", "weight", "attributes"),
    [
        ((1, 5, 11, 13), (7, 5, 3, 3), {"padding": 1, "strides": 2}),
        ((2, 3, 9, 7), (10, 3, 1, 1), {}),
        ((1, 6, 8, 8), (9, 2, 3, 3), {"groups": 3}),
        ((1, 8, 8, 8), (8, 1, 3, 3), {"groups": 8}),
    ],
)
def test_any_convolution_is_paired_with_what_is_tuned(
    image: tuple[int, ...], weight: tuple[int, ...], attributes: dict[str, int]
) -> None:
    (found,) = heaviest(_network(image, _ones(*weight), **attributes), PHONE, 10)
    assert (found.image, found.weight) == (image, weight)
    without, with_plain = untuned(found, PHONE), plain(found, PHONE)
    assert without.multiply_adds == with_plain.multiply_adds == found.multiply_adds
    assert without.padding == 1 <= with_plain.padding


def test_a_convolution_tuned_as_several_is_left_out() -> None:
    assert heaviest(_network((1, 8, 6, 6), _ones(8, 4, 3, 3), groups=2), PHONE, 10) == []


@pytest.mark.parametrize("outputs", [5, 8])
def test_channels_that_fill_up_a_block_are_padding(outputs: int) -> None:
    (found,) = heaviest(_network((1, 4, 6, 6), _ones(outputs, 4, 3, 3)), PHONE, 10)
    kernel = plain(found, PHONE)
    assert kernel.padding >= 8 / outputs
    turn = statically(kernel, PHONE)
    executed = turn.inner_loop.instructions / turn.inner_loop.multiply_adds
    assert turn.instructions_per_multiply_add == pytest.approx(executed * kernel.padding)


def test_a_convolution_counted_in_its_assembly(small: Convolution) -> None:
    assert small.multiply_adds == 32 * 9 * 9 * 16 * 9
    without, with_plain = (statically(make(small, PHONE), PHONE) for make in (untuned, plain))
    assert without.vector_share < with_plain.vector_share
    assert with_plain.vector_share >= 0.9
    assert 0.25 < with_plain.instructions_per_multiply_add < 1 < without.instructions_per_multiply_add
    assert 0 < with_plain.moved_bytes_per_multiply_add < without.moved_bytes_per_multiply_add
    assert with_plain.multiply_adds is with_plain.kernel_vector_share is None


@emulated
def test_a_convolution_counted_as_it_executes(small: Convolution, tmp_path: Path) -> None:
    counter = Executing(Emulator(tmp_path, "cortex-a72"))
    without, with_plain = (counter(make(small, PHONE), PHONE) for make in (untuned, plain))
    assert without.multiply_adds == small.multiply_adds <= with_plain.multiply_adds
    assert with_plain.multiply_adds == round(small.multiply_adds * plain(small, PHONE).padding)
    assert without.vector_share == 0
    assert with_plain.vector_share == with_plain.kernel_vector_share == 1
    assert 0.25 < with_plain.instructions_per_multiply_add < 1 < without.instructions_per_multiply_add
    assert 0 < with_plain.moved_bytes_per_multiply_add < without.moved_bytes_per_multiply_add


def test_googlenets_heaviest_convolutions_multiply_vectors_original_and_merged(tmp_path: Path) -> None:
    path = tmp_path / "googlenet.onnx"
    onnx.save_model(googlenet(), path)
    network = pipeline.load_network(path)
    merged = merge_network(network, MergeRequest(retraining=True)).module
    found = [*heaviest(network.module, PHONE, 10), *heaviest(merged, PHONE, 10)]
    shares = [(statically(plain(each, PHONE), PHONE).vector_share, each.name) for each in found]
    assert len(found) == 20
    assert min(shares) >= (0.9, "")


def test_figures_weigh_convolutions_with_their_multiply_adds() -> None:
    def row(network: str, calls: int, size: int, share: float, executed: float) -> dict:
        kinds = {
            kind: {
                "vector_share": share,
                "instructions_per_multiply_add": instructions,
                "moved_bytes_per_multiply_add": moved,
            }
            for kind, share, instructions, moved in (
                ("untuned", 0.0, 3.0, 12.0),
                ("plain", share, executed, 2 * executed),
            )
        }
        kinds["peak"] = {"instructions_per_multiply_add": 0.25}
        return {"network": network, "calls": calls, "multiply_adds": size, **kinds}

    rows = [row("original", 2, 100, 1.0, 0.3), row("original", 1, 200, 0.93, 0.5)]
    rows += [row("merged", 1, 1, 0.97, 1.0)]
    found = summary(rows, "static")
    assert found["min_vector_share"] == 0.93
    assert found["instructions_per_multiply_add"] == {
        "original": {"untuned": 3.0, "plain": 0.4, "peak": 0.25},
        "merged": {"untuned": 3.0, "plain": 1.0, "peak": 0.25},
    }
    assert found["moved_bytes_per_multiply_add"]["original"] == {"untuned": 12.0, "plain": 0.8}
    assert found["counted"] == "static"


def test_the_program_prints_one_object() -> None:
    command = [sys.executable, ROOT / "benchmarks/arm_codegen.py", "--convolutions", "1"]
    command += ["--model", ROOT / "examples/fashion_googlenet.onnx"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert [row["network"] for row in printed["rows"]] == ["original", "merged"]
    assert printed["min_vector_share"] >= 0.9
    for row in printed["rows"]:
        assert row["untuned"]["multiply_adds"] in (row["multiply_adds"], None)
        assert row["untuned"]["instructions_per_multiply_add"] > row["plain"]["instructions_per_multiply_add"]
    assert printed["counted"].startswith("executed under qemu" if missing() is None else "static")
