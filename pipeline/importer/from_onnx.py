"""From an ONNX file to a Relax module with its weights beside it.

Read, name unsupported operators, check, fix input sizes, fold constants, correct, then TVM's importer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import tvm

from pipeline.errors import ImportRefused
from pipeline.files import sha256
from pipeline.golden import onnx_golden, random_inputs
from pipeline.importer.imported import Imported, Layers
from pipeline.importer.onnx_constants import Shapes, constants, fold_constants
from pipeline.importer.onnx_file import check_onnx, fix_input_shapes, network_inputs, read_onnx
from pipeline.importer.onnx_names import layer_names, name_anonymous_weights
from pipeline.importer.onnx_rules import correct, refuse_unsupported
from pipeline.importer.onnx_traced import import_traced
from pipeline.network import TensorSpec

Weights = dict[str, np.ndarray]


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
    model = read_onnx(path)
    refuse_unsupported(model)
    check_onnx(model, path)
    fix_input_shapes(model, input_shapes)
    source = onnx.ModelProto()
    source.CopyFrom(model)
    shapes = fold_constants(model)
    correct(model, shapes, constants(model.graph))
    inputs = tuple(_input_spec(value) for value in network_inputs(source.graph))
    golden = onnx_golden(source, random_inputs(inputs, seed))
    for output in model.graph.output:
        if output.name not in shapes:
            raise ImportRefused(f"the size of output {output.name!r} is known only at run time")
    module, weights, layers = _to_relax(model, shapes)
    return Imported(
        module=module,
        weights=weights,
        layers=layers,
        inputs=inputs,
        outputs=tuple(
            TensorSpec(name, value.shape, str(value.dtype)) for name, value in golden.outputs.items()
        ),
        golden=golden,
        framework="onnx",
        source_digest=f"sha256:{sha256(path)}",
    )


def _to_relax(model: onnx.ModelProto, shapes: Shapes) -> tuple[tvm.IRModule, Weights, Layers]:
    names = {tensor: layer for tensor, layer in layer_names(model.graph).items() if tensor in shapes}
    name_anonymous_weights(model.graph)
    _write_integers_as_nodes(model.graph)
    module, values = import_traced(model, names)
    function = module["main"]
    arrays = (function.attrs or {}).get("params", [])
    params = function.params[int(function.attrs["num_input"]) :]
    weights = {var.name: array.numpy() for var, array in zip(params, arrays, strict=True)}
    layers = {values[tensor]: layer for tensor, layer in reversed(names.items())}
    return module, weights, layers


def _write_integers_as_nodes(graph: onnx.GraphProto) -> None:
    """TVM takes every initializer for a weight, but shapes and axes have to be known: they become nodes."""
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    weights = [initializer for initializer in graph.initializer if initializer.data_type in floats]
    shapes = [initializer for initializer in graph.initializer if initializer.data_type not in floats]
    nodes = [onnx.helper.make_node("Constant", [], [shape.name], value=shape) for shape in shapes]
    layers = list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(weights)
    graph.node.extend((*nodes, *layers))


def _input_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(dimension.dim_value for dimension in tensor.shape.dim)
    return TensorSpec(value.name, shape, str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)))
