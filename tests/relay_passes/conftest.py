"""Tiny networks in canonical form, beside what their own framework computes for them."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import tvm
from onnx import helper, numpy_helper
from torch.export.graph_signature import InputKind
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx as tvm_from_onnx
from tvm.relax.frontend.torch import from_exported_program

from pipeline.twin import evaluate
from relay_passes import canonicalize
from relay_passes.graph import Graph, operator_of


@dataclass(frozen=True)
class Case:
    """A canonical module, inputs, and the outputs that its framework computes for them."""

    module: tvm.IRModule
    inputs: tuple[np.ndarray, ...]
    expected: tuple[np.ndarray, ...]

    def difference(self, module: tvm.IRModule | None = None) -> float:
        """The largest difference of an output from the expected, relative to the largest expected value."""
        values = evaluate(self.module if module is None else module, self.inputs)
        assert [value.shape for value in values] == [wanted.shape for wanted in self.expected]
        return max(
            float(np.abs(value - wanted).max() / max(np.abs(wanted).max(), 1e-3))
            for value, wanted in zip(values, self.expected, strict=True)
        )


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="session")
def from_torch() -> Callable[..., Case]:
    """A function of a module and its inputs: export, TVM's importer, canonical form.

    Without batch norm, which TVM would take for one in training, the operators stay as torch exports them:
    that takes a third of the time.
    """
    return functools.partial(_from_torch, decomposed=False)


@pytest.fixture(scope="session")
def from_decomposed_torch() -> Callable[..., Case]:
    """The same after torch's own decomposition, as the product imports."""
    return functools.partial(_from_torch, decomposed=True)


@pytest.fixture(scope="session")
def from_onnx() -> Callable[..., Case]:
    """A function of nodes, inputs, weights and output names: TVM's importer, canonical form."""
    return _from_onnx


@pytest.fixture(scope="session")
def built() -> Callable[..., tvm.IRModule]:
    """A function that makes a module by hand: the shape of `x`, and what computes the outputs from it."""
    return _built


@pytest.fixture(scope="session")
def operators() -> Callable[[tvm.IRModule], list[str]]:
    """A function that lists the operators of `main`, in order."""

    def listed(module: tvm.IRModule) -> list[str]:
        graph = Graph(module)
        return [operator_of(graph.value[var]) or graph.kind(graph.value[var]) for var in graph.layers]

    return listed


@pytest.fixture(scope="session")
def names() -> Callable[[tvm.IRModule], list[str]]:
    """A function that lists the layers' names, in order."""
    return lambda module: [var.name for var in Graph(module).layers]


def _from_torch(module: torch.nn.Module, *inputs: torch.Tensor, decomposed: bool) -> Case:
    module = module.eval()
    program = torch.export.export(module, inputs)
    if decomposed or any("batch_norm" in str(node.target) for node in program.graph.nodes):
        program = program.run_decompositions()
    imported = from_exported_program(
        program, keep_params_as_input=True, unwrap_unit_return_tuple=True, run_ep_decomposition=False
    )
    function = imported["main"]
    targets = {
        spec.arg.name: spec.target
        for spec in program.graph_signature.input_specs
        if spec.kind is InputKind.PARAMETER
    }
    renamed = {var: relax.Var(targets[var.name], var.ty) for var in function.params if var.name in targets}
    body = function.bind_params(renamed).body
    params = [renamed.get(var, var) for var in function.params]
    imported["main"] = relax.Function(params, body, function.ret_ty, function.is_pure, function.attrs)
    weights = {name: program.state_dict[name].detach().numpy() for name in targets.values()}
    with torch.no_grad():
        outputs = module(*inputs)
    outputs = (outputs,) if isinstance(outputs, torch.Tensor) else tuple(outputs)
    return Case(
        canonicalize(imported, weights),
        tuple(value.numpy() for value in inputs),
        tuple(value.numpy() for value in outputs),
    )


def _from_onnx(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, np.ndarray],
    weights: Mapping[str, np.ndarray],
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
) -> Case:
    graph = helper.make_graph(
        nodes,
        "graph",
        [
            helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for k, v in inputs.items()
        ],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(list(outputs), dict(inputs))
    imported = tvm_from_onnx(model, keep_params_in_input=True, sanitize_input_names=False)
    function = imported["main"]
    params = function.params[int(function.attrs["num_input"]) :]
    values = (function.attrs or {}).get("params", [])
    bound = {var.name: value.numpy() for var, value in zip(params, values, strict=True)}
    return Case(canonicalize(imported, bound), tuple(inputs.values()), tuple(expected))


def _value_info(name: str, value: np.ndarray) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def _built(
    shape: Sequence[int],
    compute: Callable[[relax.BlockBuilder, relax.Var], relax.Expr | tuple[relax.Expr, ...]],
    dtype: str = "float32",
) -> tvm.IRModule:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(shape, dtype))
    with builder.function("main", [x]):
        with builder.dataflow():
            computed = compute(builder, x)
            is_tuple = isinstance(computed, tuple)
            result = builder.emit_output(relax.Tuple(list(computed)) if is_tuple else computed)
        builder.emit_func_output(result)
    return builder.finalize()


@pytest.fixture(scope="session")
def randomised() -> Callable[[torch.nn.Module], torch.nn.Module]:
    """A function that gives the batch norms of a module statistics and scales as training would."""

    def randomise(module: torch.nn.Module) -> torch.nn.Module:
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.normal_()
                part.running_var.uniform_(0.3, 2)
                part.weight.data.uniform_(0.3, 2)
                part.bias.data.normal_()
        return module

    return randomise
