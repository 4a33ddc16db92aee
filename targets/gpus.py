"""The table of GPUs. A new GPU is a new row.

A limit is what a device's driver reports, where such a report was found, or else a cautious number that no
device of the kind is known to fall below.

Reports of drivers (clinfo, as published by those who have the devices): Mali-G71 (HiKey 960: a work group of
384, but 256 along one axis, which is taken here), Mali-G52 with three execution engines (Khadas VIM3: 384),
Mali-G610 (RK3588: 1024), Adreno 640 (Snapdragon 855: 1024). Local memory is 32 KiB in those of the Mali-T860,
the Mali-G610 and the Adreno 640, and is taken to be that in the others.

Cautious numbers. Mali: half of the threads of a core in Arm's GPU data sheet, as a kernel that needs more
than 32 registers halves them; 256 where the sheet says nothing. The Mali-G72 is taken as the G71, which has
as many threads, the Mali-T860 as the T628, whose driver reports 256, and the Mali-G710 as the G610, which
is the same design. Adreno: a half or a quarter of what the Adreno 640 reports. A driver may still refuse a
kernel within these limits that uses many registers.

The rest. Width of a warp: Arm's data sheet; Mesa for Adreno (the smaller of two, as the driver chooses).
Registers: Arm's guides to the Bifrost and Valhall shader cores; four of 128 bits for Midgard. Units of
Adreno, and the 16 KiB of the Adreno 610: Mesa, src/freedreno/common. The units of a Mali are up to the
maker of the chip.
"""

from targets.errors import TargetError
from targets.gpu import Gpu

_KIB = 1024
_TEXTURES = ("texture", "clml")
TEXTURES_REFUSED = (
    "textures on Adreno are refused: TVM 0.27 lays data out wrongly for them, so that results are wrong; "
    "use buffers, such as the target adreno-640"
)
"""Why the path through textures is not offered."""


def _mali(
    model: str,
    max_threads: int,
    warp: int,
    opencl: str,
    *,
    registers: int = 32,
    reported: bool = False,
    also: str = "",
) -> Gpu:
    """Return a Mali, all of which calculate in float16."""
    return Gpu(
        name=f"mali-{model.lower()}",
        description=f"Mali-{model}{also}",
        kind="mali",
        max_threads=max_threads,
        local_bytes=32 * _KIB,
        warp=warp,
        registers=registers,
        float16=True,
        opencl=opencl,
        reported=reported,
    )


def _adreno(
    model: int,
    max_threads: int,
    warp: int,
    units: int,
    opencl: str,
    *,
    local: int = 32,
    reported: bool = False,
) -> Gpu:
    """Return an Adreno, all of which calculate in float16; local memory in KiB."""
    return Gpu(
        name=f"adreno-{model}",
        description=f"Adreno {model}",
        kind="adreno",
        max_threads=max_threads,
        local_bytes=local * _KIB,
        warp=warp,
        units=units,
        float16=True,
        opencl=opencl,
        reported=reported,
    )


_TABLE = (
    _mali("T860", 256, 1, "1.2", registers=16),
    _mali("G31", 256, 4, "2.0"),
    _mali("G52", 256, 8, "2.0"),
    _mali("G52-3EE", 384, 8, "2.0", reported=True, also=" (three execution engines)"),
    _mali("G57", 512, 16, "2.0"),
    _mali("G68", 512, 16, "2.0"),
    _mali("G71", 256, 4, "2.0", reported=True),
    _mali("G72", 256, 4, "2.0"),
    _mali("G76", 384, 8, "2.0"),
    _mali("G77", 512, 16, "2.0"),
    _mali("G78", 512, 16, "2.0"),
    _mali("G310", 256, 16, "3.0"),
    _mali("G510", 256, 16, "3.0"),
    _mali("G610", 1024, 16, "3.0", reported=True),
    _mali("G710", 1024, 16, "3.0"),
    _adreno(506, 256, 32, 1, "2.0"),
    _adreno(530, 256, 32, 4, "2.0"),
    _adreno(540, 256, 32, 4, "2.0"),
    _adreno(610, 256, 64, 1, "2.0", local=16),
    _adreno(618, 256, 64, 1, "2.0"),
    _adreno(630, 512, 64, 2, "2.0"),
    _adreno(640, 1024, 64, 2, "2.0", reported=True),
    _adreno(650, 512, 64, 3, "2.0"),
    _adreno(660, 512, 64, 3, "2.0"),
    _adreno(730, 512, 64, 4, "2.0"),
    _adreno(740, 512, 64, 6, "3.0"),
    _adreno(750, 512, 64, 6, "3.0"),
)

GENERIC = Gpu("opencl", "any OpenCL device", "", max_threads=256, local_bytes=16 * _KIB)
"""Any device: TVM's own limits for OpenCL, which are within those of all the others."""

GPUS = {gpu.name: gpu for gpu in (*_TABLE, GENERIC)}
"""The GPUs by name."""


def refuse_textures(name: str) -> None:
    """Refuse TVM's names of targets that put data into textures.

    Raises
    ------
    TargetError
        If it is one.
    """
    if any(word in name.lower() for word in _TEXTURES):
        raise TargetError(f"target {name}: {TEXTURES_REFUSED}")
