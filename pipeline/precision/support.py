"""Whether a target's processor computes in float16 by itself.

Without such instructions every operation is two conversions and one in float32: slower than float32, and as
inexact as float16.
"""

from __future__ import annotations

from pipeline.errors import UserError
from targets import TargetInfo, all_targets, llvm

ARITHMETIC = ("fullfp16", "avx512fp16")
"""LLVM's names of the features: of ARM from v8.2 on, and of x86."""


def check_supported(info: TargetInfo) -> None:
    """Insist that a target computes in float16.

    Raises
    ------
    UserError
        It does not; the message names targets that do.
    """
    if info.gpu is not None:
        raise UserError(f"{info.name} computes on a GPU, and float16 is for processors so far: use float32")
    if has_float16(info):
        return
    others = ", ".join(each.name for each in all_targets() if set(ARITHMETIC) & set(each.features))
    raise UserError(
        f"{info.name} ({_processor(info)}) has no float16 arithmetic: use float32, "
        f"or a target that has it: {others}"
    )


def has_float16(info: TargetInfo) -> bool:
    """Whether a target's processor has arithmetic in float16, by its own features or by LLVM's."""
    processor = str(info.target().attrs["mcpu"])
    return bool(set(ARITHMETIC) & (set(info.features) | llvm.features(info.triple, processor)))


def _processor(info: TargetInfo) -> str:
    return info.clusters or info.measured_on()
