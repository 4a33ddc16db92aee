"""Which functions copy their arguments one behind the other, and nothing else."""

from math import prod

import numpy as np
from tvm import tirx
from tvm.ir import Expr, IRModule
from tvm.s_tir import SBlock, Schedule
from tvm.sym import Analyzer
from tvm_ffi import structural_equal

from tuning.searching.nest import blocks_of


def is_concatenation(function: tirx.PrimFunc) -> bool:
    """Return whether a function copies its arguments one behind the other."""
    return sizes_of_parts(function) is not None


def sizes_of_parts(function: tirx.PrimFunc) -> list[int] | None:
    """Return the bytes of each tensor that a function concatenates; None if it is no such function.

    Its last argument holds all the others one behind the other: it does if no axis before theirs is longer
    than one. Schedules don't matter, only what the function computes for each element.
    """
    *parts, whole = function.params
    axis = next((at for at, size in enumerate(whole.shape) if size != 1), None)
    if len(parts) < 2 or axis is None or not _fit(parts, whole, axis):
        return None
    blocks = blocks_of(Schedule(IRModule({"main": function}), debug_mask="none"))
    if len(blocks) != 1 or not _copies(blocks[0], parts, whole, axis):
        return None
    return [prod(map(int, part.shape)) * np.dtype(str(part.dtype)).itemsize for part in parts]


def _fit(parts: list[tirx.Var], whole: tirx.Var, axis: int) -> bool:
    """Return whether shapes and types are those of a concatenation along this axis."""
    shapes = [list(map(int, each.shape)) for each in (*parts, whole)]
    if any(len(shape) != len(shapes[-1]) for shape in shapes):
        return False
    others = [shape[:axis] + shape[axis + 1 :] for shape in shapes]
    lengths = [shape[axis] for shape in shapes]
    types = {str(each.dtype) for each in (*parts, whole)}
    return all(each == others[-1] for each in others) and sum(lengths[:-1]) == lengths[-1] and len(types) == 1


def _copies(block: SBlock, parts: list[tirx.Var], whole: tirx.Var, axis: int) -> bool:
    """Return whether a block writes into each element of the whole that of the part it belongs to."""
    store, axes = block.body, block.iter_vars
    if not isinstance(store, tirx.BufferStore) or store.buffer != whole:
        return False
    at = [each.var for each in axes]
    everywhere = [int(each.dom.extent) for each in axes] == list(map(int, whole.shape))
    in_order = len(at) == len(store.indices) and all(map(structural_equal, store.indices, at))
    simplify = Analyzer().simplify
    wanted = _concatenated(parts, at, axis)
    return everywhere and in_order and structural_equal(simplify(store.value), simplify(wanted))


def _concatenated(parts: list[tirx.Var], at: list[tirx.Var], axis: int) -> Expr:
    """Return the element of a concatenation, as TVM writes it."""
    first, *others = parts
    value, begin = tirx.BufferLoad(first, at), int(first.shape[axis])
    for part in others:
        inside = [*at[:axis], at[axis] - begin, *at[axis + 1 :]]
        value = tirx.if_then_else(begin <= at[axis], tirx.BufferLoad(part, inside), value)
        begin += int(part.shape[axis])
    return value
