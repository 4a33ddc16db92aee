"""Puts the tensors that are concatenated into the memory of what they are concatenated to.

A tensor is allocated, written by one function, and read. If a concatenation alone decides where it lies, it
becomes a view of the whole, and the concatenation, which now would copy it to where it is, is left out.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import accumulate

import tvm
from tvm import relax
from tvm.ir import Expr, IRModule
from tvm.relax.analysis import all_vars

from tuning.memory.concatenation import sizes_of_parts
from tuning.memory.straight import bindings_of, called, is_call, source_of, with_bindings

ALIGNMENT = 64
"""Bytes; compiled functions expect that their tensors begin at a multiple of them."""


@dataclass(frozen=True)
class _Concatenation:
    """A call that concatenates: the allocations of its parts and of the whole, bytes before each part."""

    call: relax.Call
    parts: tuple[Expr, ...]
    whole: Expr
    begins: tuple[int, ...]
    size: int


@tvm.transform.module_pass(opt_level=0, name="Placement")
class Placement:
    """The phase before memory is planned; it needs the target in scope."""

    def transform_module(self, module: IRModule, _: tvm.transform.PassContext) -> IRModule:
        """Return the module without concatenations that can be written in place."""
        if tvm.target.Target.current(allow_none=False).kind.name != "llvm":
            return module
        chosen = _chosen(module)
        if not chosen:
            return module
        placed = with_bindings(module, _Rewriting(module, chosen).bindings)
        left = {called(placed, binding.value) for binding in bindings_of(placed)}
        gone = {each.call.op for each in chosen} - left
        functions = {name: each for name, each in placed.functions_items() if name not in gone}
        return IRModule(functions, attrs=module.attrs)


class _Tensors:
    """Where tensors of ``main`` are allocated, and what happens to them.

    Attributes
    ----------
    allocated : set of Var
    writers : Counter of Var
        How many functions write into an allocation.
    escaped : set of Var
        Allocations that something else than a TIR function may hold on to, such as the network's results.
    """

    def __init__(self, module: IRModule) -> None:
        self.allocated: set[Expr] = set()
        self.writers: Counter[Expr] = Counter()
        self.escaped: set[Expr] = set()
        self._allocation: dict[Expr, Expr] = {}
        for binding in bindings_of(module):
            self._see(module, binding.var, binding.value)
        self._escape(module["main"].body.body)

    def allocation(self, tensor: Expr) -> Expr:
        """Return the variable that a tensor's memory was first bound to."""
        return self._allocation.get(tensor, tensor)

    def _see(self, module: IRModule, var: relax.Var, value: Expr) -> None:
        source = source_of(value)
        if source is not None:
            self._allocation[var] = self.allocation(source)
        elif is_call(value, "relax.builtin.alloc_tensor"):
            self.allocated.add(var)
        elif called(module, value):
            self.writers[self.allocation(value.args[-1])] += 1
        else:
            self._escape(value)

    def _escape(self, expression: Expr) -> None:
        self.escaped.update(self.allocation(var) for var in all_vars(expression))


def _chosen(module: IRModule) -> list[_Concatenation]:
    """Return the concatenations to write in place, the largest first: a tensor lies in one place only."""
    tensors, taken, chosen = _Tensors(module), set(), []
    for each in sorted(_concatenations(module, tensors), key=lambda each: -each.size):
        if _is_possible(each, tensors) and taken.isdisjoint(each.parts):
            taken.update(each.parts)
            chosen.append(each)
    return chosen


def _concatenations(module: IRModule, tensors: _Tensors) -> list[_Concatenation]:
    calls = [binding.value for binding in bindings_of(module) if called(module, binding.value)]
    sizes = {name: sizes_of_parts(module[name]) for name in {call.op for call in calls}}
    found = []
    for call in calls:
        if sizes[call.op] is not None:
            *parts, whole = map(tensors.allocation, call.args)
            *begins, size = accumulate(sizes[call.op], initial=0)
            found.append(_Concatenation(call, tuple(parts), whole, tuple(begins), size))
    return found


def _is_possible(concatenation: _Concatenation, tensors: _Tensors) -> bool:
    together = {*concatenation.parts, concatenation.whole}
    return (
        len(together) == len(concatenation.parts) + 1
        and together <= tensors.allocated - tensors.escaped
        and all(tensors.writers[each] == 1 for each in together)
        and all(begin % ALIGNMENT == 0 for begin in concatenation.begins)
    )


class _Rewriting:
    """The bindings with parts for views of wholes, each of which is allocated before its first part."""

    def __init__(self, module: IRModule, chosen: list[_Concatenation]) -> None:
        old = bindings_of(module)
        self.bindings: list[relax.Binding] = []
        self._values = {each.var: each.value for each in old}
        self._places = {
            part: (each.whole, begin)
            for each in chosen
            for part, begin in zip(each.parts, each.begins, strict=True)
        }
        self._wholes = {each.whole for each in chosen}
        self._written: set[Expr] = set()
        gone = {each.call for each in chosen}
        for binding in old:
            if binding.var in self._places or binding.var in self._wholes:
                self._allocate(binding.var)
            elif binding.value not in gone:
                self.bindings.append(binding)

    def _allocate(self, var: Expr) -> None:
        if var in self._written:
            return
        self._written.add(var)
        value = self._values[var]
        if var in self._places:
            whole, begin = self._places[var]
            self._allocate(whole)
            shape, dtype = value.args[:2]
            value = relax.op.memory.view(whole, shape, dtype, relax.prim_value(begin))
        self.bindings.append(relax.VarBinding(var, value))
