"""Golden values: seeded inputs, and what onnxruntime or torch computes for them.

Outputs are kept before a final softmax or sigmoid too (`Golden.logits`): for random inputs a softmax over
many classes is nearly uniform, a sigmoid nearly 0, and both hide errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from pipeline.errors import ImportRefused
from pipeline.network import Golden, TensorSpec
from pipeline.torch_threads import one_thread

LONGEST_REASON = 300
ORT_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : |/\S+\.(cc|h):\d+ ")
ONNX_SQUASHING = ("LogSoftmax", "Sigmoid", "Softmax")
TORCH_SQUASHING = (
    *("softmax.int", "_softmax.default", "log_softmax.int", "_log_softmax.default"),
    "sigmoid.default",
)


def random_inputs(specs: Sequence[TensorSpec], seed: int) -> dict[str, np.ndarray]:
    """Normal numbers for floating-point inputs, 0 to 9 for integers, by input name."""
    generator = np.random.default_rng(seed)
    return {spec.name: _random(generator, spec) for spec in specs}


def onnx_golden(
    model: onnx.ModelProto, inputs: Mapping[str, np.ndarray], weights: Mapping[str, np.ndarray]
) -> Golden:
    """Run a model in onnxruntime.

    Parameters
    ----------
    model : onnx.ModelProto
        As the user gave it, but for fixed input sizes, and for large weights that are fed to it.
    inputs, weights : mapping of str to numpy.ndarray
        What it is fed, without being copied.

    Raises
    ------
    ImportRefused
        If onnxruntime cannot run the model.
    """
    outputs = [output.name for output in model.graph.output]
    sources = _softmax_inputs(model.graph)
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    added = dict.fromkeys(name for name in sources.values() if name not in (*outputs, *inputs))
    extended.graph.output.extend(onnx.ValueInfoProto(name=name) for name in added)
    names = [*outputs, *added]
    try:
        values = _session(extended).run(names, {**inputs, **weights})
    except Exception as error:
        reason = ORT_PREFIX.sub("", str(error))
        raise ImportRefused(f"onnxruntime cannot run the model: {_shortened(reason)}") from None
    found = {**inputs, **dict(zip(names, values, strict=True))}
    return Golden(
        inputs=dict(inputs),
        outputs={name: found[name] for name in outputs},
        logits={name: found[sources.get(name, name)] for name in outputs},
    )


def torch_golden(
    program: torch.export.ExportedProgram, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, str]
) -> Golden:
    """Run an exported program in torch.

    Parameters
    ----------
    program : torch.export.ExportedProgram
    inputs : mapping of str to numpy.ndarray
        By the names of the program's user inputs.
    outputs : mapping of str to str
        The graph's node for each output's name.

    Raises
    ------
    ImportRefused
        If torch cannot run the program on these inputs.
    """
    nodes = {node.name: node for node in program.graph.nodes}
    sources = {name: _before_softmax(nodes[node]).name for name, node in outputs.items()}
    try:
        values = _run(program, inputs, {*outputs.values(), *sources.values()})
    except Exception as error:
        raise ImportRefused(f"torch cannot run the program: {error}") from None
    return Golden(
        inputs=dict(inputs),
        outputs={name: values[node] for name, node in outputs.items()},
        logits={name: values[node] for name, node in sources.items()},
    )


def _random(generator: np.random.Generator, spec: TensorSpec) -> np.ndarray:
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return generator.standard_normal(spec.shape).astype(dtype)
    return generator.integers(0, 2 if dtype.kind == "b" else 10, spec.shape).astype(dtype)


def _softmax_inputs(graph: onnx.GraphProto) -> dict[str, str]:
    """What is read by the softmaxes and sigmoids that the graph ends in, by output name."""
    makers = {name: node for node in graph.node for name in node.output}
    found = {}
    for output in graph.output:
        maker = makers.get(output.name)
        while maker is not None and maker.op_type == "Identity":
            maker = makers.get(maker.input[0])
        if maker is not None and maker.op_type in ONNX_SQUASHING:
            found[output.name] = maker.input[0]
    return found


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."


def _before_softmax(node: torch.fx.Node) -> torch.fx.Node:
    name = getattr(node.target, "__name__", "")
    return node.args[0] if node.op == "call_function" and name in TORCH_SQUASHING else node


def _run(
    program: torch.export.ExportedProgram, inputs: Mapping[str, np.ndarray], wanted: set[str]
) -> dict[str, np.ndarray]:
    lifted = {**program.state_dict, **program.constants}
    arguments = [
        torch.from_numpy(np.array(inputs[spec.arg.name])) if spec.arg.name in inputs else lifted[spec.target]
        for spec in program.graph_signature.input_specs
    ]
    with one_thread(), torch.no_grad():
        interpreter = _Recorder(program.graph_module, wanted)
        interpreter.run(*arguments)
    return interpreter.values


class _Recorder(torch.fx.Interpreter):
    def __init__(self, module: torch.fx.GraphModule, wanted: set[str]):
        super().__init__(module)
        self._wanted = wanted
        self.values: dict[str, np.ndarray] = {}

    def run_node(self, n: torch.fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self._wanted:
            self.values[n.name] = value.numpy().copy()
        return value
