"""Reads AArch64 assembly; tells how many multiply-adds an instruction does and how many bytes it moves.

    fmla v0.4s, v1.4s, v2.s[0]      4 in a vector
    fmadd s0, s1, s2, s0            1 in a scalar
    fmul v0.4s, v1.4s, v2.4s        4: the multiplication of a sum's first term, or of a pair with fadd

An fmul counts as a multiply-add, so that a pair of fmul and fadd is one, and the fadd none.

    ldp q0, q1, [x0]                32 bytes between registers and memory, which a cache may serve
    ld1 { v0.s }[1], [x0]           4, as ld1r has: one element for all lanes
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_BYTES = 4
_VECTOR = re.compile(r"v\d+\.(\d+)[hsd]$")
_MULTIPLY = frozenset({"fmul", "fmla", "fmls", "fmadd", "fmsub", "fnmadd", "fnmsub", "fnmul"})
_LOAD_OR_STORE = re.compile(r"(ld|st)(n?p|u?r|[1-4]r?|a?x?r|ar|lr)s?(?P<part>[bhw]?)$")
_PARTS = {"b": 1, "h": 2, "w": 4}
_REGISTER = re.compile(r"\b(?P<kind>[bhsdqwx])(\d+|zr|sp)\b")
_REGISTER_BYTES = {"b": 1, "h": 2, "s": 4, "w": 4, "d": 8, "x": 8, "q": 16}
_LIST = re.compile(r"\{(?P<registers>[^}]*)\}(?P<lane>\[\d+\])?")
_IN_LIST = re.compile(r"v(?P<number>\d+)\.(?P<lanes>\d*)(?P<kind>[bhsd])")
_BRANCH = re.compile(r"b|b[.]?(eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le|al|any|none)|cbn?z|tbn?z")
_LABEL = re.compile(r"^([\w.$]+):")
_LISTED = re.compile(r"^\s*([0-9a-f]+):\s+[0-9a-f]{8}\s+(\S+)\s*(.*)$")
_HEADING = re.compile(r"^[0-9a-f]+ <(.+)>:$")


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes
    ----------
    address : int
        In bytes.
    mnemonic, operands : str
    jumps_to : int or None
        Where a branch within the function goes; None for all other instructions.
    """

    address: int
    mnemonic: str
    operands: str
    jumps_to: int | None = None

    @property
    def vector_lanes(self) -> int:
        """Multiply-adds that it does in a vector."""
        vector = _VECTOR.match(self._first) if self.mnemonic in _MULTIPLY else None
        return int(vector.group(1)) if vector else 0

    @property
    def scalars(self) -> int:
        """Multiply-adds that it does without a vector: one or none."""
        return int(self.mnemonic in _MULTIPLY and not _VECTOR.match(self._first))

    @property
    def moved_bytes(self) -> int:
        """Bytes that it loads or stores."""
        named = _LOAD_OR_STORE.match(self.mnemonic)
        if named is None:
            return 0
        vectors = _LIST.match(self.operands)
        if vectors:
            one = vectors.group("lane") is not None or self.mnemonic.endswith("r")
            return _bytes_of_list(vectors.group("registers"), one)
        registers = _REGISTER.findall(self.operands.partition("[")[0])
        part = _PARTS.get(named.group("part"))
        return sum(part or _REGISTER_BYTES[kind] for kind, _ in registers)

    @property
    def _first(self) -> str:
        return self.operands.partition(",")[0].strip()


def read_assembly(text: str) -> list[Instruction]:
    """Read an assembler's input, such as LLVM writes; addresses count from its first instruction."""
    labels: dict[str, int] = {}
    lines: list[tuple[str, str]] = []
    for line in text.splitlines():
        words = _without_comment(line)
        label = _LABEL.match(words)
        if label:
            labels[label.group(1)] = len(lines) * _BYTES
            words = words[label.end() :].strip()
        if words and not words.startswith("."):
            mnemonic, _, operands = words.replace("\t", " ").partition(" ")
            lines.append((mnemonic, operands.strip()))
    return [
        Instruction(
            at * _BYTES, mnemonic, operands, labels.get(_target(operands)) if _jumps(mnemonic) else None
        )
        for at, (mnemonic, operands) in enumerate(lines)
    ]


def read_disassembly(text: str, functions: Iterable[str]) -> list[Instruction]:
    """Read the functions of these names from what ``objdump -d`` printed."""
    wanted, inside = frozenset(functions), False
    found = []
    for line in text.splitlines():
        heading = _HEADING.match(line)
        if heading:
            inside = heading.group(1) in wanted
        listed = _LISTED.match(line) if inside else None
        if listed:
            address, mnemonic, operands = int(listed.group(1), 16), listed.group(2), listed.group(3)
            operands = _without_comment(operands)
            target = _target(operands.partition("<")[0].strip()) if _jumps(mnemonic) else ""
            found.append(Instruction(address, mnemonic, operands, int(target, 16) if target else None))
    return found


def _bytes_of_list(registers: str, one: bool) -> int:
    """Return the bytes of ``v0.4s, v1.4s`` or ``v0.4s-v3.4s``; of a single element of each if ``one``."""
    found = [_IN_LIST.match(each.strip()) for each in re.split("[,-]", registers)]
    size = _REGISTER_BYTES[found[0].group("kind")] * (1 if one else int(found[0].group("lanes")))
    numbers = [int(each.group("number")) for each in found]
    count = (numbers[-1] - numbers[0]) % 32 + 1 if "-" in registers else len(found)
    return size * count


def _without_comment(line: str) -> str:
    return re.split(r"//|;|\s#(?![-\d:])", line)[0].strip()


def _jumps(mnemonic: str) -> bool:
    return _BRANCH.fullmatch(mnemonic) is not None


def _target(operands: str) -> str:
    return operands.rpartition(",")[2].strip()
