"""A view of the canonical module that passes read and rewrite.

`Graph` indexes the one dataflow block of `main`: who makes a value, who uses it, which values leave the
network. It is a snapshot; `Graph.rewrite` returns a new module in which chosen layers are computed another
way, and layers that nothing uses any more are gone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst as Constant
from tvm.relax.dpl import DFPattern
from tvm_ffi import structural_equal

Rewrite = Callable[["Emitter"], relax.Expr]


class Graph:
    """The layers of `main`, in order.

    Parameters
    ----------
    module : tvm.IRModule
        A module whose function `main` is one sequence of bindings.
    """

    def __init__(self, module: tvm.IRModule):
        self.module = module
        function = module["main"]
        self.inputs: tuple[relax.Var, ...] = tuple(function.params)
        bindings = [binding for block in function.body.blocks for binding in block.bindings]
        self.value: dict[relax.Var, relax.Expr] = {b.var: b.value for b in bindings}
        self._returned = self._resolve(function.body.body)

    @cached_property
    def layers(self) -> tuple[relax.Var, ...]:
        """The variables bound to a computation, in order; those that rename another are left out."""
        return tuple(var for var, value in self.value.items() if not is_alias(value))

    @property
    def returns_tuple(self) -> bool:
        """Whether `main` returns a tuple rather than one tensor."""
        return isinstance(self._returned, relax.Tuple)

    @property
    def outputs(self) -> tuple[relax.Expr, ...]:
        """What `main` returns, in order."""
        return tuple(self._returned.fields) if self.returns_tuple else (self._returned,)

    @cached_property
    def users(self) -> dict[relax.Var, tuple[relax.Var, ...]]:
        """The layers that read a variable; a layer that reads it twice stands there twice."""
        users: dict[relax.Var, list[relax.Var]] = {var: [] for var in (*self.inputs, *self.value)}
        for var in self.layers:
            for used in self._read(self.value[var]):
                users[used].append(var)
        return {var: tuple(found) for var, found in users.items()}

    def call(self, var: relax.Expr, *operators: str) -> relax.Call | None:
        """The call that computes `var`, if it is one of the `operators` (`nn.conv2d`), else None."""
        value = self.value.get(var) if isinstance(var, relax.Var) else None
        return value if operator_of(value) in operators else None

    def match(self, pattern: DFPattern, var: relax.Var) -> Match | None:
        """What each part of `pattern` stands for if it matches the value of `var`, else None."""
        found = pattern.extract_matched_expr(self.value[var], self.value)
        return None if found is None else Match(found, self._variable)

    def has_one_user(self, var: relax.Var) -> bool:
        """Whether exactly one layer reads `var`, and it does not leave the network."""
        return len(self.users[var]) == 1 and not self.is_output(var)

    def is_output(self, var: relax.Expr) -> bool:
        """Whether `main` returns `var`."""
        return any(var.same_as(self._resolve(output)) for output in self.outputs)

    def composite(self, var: relax.Expr) -> relax.Function | None:
        """The composite function (LRN) that `var` calls, else None."""
        return self._callee(self.value.get(var)) if isinstance(var, relax.Var) else None

    def joined_channels(self, var: relax.Expr) -> tuple[relax.Var, ...] | None:
        """The variables whose channels (axis 1) a concat at `var` joins, or None if it is no such concat."""
        call = self.call(var, "concat")
        if call is None or call.attrs.axis is None or int(call.attrs.axis) % call.ty.ndim != 1:
            return None
        joined = self.value.get(call.args[0], call.args[0])
        parts = tuple(joined.fields) if isinstance(joined, relax.Tuple) else ()
        return parts if parts and all(isinstance(part, relax.Var) for part in parts) else None

    def kind(self, value: relax.Expr) -> str:
        """What a value is, in a word: `conv2d`, `lrn`, `item` (of a tuple)."""
        callee = self._callee(value)
        name = operator_of(value) if callee is None else str(callee.attrs["Composite"])
        return "item" if name is None else name.rpartition(".")[2]

    def rewrite(
        self,
        replacements: Mapping[relax.Var, Rewrite],
        outputs: tuple[relax.Expr, ...] | None = None,
        attributes: Mapping[str, object] | None = None,
    ) -> tvm.IRModule:
        """Compute some layers another way and drop what is no longer used.

        Parameters
        ----------
        replacements : mapping of layer to function
            The function gets an `Emitter` and returns the layer's new value. If it returns a variable, the
            layer's readers read that variable.
        outputs : tuple of relax.Expr, optional
            Other values for `main` to return.
        attributes : mapping, optional
            Module attributes to set.

        Returns
        -------
        tvm.IRModule
            Layers that stay as they are keep their variables and names.
        """
        if not replacements and outputs is None and attributes is None:
            return self.module
        return self.trace_rewrite(replacements, outputs, attributes).module

    def trace_rewrite(
        self,
        replacements: Mapping[relax.Var, Rewrite],
        outputs: tuple[relax.Expr, ...] | None = None,
        attributes: Mapping[str, object] | None = None,
    ) -> Rewritten:
        """Do what `rewrite` does, and tell which layers came and which went."""
        emitter = Emitter(self)
        emitter.build(replacements, self.outputs if outputs is None else outputs)
        module = _drop_unused(emitter.finish())
        staying = frozenset(Graph(module).value) & frozenset(self.value)
        module, renamed = _with_unique_names(module, staying)
        for name, value in {**(self.module.attrs or {}), **(attributes or {})}.items():
            module = module.with_attr(name, value)
        made = {var: emitter.made.get(var, {}) for var in replacements}
        gone = frozenset(var for var in self.layers if var not in staying or var in made.get(var, {}))
        stands_for = {var: renamed.get(emitter(var), emitter(var)) for var in replacements}
        return Rewritten(module, made, gone, stands_for)

    def _callee(self, value: relax.Expr | None) -> relax.Function | None:
        if isinstance(value, relax.Call) and isinstance(value.op, tvm.ir.GlobalVar):
            callee = self.module[value.op]
            if isinstance(callee, relax.Function) and "Composite" in (callee.attrs or {}):
                return callee
        return None

    @cached_property
    def _variable(self) -> dict[relax.Expr, relax.Var]:
        return {value: var for var, value in self.value.items() if not isinstance(value, relax.Var)}

    def _read(self, value: relax.Expr) -> Iterator[relax.Var]:
        """The inputs and layers that an expression reads, with repetitions."""
        for var in variables(value):
            renamed = self.value.get(var)
            if renamed is not None and is_alias(renamed):
                yield from self._read(renamed)
            else:
                yield var

    def _resolve(self, expr: relax.Expr) -> relax.Expr:
        """Follow variables that only rename another value or name the returned tuple."""
        while isinstance(expr, relax.Var) and isinstance(self.value.get(expr), relax.Var | relax.Tuple):
            expr = self.value[expr]
        return expr


@dataclass(frozen=True)
class Rewritten:
    """A new module, what was made in place of each layer that was replaced, and which old layers are gone.

    A layer that computes another value under its old variable is both made and gone. `stands_for` has the
    new module's expression for each layer that was replaced.
    """

    module: tvm.IRModule
    made: Mapping[relax.Var, Mapping[relax.Var, relax.Expr]]
    gone: frozenset[relax.Var]
    stands_for: Mapping[relax.Var, relax.Expr]


class Match:
    """The expressions that the parts of a pattern matched, as variables where they are bound to one."""

    def __init__(self, found: Mapping[DFPattern, relax.Expr], variable: Mapping[relax.Expr, relax.Var]):
        self._found = found
        self._variable = variable

    def __getitem__(self, part: DFPattern) -> relax.Expr:
        expr = self._found[part]
        return self._variable.get(expr, expr)

    def call(self, part: DFPattern) -> relax.Call:
        """The call that a part matched."""
        return self._found[part]


class Emitter:
    """Builds the new `main` layer by layer during `Graph.rewrite`.

    Layers that read what they read before are taken over with their variables. A layer that computes another
    value of the same type keeps its variable, so its readers are taken over as well.
    """

    def __init__(self, graph: Graph):
        self._graph = graph
        self._builder = relax.BlockBuilder()
        self._globals = {
            variable: self.function(variable.name_hint, function)
            for variable, function in graph.module.functions.items()
            if variable.name_hint != "main"
        }
        self._new: dict[relax.Var, relax.Expr] = {}
        self._place: relax.Var | None = None
        self.made: dict[relax.Var | None, dict[relax.Var, relax.Expr]] = {}
        """For each layer of the old graph the layers that were made anew in its place."""

    def layer(self, name: str, value: relax.Expr) -> relax.Var:
        """Add a layer under `name` and return its variable; `Graph.rewrite` numbers equal names."""
        value = self._builder.normalize(value)
        return self._bind(relax.DataflowVar(name, value.ty), value)

    def function(self, name: str, function: tvm.ir.BaseFunc) -> tvm.ir.GlobalVar:
        """Add a private function and return the variable to call it by."""
        return self._builder.add_func(function, name)

    def __call__(self, expr: relax.Expr) -> relax.Expr:
        """The new expression for one of the old graph; the same object if nothing changed."""
        if isinstance(expr, relax.Var):
            return self._new[expr]
        if isinstance(expr, tvm.ir.GlobalVar):
            return self._globals.get(expr, expr)
        if isinstance(expr, relax.Tuple):
            fields = [self(field) for field in expr.fields]
            return expr if _same(fields, expr.fields) else relax.Tuple(fields)
        if isinstance(expr, relax.TupleGetItem):
            source = self(expr.tuple_value)
            if isinstance(source, relax.Tuple):
                return source.fields[expr.index]
            return expr if source.same_as(expr.tuple_value) else source[expr.index]
        if isinstance(expr, relax.Call):
            function, args = self(expr.op), [self(arg) for arg in expr.args]
            if _same([function, *args], [expr.op, *expr.args]):
                return expr
            return relax.Call(function, args, expr.attrs, getattr(expr, "ty_args", None))
        return expr

    def build(self, replacements: Mapping[relax.Var, Rewrite], outputs: tuple[relax.Expr, ...]) -> None:
        """Emit `main`: every old layer, or what replaces it."""
        graph, builder = self._graph, self._builder
        self._new.update((var, var) for var in graph.inputs)
        kept = {k: v for k, v in (graph.module["main"].attrs or {}).items() if k != "global_symbol"}
        with builder.function("main", graph.inputs, attrs=kept or None):
            with builder.dataflow():
                for var, value in graph.value.items():
                    self._place = var
                    new = replacements[var](self) if var in replacements else self(value)
                    self._new[var] = new if is_alias(new) else self._keep(var, new)
                returned = [self(output) for output in outputs]
                result = builder.emit_output(relax.Tuple(returned) if graph.returns_tuple else returned[0])
            builder.emit_func_output(result)

    def finish(self) -> tvm.IRModule:
        """The module built, with the other functions of the old one."""
        return self._builder.finalize()

    def _keep(self, var: relax.Var, value: relax.Expr) -> relax.Var:
        """Bind a value to the old variable if its type allows that."""
        if isinstance(var, relax.DataflowVar):
            if value.same_as(self._graph.value[var]):
                self._builder.emit_normalized(relax.VarBinding(var, value))
                return var
            value = self._builder.normalize(value)
            if structural_equal(value.ty, var.ty):
                return self._bind(var, value)
        return self.layer(var.name, value)

    def _bind(self, var: relax.Var, value: relax.Expr) -> relax.Var:
        self._builder.emit_normalized(relax.VarBinding(var, value))
        self.made.setdefault(self._place, {})[var] = value
        return var


def operator_of(value: relax.Expr | None) -> str | None:
    """The operator's name without `relax.`, or None for anything but a call of an operator."""
    if isinstance(value, relax.Call) and isinstance(value.op, tvm.ir.Op):
        return value.op.name.removeprefix("relax.")
    return None


