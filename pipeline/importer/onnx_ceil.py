"""Write pools with `ceil_mode` without it, wherever that is exact.

ONNX's shape inference counts a last window that starts in the end padding; onnxruntime, torch and TVM leave
it out. Sizes after such a pool would be folded wrong, so its real size is settled first: with the last window
out, the pool is an ordinary one; with it in, the end padding grows by what the window reaches over the edge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from pipeline.errors import ImportRefused
from pipeline.importer.onnx_file import attributes, describe, set_attributes

POOLS = ("AveragePool", "LpPool", "MaxPool")


def settle_ceil(node: onnx.NodeProto, shape: Sequence[int]) -> bool:
    """Rewrite one pool.

    Parameters
    ----------
    node : onnx.NodeProto
        A pool; changed in place.
    shape : sequence of int
        Of its input.

    Returns
    -------
    bool
        Whether the pool was rewritten. One that counts its padding in the mean, but not what lies beyond,
        keeps its `ceil_mode`; its inferred size is right.

    Raises
    ------
    ImportRefused
        If it would have to keep it along one axis only.
    """
    given = attributes(node)
    rank = len(shape) - 2
    ones = [1] * rank
    pads = list(given.get("pads", [0] * (2 * rank)))
    axes = [
        _Axis(*numbers)
        for numbers in zip(
            shape[2:],
            given["kernel_shape"],
            given.get("strides", ones),
            given.get("dilations", ones),
            pads[:rank],
            pads[rank:],
            strict=True,
        )
    ]
    over = [axis.overhang for axis in axes]
    if given.get("count_include_pad", 0) and any(over):
        if any(axis.last_window_is_out for axis in axes):
            raise ImportRefused(
                f"{describe(node)}: ceil_mode with count_include_pad cannot be written without it"
            )
        return False
    pads[rank:] = [after + o for after, o in zip(pads[rank:], over, strict=True)]
    set_attributes(node, ceil_mode=None, pads=pads)
    return True


@dataclass(frozen=True)
class _Axis:
    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def _reach(self) -> int:
        return (self.kernel - 1) * self.dilation + 1

    @property
    def _padded(self) -> int:
        return self.size + self.before + self.after

    @property
    def _last_start(self) -> int:
        return math.ceil((self._padded - self._reach) / self.stride) * self.stride

    @property
    def last_window_is_out(self) -> bool:
        return self._last_start >= self.size + self.before

    @property
    def overhang(self) -> int:
        return 0 if self.last_window_is_out else max(0, self._last_start + self._reach - self._padded)
