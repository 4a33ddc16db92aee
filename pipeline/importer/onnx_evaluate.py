"""Compute one ONNX node from constants.

ONNX's own evaluator does it in numpy; onnxruntime does what that one lacks, such as older DequantizeLinear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

Run = Callable[[onnx.ModelProto, Mapping[str, np.ndarray]], list[np.ndarray]]


def evaluate_node(
    node: onnx.NodeProto, known: Mapping[str, np.ndarray], opsets: Iterable[onnx.OperatorSetIdProto]
) -> dict[str, np.ndarray] | None:
    """The outputs of a node by name, or None if neither evaluator can compute them.

    Parameters
    ----------
    node : onnx.NodeProto
        Without subgraphs.
    known : mapping of str to numpy.ndarray
        Among others, the node's inputs.
    opsets : iterable of onnx.OperatorSetIdProto
    """
    feeds = {name: known[name] for name in node.input if name}
    outputs = [name for name in node.output if name]
    model = _alone(node, feeds, outputs, opsets)
    for run in (_in_numpy, _in_onnxruntime):
        try:
            values = run(model, feeds)
        except Exception:
            continue
        return dict(zip(outputs, values, strict=True))
    return None


def _alone(
    node: onnx.NodeProto,
    feeds: Mapping[str, np.ndarray],
    outputs: Iterable[str],
    opsets: Iterable[onnx.OperatorSetIdProto],
) -> onnx.ModelProto:
    helper = onnx.helper
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in feeds.items()
    ]
    graph = helper.make_graph([node], "node", inputs, list(map(helper.make_empty_tensor_value_info, outputs)))
    return helper.make_model(graph, opset_imports=list(opsets), ir_version=8)


def _in_numpy(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    return list(map(np.asarray, ReferenceEvaluator(model).run(None, dict(feeds))))


def _in_onnxruntime(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    data, providers = model.SerializeToString(), ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(data, options, providers=providers).run(None, dict(feeds))
