"""Counts the instructions of a kernel: as executed under qemu, or without it in its assembly.

Costs are told for each multiply-add that goes into the result. One that is done for channels that fill up a
block, or for sums beyond a row's end, is among the costs of these.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tvm

from codegen.emulation import Emulator, link
from codegen.instructions import read_assembly
from codegen.kernels import Kernel
from codegen.loops import Counts, count, inner_loop


@dataclass(frozen=True)
class Finding:
    """What was counted of one kernel.

    Attributes
    ----------
    inner_loop : Counts
        A turn of its inner loop.
    vector_share : float
        Share of the inner loop's multiply-adds that are done in vectors.
    kernel_vector_share : float or None
        The same of all multiply-adds that the kernel executed; None if it was not run.
    multiply_adds : int or None
        That the whole kernel executed, those for padding among them; None if it was not run.
    instructions_per_multiply_add : float
        Of the whole kernel with all that it calls; of its inner loop if it was not run.
    moved_bytes_per_multiply_add : float
        Loaded and stored by its functions' own instructions, without what they call; of its inner loop if it
        was not run.
    code_bytes : int
        Of all its functions.
    """

    inner_loop: Counts
    vector_share: float
    kernel_vector_share: float | None
    multiply_adds: int | None
    instructions_per_multiply_add: float
    moved_bytes_per_multiply_add: float
    code_bytes: int


Counter = Callable[[Kernel, tvm.target.Target], Finding]

_BYTES = 4
_NOTHING = Counts(0, 0, 0)


def statically(kernel: Kernel, target: tvm.target.Target) -> Finding:
    """Count in the assembly: what a turn of the inner loop executes."""
    code = read_assembly(kernel.build(target).inspect_source("asm"))
    loop = inner_loop(code)
    turn = count(loop.body) if loop else _NOTHING
    return Finding(
        inner_loop=turn,
        vector_share=turn.vector_share,
        kernel_vector_share=None,
        multiply_adds=None,
        instructions_per_multiply_add=kernel.padding * _ratio(turn.instructions, turn),
        moved_bytes_per_multiply_add=kernel.padding * _ratio(turn.moved_bytes, turn),
        code_bytes=_BYTES * len(code),
    )


class Executing:
    """Counts what a kernel executes under qemu, on arguments of its shapes.

    The program that calls the kernel runs twice, once without a call; the difference is the kernel's.

    Parameters
    ----------
    emulator : Emulator
    """

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def __call__(self, kernel: Kernel, target: tvm.target.Target) -> Finding:
        """Compile, link and run a kernel.

        Raises
        ------
        EmulationError
            If that fails.
        """
        with tempfile.TemporaryDirectory(prefix="deeprebirth-codegen-") as folder:
            compiled = Path(folder) / "kernel.o"
            kernel.build(target).write_to_file(str(compiled), "o")
            program = link(compiled, Path(folder) / "kernel")
            shapes = ["x".join(map(str, shape)) for shape in kernel.shapes]
            without, called = (self._emulator.run(program.path, [calls, *shapes]) for calls in ("0", "1"))
        runs = called.runs.__getitem__
        loop = inner_loop(program.code, runs)
        whole = count(program.code, runs)
        instructions = called.instructions - without.instructions
        return Finding(
            inner_loop=count(loop.body) if loop else _NOTHING,
            vector_share=count(loop.body, runs).vector_share if loop else 0.0,
            kernel_vector_share=whole.vector_share,
            multiply_adds=whole.multiply_adds,
            instructions_per_multiply_add=instructions / kernel.multiply_adds,
            moved_bytes_per_multiply_add=whole.moved_bytes / kernel.multiply_adds,
            code_bytes=_BYTES * len(program.code),
        )


def _ratio(number: int, counts: Counts) -> float:
    return number / counts.multiply_adds if counts.multiply_adds else float("inf")
