"""Check merges as they are made.

Every merge: the graph is well formed, the outputs and every layer that stands for an old one keep their
types, and what no merge touches is still computed as before. An exact merge also has to compute what it
replaced, on random input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tvm
from tvm import relax
from tvm_ffi import structural_equal

from relay_passes.graph import Graph, is_alias
from relay_passes.merge import Merge, Sweep

TOLERANCE = 1e-4
"""Largest difference that rounding may make, as a part of the largest value."""

Evaluate = Callable[[tvm.IRModule, Sequence[str]], Sequence[np.ndarray]]
"""Computes a module on random input: its outputs, then the values of the layers named."""


def find_fault(sweep: Sweep, evaluate: Evaluate | None = None) -> tuple[Merge | None, str] | None:
    """What is wrong with merges made together.

    Parameters
    ----------
    sweep : Sweep
    evaluate : Evaluate, optional
        Without it, exact merges are not computed.

    Returns
    -------
    tuple of Merge or None and str, or None
        The merge, if one of them can be named, and what is wrong; None if nothing is.
    """
    return _wrong_structure(sweep) or (_wrong_numbers(sweep, evaluate) if evaluate else None)


def _wrong_structure(sweep: Sweep) -> tuple[Merge | None, str] | None:
    if not relax.analysis.check_well_formed(sweep.module):
        return None, "the graph is not well formed"
    for merge in sweep.merges:
        for var in merge.replacements:
            new = sweep.rewritten.stands_for[var]
            if not structural_equal(new.ty, var.ty):
                return merge, f"{var.name} would be {new.ty} instead of {var.ty}"
    after = Graph(sweep.module)
    if not _same_types(sweep.graph.outputs, after.outputs):
        return None, "the network's outputs would have other shapes"
    touched = frozenset(var for merge in sweep.merges for var in merge.touches)
    for var in sweep.graph.layers:
        if var not in touched and not _is_untouched(var, sweep, after):
            return None, f"{var.name}, which takes no part, would change or vanish"
    return None


def _same_types(before: Sequence[relax.Expr], after: Sequence[relax.Expr]) -> bool:
    return len(before) == len(after) and all(
        structural_equal(old.ty, new.ty) for old, new in zip(before, after, strict=True)
    )


def _is_untouched(var: relax.Var, sweep: Sweep, after: Graph) -> bool:
    """Whether a layer does to what it reads what it did before."""
    old, new = sweep.graph.value[var], after.value.get(var)
    if new is None:
        return False
    if new.same_as(old):
        return True
    if not isinstance(old, relax.Call) or not isinstance(new, relax.Call):
        return type(old) is type(new)
    if not structural_equal(old.attrs, new.attrs) or len(old.args) != len(new.args):
        return False
    return all(
        _is_alias_of_layers(left) or left.same_as(right)
        for left, right in zip(old.args, new.args, strict=True)
    )


def _is_alias_of_layers(expr: relax.Expr) -> bool:
    return is_alias(expr) and not isinstance(expr, tvm.ir.GenericConst)


def _wrong_numbers(sweep: Sweep, evaluate: Evaluate) -> tuple[Merge | None, str] | None:
    """The first exact merge that computes something else; those after it read what it computes."""
    ends = {var: merge for merge in sweep.merges if merge.exact for var in merge.replacements}
    if not ends:
        return None
    order = [var for var in sweep.graph.layers if var in ends]
    before = evaluate(sweep.graph.module, [var.name for var in order])
    after = evaluate(sweep.module, [sweep.rewritten.stands_for[var].name for var in order])
    outputs = len(before) - len(order)
    for var, old, new in zip(order, before[outputs:], after[outputs:], strict=True):
        if fault := _differ(var.name, old, new):
            return ends[var], fault
    faults = (
        _differ(f"output {place}", old, new)
        for place, (old, new) in enumerate(zip(before[:outputs], after[:outputs], strict=True))
    )
    return next(((None, fault) for fault in faults if fault), None)


def _differ(what: str, old: np.ndarray, new: np.ndarray) -> str | None:
    largest = float(np.abs(old).max(initial=0.0)) or 1.0
    difference = float(np.abs(new.astype("float64") - old).max(initial=0.0)) / largest
    if difference <= TOLERANCE:
        return None
    return f"{what} differs by {difference:.2g} of its largest value on random input"
