"""The table of GPUs. A new GPU is a new row."""

from targets.gpu import Gpu

_KIB = 1024


def _mali(
    model: str, max_threads: int, warp: int, units: int | None, registers: int | None, opencl: str
) -> Gpu:
    """Return a Mali, all of which calculate in float16."""
    return Gpu(
        name=f"mali-{model.lower()}",
        description=f"Mali-{model}",
        kind="mali",
        max_threads=max_threads,
        local_bytes=32 * _KIB,
        warp=warp,
        units=units,
        registers=registers,
        float16=True,
        opencl=opencl,
    )


def _adreno(model: int, max_threads: int, warp: int, units: int | None, opencl: str) -> Gpu:
    """Return an Adreno, all of which calculate in float16."""
    return Gpu(
        name=f"adreno-{model}",
        description=f"Adreno {model}",
        kind="adreno",
        max_threads=max_threads,
        local_bytes=32 * _KIB,
        warp=warp,
        units=units,
        float16=True,
        opencl=opencl,
    )


_TABLE = (
    _mali("T860", 256, 1, None, None, "1.2"),
    _mali("G31", 256, 4, None, 32, "2.0"),
    _mali("G52", 384, 8, None, 32, "2.0"),
    _mali("G57", 256, 16, None, 32, "2.0"),
    _mali("G68", 256, 16, None, 32, "2.0"),
    _mali("G71", 256, 4, None, 32, "2.0"),
    _mali("G72", 256, 4, None, 32, "2.0"),
    _mali("G76", 256, 8, None, 32, "2.0"),
    _mali("G77", 256, 16, None, 32, "2.0"),
    _mali("G78", 256, 16, None, 32, "2.0"),
    _mali("G310", 256, 16, None, 32, "3.0"),
    _mali("G510", 256, 16, None, 32, "3.0"),
    _mali("G610", 256, 16, None, 32, "3.0"),
    _mali("G710", 256, 16, None, 32, "3.0"),
    _adreno(506, 256, 1, None, "2.0"),
    _adreno(530, 256, 1, None, "2.0"),
    _adreno(540, 256, 1, None, "2.0"),
    _adreno(610, 256, 1, None, "2.0"),
    _adreno(618, 256, 1, None, "2.0"),
    _adreno(630, 256, 1, None, "2.0"),
    _adreno(640, 256, 1, None, "2.0"),
    _adreno(650, 256, 1, None, "2.0"),
    _adreno(660, 256, 1, None, "2.0"),
    _adreno(730, 256, 1, None, "3.0"),
    _adreno(740, 256, 1, None, "3.0"),
    _adreno(750, 256, 1, None, "3.0"),
)

GENERIC = Gpu("opencl", "any OpenCL device", "", max_threads=256, local_bytes=16 * _KIB)
"""A device of modest limits, which those of every device with OpenCL 1.2 seen so far exceed."""

GPUS = {gpu.name: gpu for gpu in (*_TABLE, GENERIC)}
"""The GPUs by name."""
