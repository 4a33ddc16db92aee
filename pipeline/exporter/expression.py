"""What a layer is in ONNX, as data: operators applied to values, without names.

The entries of the table (`pipeline.exporter.operators`) return these; `pipeline.exporter.graph` gives them
names and writes them. A node that several expressions hold is written once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import helper


@dataclass(frozen=True, eq=False)
class Input:
    """An input of the network."""

    name: str


@dataclass(frozen=True, eq=False)
class Weight:
    """A constant; with the layer's name, `role` (`weight`, `axes`) makes its own."""

    array: np.ndarray
    role: str


@dataclass(frozen=True, eq=False)
class Node:
    """An operator of ONNX, with its attributes; an optional input that is left out is None."""

    operator: str
    inputs: tuple[Value | None, ...]
    attributes: Mapping[str, Any]
    outputs: int = 1


@dataclass(frozen=True)
class Output:
    """One output of a node that has several."""

    node: Node
    index: int


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value that a layer reads, whose shape and type (`float32`) are known."""

    source: Input | Weight | Node | Output
    shape: tuple[int, ...]
    dtype: str

    @property
    def array(self) -> np.ndarray | None:
        """Its value if it is a constant."""
        return self.source.array if isinstance(self.source, Weight) else None

    @property
    def is_float(self) -> bool:
        """Whether it holds floating-point numbers."""
        return np.dtype(self.dtype).kind == "f"


Value = Input | Weight | Node | Output | Tensor


@dataclass(frozen=True)
class Layer:
    """One call of a Relax operator, as an entry of the table reads it.

    Parameters
    ----------
    attrs : Any
        The attributes of the call, or of the composite function.
    args : tuple
        `Tensor`s; a shape or a tuple of numbers as a tuple of ints, a number as a Python number, a tuple of
        tensors as a tuple. A bias that is added right behind a convolution or a matmul stands last.
    results : tuple of (tuple of int, str)
        Shape and type of each result.
    """

    attrs: Any
    args: tuple[Any, ...]
    results: tuple[tuple[tuple[int, ...], str], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first result."""
        return self.results[0][0]

    @property
    def dtype(self) -> str:
        """Of the first result."""
        return self.results[0][1]


def node(operator: str, *inputs: Value | None, outputs: int = 1, **attributes: Any) -> Node:
    """An operator applied to values; attributes that are None are left out."""
    given = {name: value for name, value in attributes.items() if value is not None}
    return Node(operator, inputs, given, outputs)


def element_type(dtype: str) -> int:
    """ONNX's number for a type (`float32`)."""
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def integers(values: Sequence[int], role: str) -> Weight:
    """A constant row of 64-bit integers: axes, a shape."""
    return Weight(np.array(values, dtype=np.int64).reshape(-1), role)


def number(value: float, dtype: str, role: str = "constant") -> Weight:
    """A constant without axes."""
    return Weight(np.array(value, dtype=dtype), role)


def reshaped(x: Value, shape: Sequence[int]) -> Value:
    """`x` in another shape; a constant is given that shape here."""
    source = x.source if isinstance(x, Tensor) else x
    if isinstance(source, Weight):
        return Weight(source.array.reshape(shape), source.role)
    return node("Reshape", x, integers(shape, "shape"))
