"""From a module to an ONNX model.

Opset 17 is the last before reductions, splits and paddings changed their form, and what the importers of
other runtimes know best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata

import onnx
import tvm
from onnx import helper

from pipeline.exporter.graph import write_graph
from pipeline.exporter.translation import translate

OPSET = 17
IR_VERSION = 8
PRODUCER = "deeprebirth"


def to_onnx(
    module: tvm.IRModule,
    *,
    name: str = "network",
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    description: str = "",
    properties: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """Write a module as an ONNX model.

    Parameters
    ----------
    module : tvm.IRModule
        Canonical (docs/architecture.md).
    name : str
        The graph's.
    inputs, outputs : sequence of str, optional
        Names, in order; by default those of `main`'s parameters, and `output_0` and so on.
    description : str
        The model's `doc_string`.
    properties : mapping of str to str, optional
        The model's `metadata_props`.

    Returns
    -------
    onnx.ModelProto
        Of `OPSET`. Nodes have the layers' names, weights `<layer>.weight` and `<layer>.bias`.

    Raises
    ------
    UnsupportedOperators
        Naming every operator that cannot be written, with its layers.
    """
    translation = translate(module)
    model = helper.make_model(
        onnx.GraphProto(name=name),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name=PRODUCER,
        producer_version=metadata.version(PRODUCER),
        doc_string=description,
    )
    write_graph(
        model.graph,
        translation,
        [var.name for var in module["main"].params] if inputs is None else inputs,
        [f"output_{i}" for i in range(len(translation.outputs))] if outputs is None else outputs,
    )
    helper.set_model_props(model, dict(properties or {}))
    return model
