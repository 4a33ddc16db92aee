"""The door of the importer: whatever the user has, checked against its own framework."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import ModelNotReadable
from pipeline.importer.check import check_against_golden
from pipeline.importer.from_onnx import import_onnx
from pipeline.importer.from_torch import import_torch
from pipeline.importer.imported import Imported
from pipeline.network import Network
from relay_passes import REBORN, canonicalize

ZIP_MAGIC = b"PK\x03\x04"


def load_network(
    model: str | os.PathLike[str] | torch.nn.Module | torch.export.ExportedProgram,
    *,
    example_inputs: Any = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    name: str | None = None,
    seed: int = 0,
) -> Network:
    """Import a model and check that it computes what its framework computes.

    Parameters
    ----------
    model : path, torch.nn.Module or torch.export.ExportedProgram
        An ONNX file, a `torch.export` archive (told apart by their content), or a torch model in memory. A
        module has to be in eval mode.
    example_inputs : tensor or array, or a sequence of them, optional
        For torch: the golden inputs. A module needs them, or `input_shapes` by its forward's argument names.
    input_shapes : mapping of str to tuple of int, optional
        Sizes for inputs that the model leaves open.
    name : str, optional
        The network's name; by default the file's or the class's.
    seed : int
        For random golden inputs.

    Returns
    -------
    Network
        With a canonical module that agrees with its golden outputs, also before a final softmax.

    Raises
    ------
    UserError
        If the model cannot be read, is not supported, or would be imported wrong.
    """
    shapes = {key: tuple(shape) for key, shape in (input_shapes or {}).items()}
    examples = example_inputs
    if examples is not None and not (isinstance(examples, Sequence) and not hasattr(examples, "shape")):
        examples = (examples,)
    if isinstance(model, str | os.PathLike):
        path = Path(model)
        imported = _import_file(path, examples, shapes, seed)
        default_name = path.stem
    else:
        imported = import_torch(model, examples, shapes, seed)
        default_name = type(model).__name__.lower() if isinstance(model, torch.nn.Module) else "network"
    return _checked(imported, name or default_name)


def _import_file(
    path: Path, examples: Sequence[Any] | None, shapes: Mapping[str, tuple[int, ...]], seed: int
) -> Imported:
    try:
        with path.open("rb") as file:
            is_archive = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    except FileNotFoundError:
        raise ModelNotReadable(f"{path} does not exist") from None
    except OSError as error:
        raise ModelNotReadable(f"{path} cannot be read: {error.strerror}") from None
    if is_archive:
        return import_torch(path, examples, shapes, seed)
    return import_onnx(path, shapes, seed)


def _checked(imported: Imported, name: str) -> Network:
    module = canonicalize(imported.module, imported.weights, imported.layers)
    check_against_golden(module, imported.golden, imported.framework)
    return Network(
        name=name,
        module=module.with_attr(REBORN, list(imported.reborn)) if imported.reborn else module,
        inputs=imported.inputs,
        outputs=imported.outputs,
        golden=imported.golden,
        framework=imported.framework,
        source_digest=imported.source_digest,
    )
