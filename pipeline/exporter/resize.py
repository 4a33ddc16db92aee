"""Resizing in ONNX.

TVM's coordinate modes have ONNX's names. Its nearest element by `round` is the even one of two equally near,
which ONNX cannot say; without such a pair it is the lower one's mode. `tf_half_pixel_for_nn` with `floor`,
`floor((x + 0.5) s)`, is `half_pixel` with `round_prefer_ceil`, `floor((x + 0.5) s - 0.5 + 0.5)`.
"""

from __future__ import annotations

from pipeline.exporter.expression import Layer, Node, integers, node
from pipeline.exporter.windows import require_layout

LINEAR = ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel")
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def resize(layer: Layer) -> Node:
    """Resize of the last two axes."""
    x, size = layer.args
    attrs = layer.attrs
    require_layout(attrs.layout, "NCHW")
    mode, method = str(attrs.coordinate_transformation_mode), str(attrs.method)
    sizes = integers((*x.shape[:2], *size), "sizes")
    if method == "linear" and mode in LINEAR:
        return node("Resize", x, None, None, sizes, mode="linear", coordinate_transformation_mode=mode)
    if method != "nearest_neighbor":
        raise NotImplementedError(f"resize method {method} with {mode}")
    rounding = str(attrs.rounding_method) or ("round" if mode == "align_corners" else "floor")
    if (mode, rounding) == ("tf_half_pixel_for_nn", "floor"):
        mode, rounding = "half_pixel", "round_prefer_ceil"
    if rounding == "round" and mode == "align_corners" and not _has_halves(x.shape[2:], size):
        rounding = "round_prefer_floor"
    if mode not in LINEAR or rounding not in NEAREST:
        raise NotImplementedError(f"resize to the nearest with {mode} and {rounding}")
    return node(
        "Resize",
        x,
        None,
        None,
        sizes,
        mode="nearest",
        coordinate_transformation_mode=mode,
        nearest_mode=rounding,
    )


def _has_halves(sources: tuple[int, ...], targets: tuple[int, ...]) -> bool:
    """Whether a place of `align_corners` lies in the middle between two elements."""
    return any(
        2 * place * (source - 1) % (target - 1) == 0 and 2 * place * (source - 1) // (target - 1) % 2
        for source, target in zip(sources, targets, strict=True)
        if target > 1
        for place in range(target)
    )
