"""From an ONNX file to a Relax module with its weights beside it.

read -> name unsupported operators -> check -> fix input sizes -> fold constants -> correct -> TVM's importer
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
from pipeline.importer.onnx_constants import Shapes, constants, fold_constants
from pipeline.importer.onnx_file import check_onnx, fix_input_shapes, network_inputs, read_onnx
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
    module, weights = _to_relax(model)
    inputs = tuple(_spec(value, shapes) for value in network_inputs(source.graph))
    outputs = tuple(_spec(value, shapes) for value in _typed_outputs(source))
    return Imported(
        module=module,
        weights=weights,
        inputs=inputs,
        outputs=outputs,
        golden=onnx_golden(source, random_inputs(inputs, seed)),
        framework="onnx",
        source_digest=f"sha256:{sha256(path)}",
    )


def _to_relax(model: onnx.ModelProto) -> tuple[tvm.IRModule, Weights]:
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


def _typed_outputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    return list(onnx.shape_inference.infer_shapes(model).graph.output)


def _spec(value: onnx.ValueInfoProto, shapes: Shapes) -> TensorSpec:
    if value.name not in shapes:
        raise ImportRefused(f"the size of output {value.name!r} is known only at run time")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    return TensorSpec(value.name, shapes[value.name], str(dtype))
