"""What the user of a torch program calls its layers.

A layer is called after its module (`features.pool1`). A function that a module with parts of its own calls
between them is called after both (`layer1.0.add`), and so is every function but the last of a module that
calls several. What the outermost module calls is called as in the exported program (`max_pool2d_1`), or after
the function if that was exported as several calls (`local_response_norm`).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch

from relay_passes.canonicalize.name_layers import numbered


@dataclass(frozen=True)
class _Call:
    """A function as a module calls it. `modules` are the paths of the modules around it, outermost first."""

    modules: tuple[str, ...]
    module_call: str
    function: str
    function_call: str

    @classmethod
    def of(cls, node: torch.fx.Node) -> _Call:
        """The call that a node of a program, also of a decomposed one, is part of."""
        stack = node.meta.get("nn_module_stack") or {"": ("", None)}
        function_call, qualified = node.meta.get("torch_fn") or (node.name, node.name)
        return cls(
            modules=tuple(path for path, _ in stack.values()),
            module_call=list(stack)[-1],
            function=qualified.rpartition(".")[2].strip("_"),
            function_call=function_call,
        )


def layer_names(program: torch.export.ExportedProgram) -> dict[torch.fx.Node, str]:
    """The layer that each call of a program belongs to.

    Parameters
    ----------
    program : torch.export.ExportedProgram
        As exported or after torch's own decomposition, in which the calls of one layer are found again.

    Returns
    -------
    dict of torch.fx.Node to str
        No two layers have one name; equal ones are numbered.
    """
    nodes: dict[_Call, list[torch.fx.Node]] = defaultdict(list)
    for node in program.graph.nodes:
        if node.op == "call_function":
            nodes[_Call.of(node)].append(node)
    last = {call.module_call: call for call in nodes}
    with_parts = {"", *(path for call in nodes for path in call.modules[:-1])}
    names: dict[torch.fx.Node, str] = {}
    taken: set[str] = set()
    for call, parts in nodes.items():
        path = call.modules[-1]
        exported = {_exported_name(node) for node in parts}
        if path not in with_parts and last[call.module_call] == call:
            name = path
        elif path:
            name = f"{path}.{call.function}"
        else:
            name = exported.pop() if len(exported) == 1 else call.function
        name = numbered(name, taken)
        taken.add(name)
        names.update(dict.fromkeys(parts, name))
    return names


def _exported_name(node: torch.fx.Node) -> str:
    """The name of the node before torch's decomposition."""
    sources = node.meta.get("from_node")
    return sources[-1].name if sources else node.name
