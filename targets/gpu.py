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
        Work items of a work group.
    local_bytes : int
        Local memory of a work group, in bytes.
    warp : int
        Work items that run in step.
    """

    name: str
    description: str
    kind: str
    max_threads: int
    local_bytes: int
    warp: int = 1

    def fields(self) -> dict[str, str | int]:
        """Return what TVM's target is made of."""
        fields: dict[str, str | int] = {
            "kind": "opencl",
            "max_num_threads": self.max_threads,
            "max_threads_per_block": self.max_threads,
            "max_shared_memory_per_block": self.local_bytes,
            "thread_warp_size": self.warp,
        }
        return fields | ({"device": self.kind} if self.kind else {})
