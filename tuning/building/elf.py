"""The ELF header of what is built; `targets.elf` reads it."""

from targets.elf import check_library

__all__ = ["check_library"]
