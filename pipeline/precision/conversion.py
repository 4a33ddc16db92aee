"""A float32 network with float16 layers, with int8 weights, or with both."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import tvm

from pipeline.precision.value_range import Batch, Kept, out_of_range
from relay_passes.graph import Graph, variables
from relay_passes.round_weights import RoundWeights
from relay_passes.shorten_sums import ShortenSums
from relay_passes.to_float16 import HALF, ToFloat16

FLOAT32, FLOAT16 = "float32", "float16"
DTYPES = (FLOAT32, FLOAT16)
INT8 = "int8"


@dataclass(frozen=True)
class Form:
    """What layers with weights compute in, and what their weights are rounded to, if to less than that.

    Attributes
    ----------
    dtype : str
        One of `DTYPES`.
    weights : str or None
        `INT8`, or None.
    """

    dtype: str = FLOAT32
    weights: str | None = None

    def __str__(self) -> str:
        return self.dtype if self.weights is None else f"{self.dtype} with {self.weights} weights"

    @property
    def against(self) -> str:
        """What code for it is compared with."""
        return f"its layers in torch, in {self}"


@dataclass(frozen=True)
class Converted:
    """A network in another form.

    Attributes
    ----------
    module : tvm.IRModule
        Canonical but for its types and casts; its inputs and outputs are what they were.
    form : Form
    kept : tuple of Kept
        Layers that stay float32, as float16 cannot hold their numbers.
    """

    module: tvm.IRModule
    form: Form
    kept: tuple[Kept, ...] = ()

    def notice(self) -> str:
        """What a bundle and a report say of it."""
        parts = []
        if self.form.dtype == FLOAT16:
            parts.append("layers with weights compute in float16; inputs and outputs are float32")
        if self.kept:
            parts.append(f"float32 where float16 cannot hold the numbers: {', '.join(map(str, self.kept))}")
        if self.form.weights == INT8:
            parts.append("weights are rounded to int8, with a scale for each channel")
        return "; ".join(parts)


def convert(module: tvm.IRModule, batches: Iterable[Batch], form: Form = Form(FLOAT16)) -> Converted:
    """Convert a network; to float16 but for layers whose numbers it cannot hold well.

    Parameters
    ----------
    module : tvm.IRModule
        Canonical, in float32; it is not changed.
    batches : iterable of sequences of numpy.ndarray
        Inputs to find the layers' numbers with: golden ones, and some of the validation data.
    form : Form
    """
    kept: tuple[Kept, ...] = ()
    if form.dtype == FLOAT16:
        kept = out_of_range(module, float16_layers(ToFloat16()(module)), batches)
        module = ShortenSums()(ToFloat16([each.layer for each in kept])(module))
    if form.weights == INT8:
        module = RoundWeights()(module)
    return Converted(module, form, kept)


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