def variables(value: relax.Expr) -> list[relax.Var]:
    """The variables that an expression reads, with repetitions."""
    if isinstance(value, relax.Var):
        return [value]
    if isinstance(value, relax.Tuple):
        return [var for field in value.fields for var in variables(field)]
    if isinstance(value, relax.TupleGetItem):
        return variables(value.tuple_value)
    if isinstance(value, relax.Call):
        return [var for arg in value.args for var in variables(arg)]
    return []


def shape_of(expr: relax.Expr) -> tuple[int, ...]:
    """The static shape of a tensor expression."""
    return tuple(int(size) for size in expr.ty.shape)


def array_of(constant: relax.Expr) -> np.ndarray | None:
    """The value of a constant as a read-only array that shares its memory, or None for anything else."""
    if not isinstance(constant, Constant):
        return None
    array = np.from_dlpack(constant.value)
    array.flags.writeable = False
    return array


def _drop_unused(module: tvm.IRModule) -> tvm.IRModule:
    return relax.transform.DeadCodeElimination(["main"])(module)


def is_alias(expr: relax.Expr) -> bool:
    """Whether an expression names or groups values without computing any."""
    return isinstance(expr, relax.Var | Constant | relax.Tuple)


def _with_unique_names(
    module: tvm.IRModule, staying: frozenset[relax.Var]
) -> tuple[tvm.IRModule, Mapping[relax.Var, relax.Expr]]:
    """Number the layers that share a name; those that stay as they were keep theirs.

    The second value has the new variables of those that were numbered.
    """
    graph = Graph(module)
    taken = {var.name for var in graph.layers}
    if len(taken) == len(graph.layers):
        return module, {}
    seen: set[str] = set()
    renamed: dict[relax.Var, Rewrite] = {}
    for var in sorted(graph.layers, key=lambda var: var not in staying):
        name = var.name
        if name in seen:
            name = next(n for i in itertools.count(2) if (n := f"{var.name}_{i}") not in taken)
            renamed[var] = lambda emit, name=name, var=var: emit.layer(name, emit(graph.value[var]))
        seen.add(name)
        taken.add(name)
    rewritten = graph.trace_rewrite(renamed)
    return rewritten.module, rewritten.stands_for


def _same(new: Sequence[relax.Expr], old: Sequence[relax.Expr]) -> bool:
    return all(left.same_as(right) for left, right in zip(new, old, strict=True))
