"""Give weights that an exporter left without a name the name of the layer that reads them.

PyTorch's exporter calls a weight that it folded a batch norm into `onnx::Conv_497`; its node is still called
`/layer1/0/conv1/Conv`.
"""

from __future__ import annotations

from collections import defaultdict

import onnx

ANONYMOUS = "onnx::"
ROLES = {1: "weight", 2: "bias"}


def name_anonymous_weights(graph: onnx.GraphProto) -> None:
    """Rename the initializers that one named node alone reads, in place."""
    readers: dict[str, list[tuple[onnx.NodeProto, int]]] = defaultdict(list)
    for node in graph.node:
        for index, name in enumerate(node.input):
            readers[name].append((node, index))
    taken = {initializer.name for initializer in graph.initializer} | readers.keys()
    for initializer in graph.initializer:
        uses = readers[initializer.name]
        if not initializer.name.startswith(ANONYMOUS) or len(uses) != 1:
            continue
        node, index = uses[0]
        name = f"{node.name}.{ROLES.get(index)}"
        if node.name and index in ROLES and name not in taken:
            node.input[index] = initializer.name = name
            taken.add(name)
