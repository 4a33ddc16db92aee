"""From a torch module, exported program or .pt2 archive to a Relax module with its weights beside it.

Load or export, fix input sizes, name what is refused, TVM's importer, then the user's weight names.
"""

from __future__ import annotations

import hashlib
import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tvm
from torch.export.graph_signature import InputKind
from tvm import relax
from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

from pipeline.errors import ImportRefused, ShapeNeeded, UserError
from pipeline.files import sha256
from pipeline.golden import random_inputs, torch_golden
from pipeline.importer.imported import Imported, Layers
from pipeline.importer.torch_archive import load_archive
from pipeline.importer.torch_names import layer_names
from pipeline.importer.torch_rules import CONVERTERS, refuse_recurrent, refuse_unsupported
from pipeline.network import TensorSpec

ExportedProgram = torch.export.ExportedProgram
Shapes = Mapping[str, tuple[int, ...]]


def import_torch(
    model: Path | torch.nn.Module | ExportedProgram,
    example_inputs: Sequence[Any] | None,
    input_shapes: Shapes,
    seed: int,
) -> Imported:
    """Import a torch model.

    Parameters
    ----------
    model : Path, torch.nn.Module or torch.export.ExportedProgram
        A module has to be in eval mode; it is exported here.
    example_inputs : sequence of tensors or arrays, optional
        The golden inputs; for a module they also give the sizes. Without them the archive's own are used,
        else seeded random ones.
    input_shapes : mapping of str to tuple of int
        Sizes for inputs that the model leaves open.
    seed : int

    Raises
    ------
    UserError
        If the model, the sizes or the operators do not allow it.
    """
    examples = None if example_inputs is None else _tensors(example_inputs)
    if isinstance(model, torch.nn.Module):
        _refuse_training(model)
        digest = _digest(model.state_dict())
        program = _export(model, examples or _random_arguments(model, input_shapes, seed))
    else:
        program = load_archive(model) if isinstance(model, Path) else model
        digest = f"sha256:{sha256(model)}" if isinstance(model, Path) else _digest(program.state_dict)
        program = _with_fixed_sizes(program, examples, input_shapes, seed)
    inputs = _input_specs(program)
    outputs = _outputs(program)
    _refuse_wrong_shapes(inputs, input_shapes)
    refuse_recurrent(program)
    decomposed = _decompose(program)
    refuse_unsupported(decomposed)
    module, weights, layers = _to_relax(decomposed)
    arrays = _example_arrays(program, examples, inputs) or random_inputs(inputs, seed)
    return Imported(
        module=module,
        weights=weights,
        layers=layers,
        inputs=inputs,
        outputs=tuple(_spec(name, node.meta["val"]) for name, node in outputs.items()),
        golden=torch_golden(program, arrays, {name: node.name for name, node in outputs.items()}),
        framework="torch",
        source_digest=digest,
    )


def _tensors(values: Sequence[Any]) -> list[torch.Tensor]:
    try:
        return [torch.as_tensor(value) for value in values]
    except (RuntimeError, TypeError, ValueError):
        kinds = ", ".join(type(value).__name__ for value in values)
        raise UserError(
            f"example_inputs must be tensors or arrays, one for each input, not {kinds}"
        ) from None


def _refuse_training(module: torch.nn.Module) -> None:
    for name, part in module.named_modules():
        if part.training:
            which = f"{name} of {type(module).__name__}" if name else type(module).__name__
            raise ImportRefused(f"{which} is in training mode: call eval() on the model first")


def _export(module: torch.nn.Module, arguments: Sequence[torch.Tensor]) -> ExportedProgram:
    try:
        return torch.export.export(module, tuple(arguments))
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ImportRefused(f"torch.export cannot export {type(module).__name__}: {reason}") from None


def _random_arguments(module: torch.nn.Module, shapes: Shapes, seed: int) -> list[torch.Tensor]:
    names = [name for name in inspect.signature(module.forward).parameters if name in shapes]
    if not names or len(names) < len(shapes):
        expected = ", ".join(inspect.signature(module.forward).parameters)
        raise UserError(f"{type(module).__name__} needs example_inputs, or input_shapes for {expected}")
    specs = [TensorSpec(name, tuple(shapes[name]), "float32") for name in names]
    return [torch.from_numpy(array) for array in random_inputs(specs, seed).values()]


def _with_fixed_sizes(
    program: ExportedProgram, examples: Sequence[torch.Tensor] | None, shapes: Shapes, seed: int
) -> ExportedProgram:
    """Export a program with symbolic sizes again, with fixed ones."""
    placeholders = _user_inputs(program)
    names = [node.name for node in placeholders]
    if unknown := [name for name in shapes if name not in names]:
        raise ImportRefused(f"no input is called {unknown[0]!r}: the inputs are {', '.join(names)}")
    if not any(_open_dimensions(node) for node in placeholders):
        return program
    if examples is None:
        specs = [_fixed_spec(node, shapes) for node in placeholders]
        examples = [torch.from_numpy(array) for array in random_inputs(specs, seed).values()]
    return _export(program.module(), examples)


