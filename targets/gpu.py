"""A GPU that is driven through OpenCL, and what a kernel may ask of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes
    ----------
    name, description : str
        What the user calls it, and what it is.
    kind : str
        TVM's name of its family, which decides how kernels are scheduled: ``mali``, ``adreno`` or empty.
    max_threads : int
        Work items of a work group (CL_DEVICE_MAX_WORK_GROUP_SIZE).
    local_bytes : int
        Local memory of a work group, in bytes (CL_DEVICE_LOCAL_MEM_SIZE).
    warp : int
        Work items that run in step; 1 where each goes its own way.
    units : int or None
        Shader cores (CL_DEVICE_MAX_COMPUTE_UNITS); None where chips with this GPU have different numbers.
    registers : int or None
        32-bit registers of a work item up to which the GPU holds all the work items it can; None if unknown.
    float16 : bool
        Whether it calculates in float16 (cl_khr_fp16).
    opencl : str
        The version of OpenCL that its drivers have, or a newer one.
    max_argument_bytes : int
        Bytes of a kernel's arguments (CL_DEVICE_MAX_PARAMETER_SIZE); a buffer is an address of 8.
    reported : bool
        Whether a driver reported the limits; if not, they are cautious.
    """

    name: str
    description: str
    kind: str
    max_threads: int
    local_bytes: int
    warp: int = 1
    units: int | None = None
    registers: int | None = None
    float16: bool = False
    opencl: str = "1.2"
    max_argument_bytes: int = 1024
    reported: bool = False

    @property
    def max_arguments(self) -> int:
        """The number of arguments a kernel may have, each of them an address or smaller."""
        return self.max_argument_bytes // 8

    def fields(self) -> dict[str, str | int]:
        """Return what TVM's target is made of.

        The width of a warp stays at TVM's 1. With more, TVM makes reductions whose barriers only some of the
        work items reach, which OpenCL leaves undefined.
        """
        fields: dict[str, str | int] = {
            "kind": "opencl",
            "max_num_threads": self.max_threads,
            "max_threads_per_block": self.max_threads,
            "max_shared_memory_per_block": self.local_bytes,
            "max_function_args": self.max_arguments,
            "thread_warp_size": 1,
        }
        return fields | ({"device": self.kind} if self.kind else {})
