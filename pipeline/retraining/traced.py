"""A twin that also tells what its layers compute, and is held to compute each sample by itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

import torch
import tvm
from torch import Tensor, nn
from tvm import relax

from pipeline.errors import UserError
from pipeline.retraining.objective import Output, Values
from pipeline.twin import Twin
from relay_passes import REBORN, squashing, strip_softmax
from relay_passes.graph import Graph

TOLERANCE = 1e-3
"""Of the largest value; sums in another order differ by rounding."""


class Traced(nn.Module):
    """The twin of a module that returns `Values`.

    Parameters
    ----------
    module : tvm.IRModule
    layers : iterable of str
        Whose values are wanted.
    """

    def __init__(self, module: tvm.IRModule, layers: Iterable[str] = ()):
        super().__init__()
        self.module = module
        self.twin = Twin(module).to(memory_format=torch.channels_last)
        self._inputs = [var.name for var in Graph(module).inputs]
        self._logits = [_name(each) for each in Graph(strip_softmax(module)).outputs]
        self._layers = list(layers)

    def forward(self, *inputs: Tensor) -> Values:
        """Compute a batch."""
        given = dict(zip(self._inputs, inputs, strict=True))
        wanted = [name for name in {*self._logits, *self._layers} - {None} if name not in given]
        outputs, values = self.twin.run([_fast(each) for each in inputs], wanted)
        values |= given
        logits = tuple(
            output if name is None else values[name]
            for name, output in zip(self._logits, outputs, strict=True)
        )
        return Values(outputs, logits, {name: values[name] for name in self._layers})

    def value(self, inputs: Sequence[Tensor], name: str) -> Tensor:
        """What one layer computes, or an input of this name."""
        given = dict(zip(self._inputs, inputs, strict=True))
        return given[name] if name in given else self.twin.run(inputs, [name])[1][name]

    def first_not_finite(self, inputs: Sequence[Tensor]) -> str | None:
        """Say in words where the first number comes from that is infinite or none, if there is one."""
        if not all(torch.isfinite(each).all() for each in inputs):
            return "the data holds numbers that are not finite"
        constants = {**dict(self.twin.named_parameters()), **dict(self.twin.named_buffers())}
        names = _tensors(self.module)
        for name in names:
            if not all(torch.isfinite(constants[each]).all() for each in self.twin.layers.get(name, ())):
                return f"the weights of layer {name} are not finite"
        with torch.no_grad():
            values = self.twin.run(inputs, names)[1]
        name = next((name for name in names if not torch.isfinite(values[name]).all()), None)
        return None if name is None else f"it begins in layer {name}"

    def last_gradient_not_finite(self) -> str | None:
        """Say in words at which layer gradients, which go from the top down, stop being finite."""
        for layer, names in reversed(self.twin.layers.items()):
            for gradient in (getattr(self.twin, name).grad for name in names):
                if gradient is not None and not torch.isfinite(gradient).all():
                    return f"layer {layer}"
        return None

    def write_back(self) -> tvm.IRModule:
        """The module with the twin's values, and no layer left to be trained."""
        return self.twin.write_back(self.module).with_attr(REBORN, [])


def kinds_of(module: tvm.IRModule, *, are_classes: bool) -> tuple[Output, ...]:
    """What each output of a network is.

    Parameters
    ----------
    module : tvm.IRModule
    are_classes : bool
        Whether outputs behind no softmax are scores of classes.
    """
    names: dict[str | None, Output] = {
        "softmax": "classes",
        "sigmoid": "probabilities",
        None: "classes" if are_classes else "values",
    }
    return tuple(names[each] for each in squashing(module))


def check_samples(module: tvm.IRModule, inputs: Sequence[Tensor]) -> None:
    """Insist that a network computes each sample of a batch by itself.

    Parameters
    ----------
    module : tvm.IRModule
    inputs : sequence of Tensor
        Two samples or more.

    Raises
    ------
    UserError
        It does not; the message names the first layer that mixes samples.
    """
    names = _tensors(module)
    batches = [[each[:1] for each in inputs], [each[1:2] for each in inputs], [each[:2] for each in inputs]]
    with torch.inference_mode():
        first, second, both = (_computed(module, batch, names) for batch in batches)
    for name in names:
        alone = [each[name] for each in (first, second) if name in each]
        if len(alone) < 2 or name not in both or not _agree(both[name], alone):
            raise UserError(
                f"the network cannot be retrained in batches: layer {name} does not compute each sample by "
                "itself; leave the batch axis, the first, as it is in the model's reshapes and slices"
            )


def _computed(module: tvm.IRModule, inputs: Sequence[Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """The layers' values, up to the first that cannot be computed."""
    with suppress(RuntimeError, IndexError):
        return Twin(module).run(inputs, names)[1]
    graph, values = Graph(module), {}
    with suppress(RuntimeError, IndexError):
        for var in graph.layers:
            if var.name in names:
                values[var.name] = Twin(graph.rewrite({}, outputs=(var,))).run(inputs)[0][0]
    return values


def _tensors(module: tvm.IRModule) -> list[str]:
    """The names of the layers whose value is one tensor."""
    return [var.name for var in Graph(module).layers if isinstance(var.ty, relax.TensorType)]


def _agree(both: Tensor, alone: Sequence[Tensor]) -> bool:
    """Whether the values of two samples are those of each alone."""
    if any(each.dim() == 0 or len(each) != 1 for each in alone):
        return False
    wanted = torch.cat(list(alone))
    if both.shape != wanted.shape:
        return False
    scale = float(wanted.double().abs().max()) or 1.0
    return float((both.double() - wanted.double()).abs().max()) <= TOLERANCE * scale


def _name(expr: relax.Expr) -> str | None:
    return expr.name if isinstance(expr, relax.Var) else None


def _fast(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