def _fixed_spec(node: torch.fx.Node, shapes: Shapes) -> TensorSpec:
    value = node.meta["val"]
    if node.name not in shapes and (open_axes := _open_dimensions(node)):
        axis, symbol = open_axes[0], str(value.shape[open_axes[0]])
        example = "x".join("1" if i in open_axes else str(size) for i, size in enumerate(value.shape))
        raise ShapeNeeded(
            f"input {node.name!r} has no fixed size for dimension {axis} ({symbol!r}):"
            f" give --input-shape {node.name}:{example}, with the size you want"
        )
    return TensorSpec(node.name, tuple(shapes.get(node.name, value.shape)), _dtype(value))


def _open_dimensions(node: torch.fx.Node) -> list[int]:
    return [axis for axis, size in enumerate(node.meta["val"].shape) if not isinstance(size, int)]


def _user_inputs(program: ExportedProgram) -> list[torch.fx.Node]:
    """The placeholders of the inputs, all of which have to be tensors."""
    nodes = {node.name: node for node in program.graph.find_nodes(op="placeholder")}
    specs = [spec for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT]
    for spec in specs:
        if not isinstance(nodes.get(spec.arg.name) and nodes[spec.arg.name].meta.get("val"), torch.Tensor):
            raise ImportRefused(f"input {spec.arg.name!r} is not a tensor")
    return [nodes[spec.arg.name] for spec in specs]


def _input_specs(program: ExportedProgram) -> tuple[TensorSpec, ...]:
    return tuple(_spec(node.name, node.meta["val"]) for node in _user_inputs(program))


def _outputs(program: ExportedProgram) -> dict[str, torch.fx.Node]:
    """The nodes that leave the network, as `output`, or `output_0`, `output_1` and so on."""
    nodes = {node.name: node for node in program.graph.nodes}
    names = [nodes.get(name) for name in program.graph_signature.user_outputs]
    if not names or any(node is None or not isinstance(node.meta.get("val"), torch.Tensor) for node in names):
        raise ImportRefused("an output of the model is not a tensor")
    return {"output" if len(names) == 1 else f"output_{i}": node for i, node in enumerate(names)}


def _refuse_wrong_shapes(inputs: Sequence[TensorSpec], shapes: Shapes) -> None:
    own = {spec.name: spec.shape for spec in inputs}
    for name, shape in shapes.items():
        if own[name] != shape:
            raise ImportRefused(
                f"input {name!r} was exported with the fixed size {'x'.join(map(str, own[name]))}:"
                " export it with that dimension dynamic, or leave --input-shape out"
            )


def _spec(name: str, value: torch.Tensor) -> TensorSpec:
    return TensorSpec(name, tuple(int(size) for size in value.shape), _dtype(value))


def _dtype(value: torch.Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _decompose(program: ExportedProgram) -> ExportedProgram:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return program.run_decompositions()


def _to_relax(program: ExportedProgram) -> tuple[tvm.IRModule, dict[str, np.ndarray], Layers]:
    """The module, its weights, and the layer that each of its values belongs to."""
    importer = ExportedProgramImporter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = importer.from_exported_program(
                program,
                keep_params_as_input=True,
                unwrap_unit_return_tuple=True,
                no_bind_return_tuple=False,
                custom_convert_map=CONVERTERS,
            )
    except Exception as error:
        raise ImportRefused(f"TVM cannot import the program: {error}") from None
    names = {
        spec.arg.name: spec.target
        for spec in program.graph_signature.input_specs
        if spec.kind is InputKind.PARAMETER
    }
    weights = {target: program.state_dict[target].detach().cpu().numpy() for target in names.values()}
    layers = {importer.env[node]: layer for node, layer in reversed(layer_names(program).items())}
    return _with_weight_names(module, names), weights, layers


def _with_weight_names(module: tvm.IRModule, names: Mapping[str, str]) -> tvm.IRModule:
    """Call the parameters of `main` what the user calls the weights (`p_conv1_weight` is `conv1.weight`)."""
    function = module["main"]
    renamed = {var: relax.Var(names[var.name], var.ty) for var in function.params if var.name in names}
    body = function.bind_params(renamed).body
    params = [renamed.get(var, var) for var in function.params]
    module["main"] = relax.Function(params, body, function.ret_ty, function.is_pure, function.attrs)
    return module


def _example_arrays(
    program: ExportedProgram, examples: Sequence[torch.Tensor] | None, inputs: Sequence[TensorSpec]
) -> dict[str, np.ndarray] | None:
    """The caller's example inputs, else the program's own, if they are of the right shapes."""
    given = examples if examples is not None else list(_leaves(program.example_inputs or ()))
    shapes = [tuple(value.shape) if isinstance(value, torch.Tensor) else None for value in given]
    if shapes != [spec.shape for spec in inputs]:
        if examples is None:
            return None
        raise ImportRefused(f"example inputs of shapes {shapes} do not fit the model's inputs {list(inputs)}")
    return {spec.name: v.detach().cpu().numpy() for spec, v in zip(inputs, given, strict=True)}


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _digest(weights: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in weights.items():
        digest.update(name.encode())
        data = value.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(data.numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"
