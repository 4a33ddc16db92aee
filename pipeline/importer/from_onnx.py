"""From an ONNX file to a Relax module with its weights beside it.

Read, name unsupported operators, check, fix input sizes, fold constants, correct, then TVM's importer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import tvm
from pydantic import TypeAdapter, ValidationError

from pipeline.errors import ImportRefused
from pipeline.files import sha256
from pipeline.golden import onnx_golden, random_inputs
from pipeline.importer.imported import Imported, Layers
from pipeline.importer.onnx_constants import Shapes, constants, data_types, fold_constants
from pipeline.importer.onnx_file import check_onnx, fix_input_shapes, network_inputs, read_onnx
from pipeline.importer.onnx_names import layer_names, name_weights, number_equal_nodes, rearranged_weights
from pipeline.importer.onnx_rules import correct, refuse_half_precision, refuse_unsupported
from pipeline.importer.onnx_traced import import_traced
from pipeline.importer.onnx_weights import Weights, replace_all, with_weights_as_inputs
from pipeline.network import Golden, TensorSpec
from relay_passes import REBORN

Tensors = dict[str, tvm.runtime.Tensor]


def import_onnx(path: Path, input_shapes: Mapping[str, tuple[int, ...]], seed: int) -> Imported:
    """Import an ONNX file.

    Parameters
    ----------
    path : Path
    input_shapes : mapping of str to tuple of int
        Sizes for inputs that the model leaves open.
    seed : int
        For the golden inputs.

    Raises
    ------
    UserError
        If the file, the sizes or the operators do not allow it.
    """
    model, weights = read_onnx(path)
    refuse_unsupported(model)
    check_onnx(model, weights, path)
    fix_input_shapes(model, input_shapes)
    number_equal_nodes(model.graph)
    inputs = tuple(_input_spec(value) for value in network_inputs(model.graph))
    origins = rearranged_weights(model.graph)
    shapes, golden = _settle(model, weights, random_inputs(inputs, seed))
    module, tensors, layers = _to_relax(model, weights, shapes, origins)
    return Imported(
        module=module,
        weights=tensors,
        layers=layers,
        inputs=inputs,
        outputs=tuple(
            TensorSpec(name, value.shape, str(value.dtype)) for name, value in golden.outputs.items()
        ),
        golden=golden,
        framework="onnx",
        source_digest=f"sha256:{sha256(path)}",
        reborn=_reborn(model),
    )


def _reborn(model: onnx.ModelProto) -> tuple[str, ...]:
    """The layers that a file of our own says are not trained."""
    text = next((each.value for each in model.metadata_props if each.key == REBORN), "[]")
    try:
        return TypeAdapter(tuple[str, ...]).validate_json(text)
    except ValidationError:
        raise ImportRefused(f"the file's {REBORN} is no list of layers: export the network again") from None


def _settle(
    model: onnx.ModelProto, weights: Weights, inputs: Mapping[str, np.ndarray]
) -> tuple[Shapes, Golden]:
    """Fold and correct a model, and compute the golden values of what it was before."""
    source = with_weights_as_inputs(model, weights)
    given = dict(weights)
    shapes = fold_constants(model, weights)
    refuse_half_precision(model, data_types(model, weights))
    correct(model, shapes, constants(model.graph, weights))
    golden = onnx_golden(source, inputs, given)
    for output in model.graph.output:
        if output.name not in shapes:
            raise ImportRefused(f"the size of output {output.name!r} is known only at run time")
    return shapes, golden


def _to_relax(
    model: onnx.ModelProto, weights: Weights, shapes: Shapes, origins: Mapping[str, str]
) -> tuple[tvm.IRModule, Tensors, Layers]:
    """Convert the model; `weights` is empty afterwards, as no array is kept twice."""
    graph = model.graph
    names = {tensor: layer for tensor, layer in layer_names(graph).items() if tensor in shapes}
    inputs = len(network_inputs(graph))
    for old, new in name_weights(graph, origins).items():
        if old in weights:
            weights[new] = weights.pop(old)
    _write_integers_as_nodes(graph)
    module, values = import_traced(with_weights_as_inputs(model, weights), names)
    function = module["main"]
    fed = int(function.attrs["num_input"])
    small = zip(function.params[fed:], (function.attrs or {}).get("params", []), strict=True)
    tensors = {var.name: tensor for var, tensor in small}
    tensors |= {name: tvm.runtime.tensor(weights.pop(name)) for name in list(weights)}
    module["main"] = function.with_attr("num_input", inputs)
    layers = {values[tensor]: layer for tensor, layer in reversed(names.items())}
    return module, tensors, layers


def _write_integers_as_nodes(graph: onnx.GraphProto) -> None:
    """TVM takes every initializer for a weight, but shapes and axes have to be known: they become nodes."""
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    weights = [initializer for initializer in graph.initializer if initializer.data_type in floats]
    shapes = [initializer for initializer in graph.initializer if initializer.data_type not in floats]
    nodes = [onnx.helper.make_node("Constant", [], [shape.name], value=shape) for shape in shapes]
    replace_all(graph.initializer, weights)
    replace_all(graph.node, [*nodes, *graph.node])


def _input_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(dimension.dim_value for dimension in tensor.shape.dim)
    return TensorSpec(value.name, shape, str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)))
