"""Reads x86-64 code: multiply-adds in vectors, loads, stores and what is spilled to the stack."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from codegen.loops import inner_loops

_LISTED = re.compile(r"^\s*([0-9a-f]+):\s+(?:\{\w+\}\s+)?(\S+)\s*([^<#]*)")
_MULTIPLY = re.compile(r"vf?n?m(ul|add|sub)\w*[sp]s$|mul[sp]s$")
_LANES = {"zmm": 16, "ymm": 8, "xmm": 4}
_SECONDS = 120


@dataclass(frozen=True)
class Instruction:
    """One instruction in AT&T's spelling: the destination comes last.

    Attributes
    ----------
    address : int
    mnemonic, operands : str
    jumps_to : int or None
        Where a branch goes; None for all other instructions.
    """

    address: int
    mnemonic: str
    operands: str
    jumps_to: int | None = None

    @property
    def vector_lanes(self) -> int:
        """Multiply-adds that it does in a vector."""
        if not self._multiplies or not self.mnemonic.endswith("ps"):
            return 0
        return next((lanes for name, lanes in _LANES.items() if name in self.operands), 0)

    @property
    def scalars(self) -> int:
        """Multiply-adds that it does without a vector: one or none."""
        return int(self._multiplies and self.mnemonic.endswith("ss"))

    @property
    def touches_memory(self) -> bool:
        """Whether it reads or writes memory."""
        return "(" in self.operands and not self.mnemonic.startswith(("lea", "nop", "prefetch"))

    @property
    def stores(self) -> bool:
        """Whether it is a vector's store."""
        return self.touches_memory and self.mnemonic.startswith("vmov") and self.operands.rstrip()[-1] == ")"

    @property
    def on_the_stack(self) -> bool:
        """Whether that memory is the stack."""
        return self.touches_memory and ("(%rsp" in self.operands or "(%rbp" in self.operands)

    @property
    def _multiplies(self) -> bool:
        return _MULTIPLY.match(self.mnemonic) is not None


@dataclass(frozen=True)
class InnerLoop:
    """What a turn of a kernel's inner loop executes.

    Attributes
    ----------
    instructions : int
    multiply_adds : int
        Instructions that multiply and add.
    lanes : int
        Elements of the widest vector.
    memory : int
        Instructions that read or write memory, multiply-adds with an operand in memory among them.
    stores, spills : int
        Those that write a vector, and those that touch the stack.
    """

    instructions: int
    multiply_adds: int
    lanes: int
    memory: int
    stores: int
    spills: int


def read_disassembly(text: str) -> list[Instruction]:
    """Read what ``objdump -d --no-show-raw-insn`` printed."""
    found = []
    for line in text.splitlines():
        listed = _LISTED.match(line)
        if listed:
            address, mnemonic, operands = int(listed.group(1), 16), listed.group(2), listed.group(3).strip()
            target = operands if mnemonic.startswith("j") else ""
            jumps_to = int(target, 16) if re.fullmatch("[0-9a-f]+", target) else None
            found.append(Instruction(address, mnemonic, operands, jumps_to))
    return found


def inner_loop(library: Path) -> InnerLoop | None:
    """Return the inner loop of a library that multiplies most in a turn; None if none multiplies."""
    command = ["objdump", "-d", "--no-show-raw-insn", str(library)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SECONDS).stdout
    return inner_loop_of(read_disassembly(printed))


def inner_loop_of(code: list[Instruction]) -> InnerLoop | None:
    """Return the inner loop that multiplies most in a turn; None if none multiplies."""
    bodies = [loop.body for loop in inner_loops(code)]
    busiest = max(bodies, key=_multiply_adds, default=())
    if not _multiply_adds(busiest):
        return None
    multiplying = [each for each in busiest if each.vector_lanes or each.scalars]
    return InnerLoop(
        instructions=len(busiest),
        multiply_adds=len(multiplying),
        lanes=max(each.vector_lanes for each in multiplying),
        memory=sum(each.touches_memory for each in busiest),
        stores=sum(each.stores for each in busiest),
        spills=sum(each.on_the_stack for each in busiest),
    )


def _multiply_adds(body: tuple[Instruction, ...]) -> int:
    return sum(each.vector_lanes + each.scalars for each in body)
