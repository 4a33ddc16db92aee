"""Holds kernels to what their GPU has, before anything reaches a device.

A driver on this machine may take far larger work groups than the phone does. So the limits are checked on the
code itself, where lowering has just split it into host and kernels: the threads of a work group, its local
memory and the kernel's arguments are all there, and nothing after that changes them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

import tvm
from tvm.ir import IRModule, PrimType
from tvm.tirx import AllocBuffer, AttrStmt, Buffer, IntImm, PrimFunc, Var
from tvm_ffi import structural_walk

from targets import Gpu
from tuning.errors import TuningError

_KERNEL = 2
_SPLIT = "tirx.SplitHostDevice"
_THREADS = "threadIdx."
_SHARED = "shared"
_ADDRESS_BYTES = 8


@contextmanager
def within_limits(gpu: Gpu | None) -> Iterator[None]:
    """Check all kernels that are built inside; None, for a target without a GPU, checks nothing.

    It goes inside of all other pass contexts, whose settings it keeps.

    Raises
    ------
    TuningError
        At the end, if a kernel wants more than the GPU has; the message names the kernel and both numbers.
    """
    if gpu is None:
        yield
        return
    seen = _Faults(gpu)
    with _with_instrument(seen):
        yield
    if seen.found:
        raise TuningError(seen.found[0])


def kernel_faults(module: IRModule, gpu: Gpu) -> list[str]:
    """Return what kernels want that the GPU does not have, a line each.

    Parameters
    ----------
    module : IRModule
        Lowered, and split into host and device.
    """
    kernels = {
        name.name_hint: function
        for name, function in module.functions_items()
        if isinstance(function, PrimFunc) and int(function.attrs.get("calling_conv", 0)) == _KERNEL
    }
    return [fault for name, kernel in kernels.items() for fault in _faults(name, kernel, gpu)]


def _faults(name: str, kernel: PrimFunc, gpu: Gpu) -> Iterator[str]:
    needs = _Needs(kernel)
    wants = (
        (needs.threads, gpu.max_threads, "work items"),
        (needs.local_bytes, gpu.local_bytes, "bytes of local memory"),
        (needs.argument_bytes, gpu.max_argument_bytes, "bytes of arguments"),
    )
    device = f"the {gpu.description}" if gpu.kind else gpu.description
    for wanted, limit, what in wants:
        if wanted is None:
            yield f"kernel {name} wants {what} by a number that is known only when it runs"
        elif wanted > limit:
            yield f"kernel {name} wants {wanted} {what}, {device} takes {limit}"


class _Needs:
    """What a kernel asks of a device; None where a number is not known before it runs."""

    def __init__(self, kernel: PrimFunc) -> None:
        self._threads: dict[str, int | None] = {}
        self._local: list[int | None] = []
        for kind, note in ((AttrStmt, self._note_attribute), (AllocBuffer, self._note_buffer)):
            structural_walk(kernel.body, (kind, note), order="post")
        self.argument_bytes = sum(map(_argument_bytes, kernel.params))

    @property
    def threads(self) -> int | None:
        extents = self._threads.values()
        return None if None in extents else prod(extents)

    @property
    def local_bytes(self) -> int | None:
        return None if None in self._local else sum(self._local)

    def _note_attribute(self, statement: AttrStmt) -> None:
        if statement.attr_key == "thread_extent":
            tag = str(statement.node.thread_tag)
            if tag.startswith(_THREADS):
                self._threads[tag] = _constant(statement.value)

    def _note_buffer(self, statement: AllocBuffer) -> None:
        if statement.buffer.scope().startswith(_SHARED):
            self._local.append(_bytes(statement.buffer))


def _bytes(buffer: Buffer) -> int | None:
    extents = [_constant(extent) for extent in buffer.shape]
    return None if None in extents else prod(extents) * _item_bytes(buffer.dtype)


def _argument_bytes(parameter: Var) -> int:
    return _item_bytes(parameter.ty.dtype) if isinstance(parameter.ty, PrimType) else _ADDRESS_BYTES


def _item_bytes(dtype: str) -> int:
    kind = tvm.DataType(str(dtype))
    return (kind.bits * kind.lanes + 7) // 8


def _constant(number: tvm.ir.Expr) -> int | None:
    return int(number) if isinstance(number, int | IntImm) else None


@tvm.instrument.pass_instrument
class _Faults:
    """Collects the faults of the kernels that pass by."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self.found: list[str] = []

    def run_after_pass(self, module: IRModule, info: tvm.transform.PassInfo) -> None:
        if info.name == _SPLIT:
            self.found.extend(kernel_faults(module, self._gpu))


def _with_instrument(instrument: tvm.instrument.PassInstrument) -> tvm.transform.PassContext:
    """Return the pass context that is in force, with one instrument more."""
    current = tvm.transform.PassContext.current()
    return tvm.transform.PassContext(
        opt_level=current.opt_level,
        required_pass=list(current.required_pass),
        disabled_pass=list(current.disabled_pass),
        instruments=[*current.instruments, instrument],
        config=dict(current.config),
    )
