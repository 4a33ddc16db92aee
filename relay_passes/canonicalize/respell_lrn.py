"""Make local response normalisation one layer.

    y = x / (bias + alpha / size * sum over `size` neighbouring channels of x^2) ^ beta

The importers spell it as a chain around `avg_pool3d`. Here the chain becomes the body of a private function
with the attributes `Composite`, `size`, `alpha`, `beta` and `bias`, so that passes see one layer. The power
3/4 of nearly every network is two square roots, which vectorise.
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm.relax.dpl import DFPattern, is_const, is_op, wildcard

from relay_passes.graph import Emitter, Graph, Match, array_of, shape_of

COMPOSITE = "deeprebirth.lrn"


@tvm.transform.module_pass(opt_level=0, name="RespellLRN")
def respell_lrn(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Outline each LRN chain as a call of a composite function."""
    graph = Graph(module)
    found = {}
    for var in graph.layers:
        match = _match(graph, var)
        if match is not None:
            x, parameters = match
            found[var] = (x, lrn_function(x.ty, **parameters))
    return graph.rewrite({var: lambda emit, args=args: _outlined(emit, *args) for var, args in found.items()})


def _match(graph: Graph, var: relax.Var) -> tuple[relax.Expr, dict[str, float]] | None:
    """The normalised value and the parameters, if `var` ends an LRN chain."""
    if graph.call(var, "divide") is None:
        return None
    for build in (_onnx_pattern, _torch_pattern):
        parts = build()
        matched = graph.match(parts["root"], var)
        if matched is None:
            continue
        size = _size(matched, parts)
        numbers = {key: array_of(matched[parts[key]]) for key in ("alpha", "beta", "bias")}
        if size is None or any(number.size != 1 for number in numbers.values()):
            return None
        return matched[parts["x"]], {"size": size, **{key: n.item() for key, n in numbers.items()}}
    return None


def _chain(x: DFPattern, square: DFPattern, pad: DFPattern | None = None) -> dict[str, DFPattern]:
    """The chain behind the squares, which the pool reads with a new axis in front of the channels."""
    alpha, beta, bias = is_const(), is_const(), is_const()
    pool = is_op("relax.nn.avg_pool3d")(square if pad is None else pad)
    mean = is_op("relax.multiply")(is_op("relax.squeeze")(pool), alpha)
    root = is_op("relax.divide")(x, is_op("relax.power")(is_op("relax.add")(mean, bias), beta))
    parts = {"root": root, "x": x, "pool": pool, "alpha": alpha, "beta": beta, "bias": bias}
    return parts if pad is None else {**parts, "pad": pad}


def _onnx_pattern() -> dict[str, DFPattern]:
    x = wildcard()
    return _chain(x, is_op("relax.expand_dims")(is_op("relax.multiply")(x, x)))


def _torch_pattern() -> dict[str, DFPattern]:
    x = wildcard()
    square = is_op("relax.reshape")(is_op("relax.multiply")(x, x), wildcard())
    return _chain(x, square, is_op("relax.nn.pad")(square))


def _size(matched: Match, parts: dict[str, DFPattern]) -> int | None:
    """Over how many channels the pool takes the mean, if it is as an LRN's of (N, C, H, W)."""
    pool = matched.call(parts["pool"])
    size, *others = (int(n) for n in pool.attrs.pool_size)
    widths = np.array([int(n) for n in pool.attrs.padding])
    counts_padding = bool(pool.attrs.count_include_pad) or not widths.any()
    if "pad" in parts:
        pad = matched.call(parts["pad"]).attrs
        widths = widths + [
            int(width) for side in (pad.pad_width[-6::2], pad.pad_width[-5::2]) for width in side
        ]
        counts_padding = counts_padding and pad.pad_mode == "constant" and float(pad.pad_value) == 0
    shape = shape_of(matched[parts["x"]])
    half = size // 2
    is_lrn = (
        len(shape) == 4
        and shape_of(pool) == (shape[0], 1, *shape[1:])
        and others == [1, 1]
        and {int(n) for n in (*pool.attrs.strides, *pool.attrs.dilation)} == {1}
        and widths.tolist() == [half, 0, 0, half, 0, 0]
        and counts_padding
        and size % 2 == 1
    )
    return size if is_lrn else None


def _outlined(emit: Emitter, x: relax.Expr, function: relax.Function) -> relax.Expr:
    return relax.Call(emit.function("lrn", function), [emit(x)])


def lrn_function(
    type_: relax.TensorType, *, size: int, alpha: float, beta: float, bias: float
) -> relax.Function:
    """The composite function that normalises a tensor (N, C, H, W) of `type_` over `size` channels."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", type_)
    attributes = {"Composite": COMPOSITE, "size": size, "alpha": alpha, "beta": beta, "bias": bias}
    half = size // 2

    def number(value: float) -> relax.Expr:
        return relax.const(value, str(type_.dtype))

    with builder.function("lrn", [x], attrs=attributes, private=True):
        square = builder.emit(relax.op.expand_dims(relax.op.multiply(x, x), axis=[1]))
        pooled = relax.op.nn.avg_pool3d(
            square, (size, 1, 1), padding=[half, 0, 0, half, 0, 0], count_include_pad=True
        )
        mean = builder.emit(relax.op.squeeze(builder.emit(pooled), axis=[1]))
        scaled = builder.emit(relax.op.multiply(mean, number(alpha)))
        base = builder.emit(relax.op.add(scaled, number(bias)))
        builder.emit_func_output(builder.emit(relax.op.divide(x, _power(builder, base, beta))))
    return builder.finalize()["lrn"]


def _power(builder: relax.BlockBuilder, base: relax.Expr, exponent: float) -> relax.Expr:
    if exponent == 0.75:
        root = builder.emit(relax.op.sqrt(base))
        return builder.emit(relax.op.multiply(root, builder.emit(relax.op.sqrt(root))))
    return builder.emit(relax.op.power(base, relax.const(exponent, str(base.ty.dtype))))
