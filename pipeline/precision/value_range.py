"""Which layers meet numbers that float16 cannot hold well.

The largest float16 is 65504. Numbers up to a quarter of it are let pass: a sum may be larger on its way than
in the end, and other inputs may go further than those that were looked at. Below 2^-14 float16 loses digits;
a tensor whose largest number is smaller has none to spare, unless it is only added to others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax

from pipeline.twin import evaluate
from relay_passes.graph import Graph, array_of, operator_of

LARGEST = float(np.finfo("float16").max) / 4
SMALLEST = float(np.finfo("float16").tiny)
SUMS = ("add", "subtract")

Batch = Sequence[np.ndarray]


@dataclass(frozen=True)
class Kept:
    """A layer that stays float32, and the number that float16 cannot hold."""

    layer: str
    magnitude: float

    def __str__(self) -> str:
        reach = "up to" if self.magnitude > LARGEST else "no larger than"
        return f"{self.layer} (numbers {reach} {self.magnitude:.3g})"


def out_of_range(module: tvm.IRModule, layers: Collection[str], batches: Iterable[Batch]) -> tuple[Kept, ...]:
    """Find the layers that read, hold or write numbers that float16 cannot hold well.

    Parameters
    ----------
    module : tvm.IRModule
        Canonical, in float32.
    layers : collection of str
        Those that are to be looked at.
    batches : iterable of sequences of numpy.ndarray
        Inputs, in the order of `main`'s parameters; any number of samples each.

    Returns
    -------
    tuple of Kept
        In the order of the layers, each with its first such number.
    """
    graph = Graph(module)
    magnitudes = _magnitudes(graph, batches)
    read: dict[relax.Var, list[relax.Var]] = {var: [] for var in graph.layers}
    for var, readers in graph.users.items():
        for reader in readers:
            read[reader].append(var)
    kept = []
    for var in graph.layers:
        met = [
            *_constants(graph.value[var]),
            *(magnitudes[each] for each in (*read[var], var) if each in magnitudes),
        ]
        smallest = 0.0 if operator_of(graph.value[var]) in SUMS else SMALLEST
        wrong = next((each for each in met if each and not smallest <= each <= LARGEST), None)
        if var.name in layers and wrong is not None:
            kept.append(Kept(var.name, wrong))
    return tuple(kept)


def _magnitudes(graph: Graph, batches: Iterable[Batch]) -> dict[relax.Var, float]:
    """The largest magnitude of each input and layer that is one tensor of real numbers."""
    layers = [var for var in graph.layers if _is_real(var)]
    inputs = [(place, var) for place, var in enumerate(graph.inputs) if _is_real(var)]
    largest = dict.fromkeys((*(var for _, var in inputs), *layers), 0.0)
    for batch in batches:
        values = evaluate(graph.module, batch, [var.name for var in layers])[-len(layers) :]
        given = [(var, batch[place]) for place, var in inputs]
        for var, value in (*given, *zip(layers, values, strict=True)):
            largest[var] = max(largest[var], _magnitude(value))
    return largest


def _constants(value: relax.Expr) -> Iterator[float]:
    """The largest magnitude of each constant that a layer reads."""
    fields = value.args if isinstance(value, relax.Call) else getattr(value, "fields", ())
    for field in fields:
        array = array_of(field)
        if array is None:
            yield from _constants(field) if isinstance(field, relax.Tuple) else ()
        elif array.dtype.kind == "f":
            yield _magnitude(array)


def _magnitude(values: np.ndarray) -> float:
    return float(np.abs(values).max(initial=0.0))


def _is_real(var: relax.Var) -> bool:
    return isinstance(var.ty, relax.TensorType) and str(var.ty.dtype).startswith("float")
