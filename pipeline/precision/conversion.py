"""A float32 network with float16 layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import tvm

from pipeline.precision.value_range import Batch, Kept, out_of_range
from relay_passes.graph import Graph, variables
from relay_passes.shorten_sums import ShortenSums
from relay_passes.to_float16 import HALF, ToFloat16

FLOAT32, FLOAT16 = "float32", "float16"
DTYPES = (FLOAT32, FLOAT16)


@dataclass(frozen=True)
class Converted:
    """A network with float16 layers.

    Attributes
    ----------
    module : tvm.IRModule
        Canonical but for its types and casts; its inputs and outputs are what they were.
    kept : tuple of Kept
        Layers that stay float32, as float16 cannot hold their numbers.
    """

    module: tvm.IRModule
    kept: tuple[Kept, ...] = ()

    def notice(self) -> str:
        """What a bundle and a report say of it."""
        text = "layers with weights compute in float16; inputs and outputs are float32"
        if not self.kept:
            return text
        return f"{text}; float32 where float16 cannot hold the numbers: {', '.join(map(str, self.kept))}"


def convert(module: tvm.IRModule, batches: Iterable[Batch]) -> Converted:
    """Convert a network, but for layers whose numbers float16 cannot hold well.

    Parameters
    ----------
    module : tvm.IRModule
        Canonical, in float32; it is not changed.
    batches : iterable of sequences of numpy.ndarray
        Inputs to find the layers' numbers with: golden ones, and some of the validation data.
    """
    kept = out_of_range(module, float16_layers(ToFloat16()(module)), batches)
    converted = ToFloat16([each.layer for each in kept])(module)
    return Converted(ShortenSums()(converted), kept)


def float16_layers(module: tvm.IRModule) -> frozenset[str]:
    """The names of the layers that read or write float16."""
    graph = Graph(module)
    return frozenset(
        var.name
        for var in graph.layers
        if any(_is_half(each) for each in (var, *variables(graph.value[var])))
    )


def _is_half(var: tvm.relax.Var) -> bool:
    return str(getattr(var.ty, "dtype", "")) == HALF
