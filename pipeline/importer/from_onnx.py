"""From an ONNX file to a Relax module with its weights beside it.

Read, name unsupported operators, check, fix input sizes, fold constants, correct, then TVM's importer.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import tvm
from tvm.relax.frontend.onnx import from_onnx

from pipeline.errors import ImportRefused
from pipeline.files import sha256
from pipeline.golden import onnx_golden, random_inputs
from pipeline.importer.imported import Imported
from pipeline.importer.onnx_constants import constants, fold_constants
from pipeline.importer.onnx_file import check_onnx, fix_input_shapes, network_inputs, read_onnx
from pipeline.importer.onnx_names import name_anonymous_weights
from pipeline.importer.onnx_rules import correct, refuse_unsupported
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
    module, weights = _to_relax(model)
    return Imported(
        module=module,
        weights=weights,
        inputs=inputs,
        outputs=tuple(
            TensorSpec(name, value.shape, str(value.dtype)) for name, value in golden.outputs.items()
        ),
        golden=golden,
        framework="onnx",
        source_digest=f"sha256:{sha256(path)}",
    )


def _to_relax(model: onnx.ModelProto) -> tuple[tvm.IRModule, Weights]:
    name_anonymous_weights(model.graph)
    _write_integers_as_nodes(model.graph)
    printed = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
            warnings.simplefilter("ignore")
            module = from_onnx(model, keep_params_in_input=True, sanitize_input_names=False)
    except Exception as error:
        where = printed.getvalue().partition(", with inputs")[0]
        raise ImportRefused(f"TVM cannot import the model: {where} {error}") from None
    function = module["main"]
    values = (function.attrs or {}).get("params", [])
    params = function.params[int(function.attrs["num_input"]) :]
    return module, {var.name: value.numpy() for var, value in zip(params, values, strict=True)}


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
