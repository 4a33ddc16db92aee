"""What an ONNX file takes and gives."""

from pathlib import Path

import onnx


def signature(model: Path) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """Return the shapes of its inputs by their names, and the names of its outputs."""
    graph = onnx.load(model, load_external_data=False).graph
    weights = {each.name for each in graph.initializer}
    inputs = {
        each.name: tuple(size.dim_value for size in each.type.tensor_type.shape.dim)
        for each in graph.input
        if each.name not in weights
    }
    return inputs, [each.name for each in graph.output]
