"""The ELF header: read as binutils does, and compared with what a triple asks for."""

import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
import tvm_ffi
from hypothesis import given
from hypothesis import strategies as st

from targets.elf import Machine, check_library, machine_of_library, machine_of_triple
from targets.errors import TargetError


def header(number: int, bits: int = 64, order: str = "little", kind: int = 3) -> bytes:
    """Return the first bytes of an ELF file."""
    start = b"\x7fELF" + bytes([bits // 32, 1 if order == "little" else 2, 1]) + bytes(9)
    return start + kind.to_bytes(2, order) + number.to_bytes(2, order) + bytes(44)


@pytest.mark.parametrize(
    ("triple", "number", "bits", "order"),
    [
        ("x86_64-linux-gnu", 62, 64, "little"),
        ("i686-pc-linux-gnu", 3, 32, "little"),
        ("aarch64-linux-gnu", 183, 64, "little"),
        ("aarch64_be-linux-gnu", 183, 64, "big"),
        ("arm64-v8a-linux-android", 183, 64, "little"),
        ("armv7l-linux-gnueabihf", 40, 32, "little"),
        ("armeb-linux-gnueabi", 40, 32, "big"),
        ("thumbv7neon-linux-androideabi", 40, 32, "little"),
        ("riscv64-unknown-linux-gnu", 243, 64, "little"),
        ("s390x-linux-gnu", 22, 64, "big"),
    ],
)
def test_a_triple_asks_for_a_machine(tmp_path: Path, triple: str, number: int, bits: int, order: str) -> None:
    library = tmp_path / "Bücherei mit Platz.so"
    library.write_bytes(header(number, bits, order))
    assert machine_of_triple(triple) == machine_of_library(library)
    check_library(library, triple)
    library.write_bytes(header(number + 1, bits, order))
    with pytest.raises(TargetError, match="and not for"):
        check_library(library, triple)


def test_a_real_library_is_read_as_readelf_reads_it() -> None:
    library = next(Path(tvm_ffi.__file__).parent.rglob("libtvm_ffi.so"))
    said = subprocess.run(["readelf", "-h", str(library)], capture_output=True, text=True, check=True).stdout
    found = machine_of_library(library)
    assert f"ELF{found.bits}" in said
    assert f"{found.order} endian" in said
    assert str(found).split(",")[0].lower() in said.lower()


def test_the_message_names_both_machines(tmp_path: Path) -> None:
    library = tmp_path / "candidate.so"
    library.write_bytes(header(62))
    with pytest.raises(TargetError) as refused:
        check_library(library, "armv7l-linux-gnueabihf")
    assert str(refused.value) == (
        "the library is for x86-64, 64 bits, little-endian, and not for ARM, 32 bits, little-endian"
    )


def test_a_machine_without_a_name_is_told_by_its_number() -> None:
    assert str(Machine(8, 32, "big")) == "machine number 8, 32 bits, big-endian"


def test_an_object_is_no_shared_library(tmp_path: Path) -> None:
    library = tmp_path / "candidate.so"
    library.write_bytes(header(62, kind=1))
    with pytest.raises(TargetError, match="not a shared library"):
        check_library(library, "x86_64-linux-gnu")


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(TargetError, match="'vax-unknown-ultrix' is not known: known are x86_64"):
        machine_of_triple("vax-unknown-ultrix")


@given(st.binary(max_size=64) | st.binary(max_size=60).map(lambda rest: b"\x7fELF" + rest))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    library = tmp_path_factory.getbasetemp() / "any.so"
    library.write_bytes(data)
    with suppress(TargetError):
        machine = machine_of_library(library)
        assert data[:4] == b"\x7fELF"
        assert data[16:20] == header(machine.number, machine.bits, machine.order)[16:20]
