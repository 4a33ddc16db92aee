"""What TVM's torch importer gets wrong: converted here instead, or refused by name.

The rules see the program after torch's own decomposition, as TVM does.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.export.graph_signature import OutputKind
from tvm import relax
from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

from pipeline.errors import ImportRefused

Rule = Callable[[torch.fx.Node], str | None]
Converter = Callable[[torch.fx.Node, ExportedProgramImporter], relax.Var]


def refuse_unsupported(program: torch.export.ExportedProgram) -> None:
    """Name all operators that cannot be imported, or not be imported right, with their layers.

    Raises
    ------
    ImportRefused
    """
    importable = ExportedProgramImporter().create_convert_map().keys() | CONVERTERS.keys()
    calls = [node for node in program.graph.nodes if node.op == "call_function"]
    missing: dict[str, list[str]] = {}
    for node in calls:
        if _name(node) not in importable or _name(node) in RANDOM:
            missing.setdefault(_name(node), []).append(_layer(node))
    reasons = [f"{_name(node)} ({_layer(node)}): {reason}" for node in calls if (reason := _refusal(node))]
    other = [node for node in calls if getattr(node.meta.get("val"), "dtype", None) in OTHER_PRECISIONS]
    if other:
        precision = str(other[0].meta["val"].dtype).removeprefix("torch.")
        reasons.append(f"{_layer(other[0])} computes in {precision}: export the model in float32")
    if missing:
        listed = "; ".join(f"{name} ({', '.join(layers)})" for name, layers in sorted(missing.items()))
        reasons.insert(0, f"operators that cannot be imported: {listed}")
    mutated = [s.target for s in program.graph_signature.output_specs if s.kind is OutputKind.BUFFER_MUTATION]
    if mutated:
        reasons.append(
            f"the model changes its own state ({', '.join(map(str, mutated))}): export it in eval mode"
        )
    if reasons:
        raise ImportRefused("; ".join(reasons))


def refuse_recurrent(program: torch.export.ExportedProgram) -> None:
    """Name the recurrent layers, which torch's decomposition would unroll beyond recognition.

    Raises
    ------
    ImportRefused
    """
    calls = [node for node in program.graph.nodes if node.op == "call_function"]
    found = [f"{_name(node)} ({_layer(node)})" for node in calls if _name(node) in RECURRENT]
    if found:
        raise ImportRefused(f"operators that cannot be imported: {'; '.join(found)}")


def _name(node: torch.fx.Node) -> str:
    return getattr(node.target, "__name__", str(node.target))


def _layer(node: torch.fx.Node) -> str:
    """The path of the user's module that the node comes from, else the node's name."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return stack[-1][0] if stack and stack[-1][0] else node.name


def _refusal(node: torch.fx.Node) -> str | None:
    rule = RULES.get(_name(node))
    return rule(node) if rule else None


def _training_batch_norm(node: torch.fx.Node) -> str | None:
    return "batch norm in training mode: export the model in eval mode"


def _batch_norm_without_statistics(node: torch.fx.Node) -> str | None:
    """Instance norm is decomposed into the same operator, and imported right."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if stack and "InstanceNorm" in str(stack[-1][1]):
        return None
    return "batch norm without running statistics: train it with track_running_stats=True"


def _pool_with_indices(node: torch.fx.Node) -> str | None:
    indices = [user for user in node.users if user.target is not operator.getitem or user.args[1] == 1]
    used = any(user.users for user in indices)
    return "its indices are used, which TVM does not compute" if used else None


def _average_pool(node: torch.fx.Node) -> str | None:
    divisor, ceil_mode = _argument(node, 6), _argument(node, 4)
    return "divisor_override with ceil_mode" if divisor is not None and ceil_mode else None


def _average_pool_3d(node: torch.fx.Node) -> str | None:
    return "divisor_override" if _argument(node, 6) is not None else None


def _argument(node: torch.fx.Node, index: int, default: Any = None) -> Any:
    if len(node.args) > index:
        return node.args[index]
    names = [argument.name for argument in node.target._schema.arguments]
    return node.kwargs.get(names[index], default)


RANDOM = (
    *("bernoulli.p", "exponential.default", "rand.default", "rand_like.default"),
    *("randn.default", "randn_like.default", "native_dropout.default"),
)

OTHER_PRECISIONS = (torch.float16, torch.bfloat16, torch.float64)

RECURRENT = ("gru.input", "lstm.input", "rnn_relu.input", "rnn_tanh.input")

RULES: dict[str, Rule] = {
    "_native_batch_norm_legit.no_stats": _batch_norm_without_statistics,
    "_native_batch_norm_legit_functional.default": _training_batch_norm,
    "avg_pool2d.default": _average_pool,
    "avg_pool3d.default": _average_pool_3d,
    "max_pool1d_with_indices.default": _pool_with_indices,
    "max_pool2d_with_indices.default": _pool_with_indices,
    "max_pool3d_with_indices.default": _pool_with_indices,
}


def _convert_average_pool(node: torch.fx.Node, importer: ExportedProgramImporter) -> relax.Var:
    """TVM drops `divisor_override`: the mean over the whole window is scaled by its size over the divisor."""
    kernel, stride = _pair(_argument(node, 1)), _argument(node, 2)
    divisor = _argument(node, 6)
    pooled = importer.block_builder.emit(
        relax.op.nn.avg_pool2d(
            importer.env[node.args[0]],
            pool_size=kernel,
            strides=_pair(stride) if stride else kernel,
            padding=_pair(_argument(node, 3, 0)),
            ceil_mode=bool(_argument(node, 4, False)),
            count_include_pad=divisor is not None or bool(_argument(node, 5, True)),
        )
    )
    if divisor is None:
        return pooled
    scale = relax.const(math.prod(kernel) / divisor, pooled.ty.dtype)
    return importer.block_builder.emit(relax.op.multiply(pooled, scale))


def _convert_nearest(node: torch.fx.Node, importer: ExportedProgramImporter) -> relax.Var:
    """TVM rounds half-pixel places; torch takes the floor of the place times the scale."""
    size = [int(axis) for axis in node.meta["val"].shape[2:]]
    return importer.block_builder.emit(
        relax.op.image.resize2d(
            importer.env[node.args[0]],
            size,
            method="nearest_neighbor",
            coordinate_transformation_mode="asymmetric",
            rounding_method="floor",
        )
    )


def _convert_extremum(function: Callable[..., relax.Expr]) -> Converter:
    def convert(node: torch.fx.Node, importer: ExportedProgramImporter) -> relax.Var:
        axes, keepdims = _argument(node, 1, ()), bool(_argument(node, 2, False))
        x = importer.env[node.args[0]]
        return importer.block_builder.emit(function(x, list(axes) or None, keepdims))

    return convert


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    sizes = (value,) if isinstance(value, int) else tuple(value)
    return sizes * 2 if len(sizes) == 1 else sizes


CONVERTERS: dict[str, Converter] = {
    "amax.default": _convert_extremum(relax.op.max),
    "amin.default": _convert_extremum(relax.op.min),
    "avg_pool2d.default": _convert_average_pool,
    "upsample_nearest2d.vec": _convert_nearest,
}
