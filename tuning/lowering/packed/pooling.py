"""Pools of packed tensors: maxima and means over windows, and the mean over the whole image."""

import tvm
from tvm import relax, te, topi
from tvm.ir import Expr
from tvm.tirx import IntImm

_SUM_AND_ELEMENTWISE = 4
_LAYOUT = "NCHW"
_WINDOWS = {"relax.nn.max_pool2d": "max", "relax.nn.avg_pool2d": "avg"}
_ADAPTIVE, _MEAN = "relax.nn.adaptive_avg_pool2d", "relax.mean"


def fits(call: relax.Call) -> bool:
    """Return whether a call is such a pool: of four axes, its sizes known, its images (N, C, H, W)."""
    name = getattr(call.op, "name", None)
    if name not in {*_WINDOWS, _ADAPTIVE, _MEAN} or not _is_known(call.args[0]):
        return False
    attrs = call.attrs
    if name == _MEAN:
        axes = [] if attrs.axis is None else sorted(int(each) % 4 for each in attrs.axis)
        return axes == [2, 3] and bool(attrs.keepdims)
    if (attrs.layout, attrs.out_layout) != (_LAYOUT, _LAYOUT):
        return False
    return name in _WINDOWS or _is_one(attrs.output_size)


def pooled(builder: relax.BlockBuilder, data: Expr, call: relax.Call) -> Expr:
    """Return the packed result of a pool.

    Parameters
    ----------
    builder : relax.BlockBuilder
        Gets the function.
    data : Expr
        What is pooled: (batch, blocks, height, width, block)
    call : relax.Call
        A pool that fits.

    Returns
    -------
    Expr
        (batch, blocks, rows, columns, block)
    """
    name = call.op.name
    compute, attributes = (_window, _window_of(call)) if name in _WINDOWS else (_global_mean, {})
    return builder.call_te(
        compute,
        data,
        **attributes,
        primfunc_name_hint="packed_" + name.rpartition(".")[2],
        primfunc_attrs={"op_pattern": _SUM_AND_ELEMENTWISE},
    )


def _is_known(data: Expr) -> bool:
    shape = getattr(data.ty, "shape", None)
    return shape is not None and len(shape) == 4 and all(isinstance(each, IntImm) for each in shape)


def _is_one(size: "list[int] | None") -> bool:
    return size is not None and {int(each) for each in size} == {1}


def _window_of(call: relax.Call) -> dict:
    attrs = call.attrs
    return {
        "kernel": attrs.pool_size,
        "stride": attrs.strides,
        "dilation": attrs.dilation,
        "padding": attrs.padding,
        "pool_type": _WINDOWS[call.op.name],
        "ceil_mode": attrs.ceil_mode,
        "count_include_pad": attrs.count_include_pad,
    }


def _window(data: te.Tensor, **attributes: object) -> te.Tensor:
    return topi.nn.pool2d(data, layout=f"{_LAYOUT}{int(data.shape[4])}c", **attributes)


def _global_mean(data: te.Tensor) -> te.Tensor:
    batch, blocks, height, width, block = map(int, data.shape)
    y, x = te.reduce_axis((0, height), "y"), te.reduce_axis((0, width), "x")
    sums = te.compute(
        (batch, blocks, 1, 1, block),
        lambda n, b, _, __, lane: te.sum(data[n, b, y, x, lane], axis=(y, x)),
        "pool_sum",
    )
    pixels = tvm.tirx.const(height * width, data.dtype)
    return te.compute(sums.shape, lambda *at: sums[at] / pixels, "pool_mean")
