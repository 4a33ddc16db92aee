"""A torch module made from a Relax module.

The Relax module is the one truth about the graph: the twin is a straight translation of `main`, operator by
operator (`pipeline.twin.operators`), and its parameters are the module's constants. What was trained in the
twin goes back into a Relax module with `Twin.write_back`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import tvm
from torch import Tensor
from tvm import relax
from tvm.ir import GenericConst

from pipeline.errors import UserError
from pipeline.torch_threads import one_thread
from pipeline.twin.operators import COMPOSITES, OPERATORS

Constants = dict[str, Tensor]
Environment = dict[relax.Var, Any]
Reader = Callable[[Constants, Environment], Any]

_ROLES = {
    "add": {0: "bias", 1: "bias"},
    "multiply": {0: "scale", 1: "scale"},
    "matmul": {0: "weight", 1: "weight"},
    "nn.batch_norm": {1: "gamma", 2: "beta", 3: "mean", 4: "variance"},
    "nn.prelu": {1: "slope"},
    **{f"nn.conv{rank}d{kind}": {1: "weight"} for rank in (1, 2, 3) for kind in ("", "_transpose")},
}


_SHAPED = ("reshape", "broadcast_to")
"""Operators whose result's shape is an argument."""


class UnsupportedOperators(UserError):
    """The module holds operators that the twin has no translation for; all of them are named."""


class Twin(torch.nn.Module):
    """A trainable copy of a Relax module.

    Every constant becomes a parameter (floating point, at least one axis) or a buffer, called after the layer
    that uses it first and its role there: `conv1/7x7_s2:weight`. A constant used by several layers is one
    parameter. The twin takes any number of samples, whatever number the module was made for
    (`pipeline.retraining.samples` finds out whether it computes each by itself).

    Parameters
    ----------
    module : tvm.IRModule
        A module whose `main` has static shapes and holds its weights as constants.

    Raises
    ------
    UnsupportedOperators
        Naming every operator that cannot be translated, with its layers.
    """

    def __init__(self, module: tvm.IRModule):
        super().__init__()
        translation = _Translation(module)
        self._program = translation.checked_program()
        for name, constant in translation.constants.items():
            value = torch.from_dlpack(constant.value).clone()
            if value.is_floating_point() and value.dim():
                self.register_parameter(name, torch.nn.Parameter(value))
            else:
                self.register_buffer(name, value)
        self.layers: dict[str, tuple[str, ...]] = {
            layer: tuple(names) for layer, names in translation.used_by.items()
        }
        """The names of the constants that each layer uses."""

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs of `main`, always as a tuple."""
        return self.run(inputs)[0]

    def run(
        self, inputs: Sequence[Tensor], at: Sequence[str] = ()
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Compute the outputs, and the values of some layers.

        Parameters
        ----------
        inputs : sequence of Tensor
            In the order of `main`'s parameters.
        at : sequence of str
            Names of bound variables.

        Returns
        -------
        outputs : tuple of Tensor
        values : dict of str to Tensor
            The value of each name in `at`.

        Raises
        ------
        KeyError
            If no layer has one of the names.
        """
        constants = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        return self._program.outputs(constants, inputs, at)

    def write_back(self, module: tvm.IRModule) -> tvm.IRModule:
        """Put the twin's values into a module.

        Parameters
        ----------
        module : tvm.IRModule
            The module the twin was made from, or one with the same layers.

        Returns
        -------
        tvm.IRModule
            `module` with the twin's current values as its constants.

        Raises
        ------
        ValueError
            If the module's constants are not the twin's.
        """
        translation = _Translation(module)
        translation.program(module["main"])
        own = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        shapes = {name: tuple(constant.value.shape) for name, constant in translation.constants.items()}
        if shapes != {name: tuple(value.shape) for name, value in own.items()}:
            raise ValueError("the module's constants are not those the twin was made from")
        values = {
            constant: relax.const(own[name].detach().cpu().numpy(), constant.ty.dtype)
            for name, constant in translation.constants.items()
        }
        return _replace_constants(module, values)


def evaluate(module: tvm.IRModule, inputs: Sequence[np.ndarray], at: Sequence[str] = ()) -> list[np.ndarray]:
    """Run a module in torch, without gradients and without copying its constants.

    Parameters
    ----------
    module : tvm.IRModule
    inputs : sequence of numpy.ndarray
        In the order of `main`'s parameters.
    at : sequence of str
        Names of bound variables whose values are wanted too.

    Returns
    -------
    list of numpy.ndarray
        The outputs, then the values of `at`.

    Raises
    ------
    UnsupportedOperators
        Naming every operator that cannot be translated.
    KeyError
        If no layer has one of the names.
    """
    translation = _Translation(module)
    program = translation.checked_program()
    constants = {name: torch.from_dlpack(each.value) for name, each in translation.constants.items()}
    with one_thread(), torch.inference_mode():
        tensors = [torch.from_numpy(np.array(array)) for array in inputs]
        outputs, values = program.outputs(constants, tensors, at)
    return [value.detach().numpy() for value in (*outputs, *(values[name] for name in at))]


@dataclass(frozen=True)
class _Step:
    var: relax.Var
    compute: Reader
    last_uses: tuple[relax.Var, ...]


@dataclass(frozen=True)
class _Program:
    params: tuple[relax.Var, ...]
    steps: tuple[_Step, ...]
    result: Reader

    def __deepcopy__(self, memo: dict[int, Any]) -> _Program:
        return self

    def outputs(
        self, constants: Constants, inputs: Sequence[Tensor], at: Sequence[str]
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        values: dict[str, Any] = {}
        result = self.run(constants, inputs, set(at), values)
        if missing := [name for name in at if name not in values]:
            raise KeyError(f"no layer is called {', '.join(missing)}")
        return tuple(_flatten(result)), values

    def run(
        self, constants: Constants, inputs: Sequence[Any], wanted: set[str], values: dict[str, Any]
    ) -> Any:
        environment: Environment = dict(zip(self.params, inputs, strict=True))
        for step in self.steps:
            environment[step.var] = step.compute(constants, environment)
            if step.var.name in wanted:
                values[step.var.name] = environment[step.var]
            for var in step.last_uses:
                del environment[var]
        return self.result(constants, environment)


class _Translation:
    """Turns functions into programs, and names the constants on the way."""

    def __init__(self, module: tvm.IRModule):
        self._module = module
        self._names: dict[GenericConst, str] = {}
        self._taken: Counter[str] = Counter()
        self._unsupported: dict[str, list[str]] = {}
        self.constants: dict[str, GenericConst] = {}
        self.used_by: dict[str, list[str]] = {}

    def checked_program(self) -> _Program:
        """The program of `main`, if all its operators can be translated."""
        program = self.program(self._module["main"])
        self._raise_unsupported()
        return program

    def _raise_unsupported(self) -> None:
        if self._unsupported:
            found = "; ".join(f"{what} in {_listed(layers)}" for what, layers in self._unsupported.items())
            raise UnsupportedOperators(f"operators without a translation: {found}")

    def program(self, function: relax.Function, layer: str = "") -> _Program:
        """Translate a function; constants of a private one are called after the `layer` that calls it."""
        bindings = [binding for block in function.body.blocks for binding in block.bindings]
        steps = [(b.var, self._reader(b.value, layer or b.var.name)) for b in bindings]
        kept = set(_variables(function.body.body))
        last_uses: dict[relax.Var, list[relax.Var]] = {b.var: [] for b in bindings}
        for binding in reversed(bindings):
            new = {binding.var, *_variables(binding.value)} - kept
            last_uses[binding.var].extend(new)
            kept |= new
        return _Program(
            tuple(function.params),
            tuple(_Step(var, compute, tuple(last_uses[var])) for var, compute in steps),
            self._reader(function.body.body, layer or "output"),
        )

    def _reader(self, expr: relax.Expr, layer: str, role: str = "constant") -> Reader:
        match expr:
            case GenericConst():
                name = self._name(expr, layer, role)
                return lambda constants, environment: constants[name]
            case relax.Var():
                return lambda constants, environment: environment[expr]
            case relax.Tuple():
                fields = [self._reader(field, layer) for field in expr.fields]
                return lambda constants, environment: tuple(field(constants, environment) for field in fields)
            case relax.TupleGetItem():
                source, index = self._reader(expr.tuple_value, layer), int(expr.index)
                return lambda constants, environment: source(constants, environment)[index]
            case relax.ShapeExpr():
                shape = tuple(int(size) for size in expr.values)
                return lambda constants, environment: shape
            case relax.Call():
                return self._call(expr, layer)
            case tvm.tirx.IntImm() | tvm.tirx.FloatImm():
                value = expr.value
                return lambda constants, environment: value
        return self._refuse(type(expr).__name__, layer)

    def _call(self, call: relax.Call, layer: str) -> Reader:
        if isinstance(call.op, tvm.ir.GlobalVar):
            return self._private(call, layer)
        operator = call.op.name.removeprefix("relax.") if isinstance(call.op, tvm.ir.Op) else str(call.op)
        if operator not in OPERATORS:
            callee = call.args[0].name_hint if operator == "call_tir" else None
            return self._refuse(f"{operator} {callee}" if callee else operator, layer)
        try:
            function = OPERATORS[operator](call.attrs)
        except NotImplementedError as error:
            return self._refuse(f"{operator} ({error})", layer)
        if operator in _SHAPED and _keeps_samples(call):
            function = _sample_by_sample(function)
        roles = _ROLES.get(operator, {})
        return _applied(
            function, [self._reader(a, layer, roles.get(i, "constant")) for i, a in enumerate(call.args)]
        )

    def _private(self, call: relax.Call, layer: str) -> Reader:
        callee = self._module[call.op]
        arguments = [self._reader(argument, layer) for argument in call.args]
        if not isinstance(callee, relax.Function):
            return self._refuse(call.op.name_hint, layer)
        composite = (callee.attrs or {}).get("Composite")
        if composite in COMPOSITES:
            return _applied(COMPOSITES[composite](callee.attrs), arguments)
        program = self.program(callee, layer)
        return lambda constants, environment: program.run(
            constants, [argument(constants, environment) for argument in arguments], set(), {}
        )

    def _refuse(self, what: str, layer: str) -> Reader:
        self._unsupported.setdefault(what, []).append(layer)
        return lambda constants, environment: None

    def _name(self, constant: GenericConst, layer: str, role: str) -> str:
        if constant not in self._names:
            name = f"{layer.replace('.', '_')}:{role}"
            self._taken[name] += 1
            if self._taken[name] > 1:
                name = f"{name}_{self._taken[name]}"
            self._names[constant] = name
            self.constants[name] = constant
        used = self.used_by.setdefault(layer, [])
        if self._names[constant] not in used:
            used.append(self._names[constant])
        return self._names[constant]


def _applied(function: Callable[..., Any], arguments: Sequence[Reader]) -> Reader:
    return lambda constants, environment: function(*(read(constants, environment) for read in arguments))


def _keeps_samples(call: relax.Call) -> bool:
    """Whether the first axis, which counts the samples, stays as it is."""
    before, after = call.args[0].ty.shape, call.ty.shape
    return len(before) > 0 and len(after) > 0 and int(before[0]) == int(after[0])


def _sample_by_sample(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, shape: function(x, (x.shape[0], *shape[1:]))


def _variables(expr: relax.Expr) -> Iterator[relax.Var]:
    match expr:
        case relax.Var():
            yield expr
        case relax.Tuple():
            for field in expr.fields:
                yield from _variables(field)
        case relax.TupleGetItem():
            yield from _variables(expr.tuple_value)
        case relax.Call():
            for argument in expr.args:
                yield from _variables(argument)


def _flatten(value: Any) -> Iterator[Tensor]:
    if isinstance(value, tuple):
        for item in value:
            yield from _flatten(item)
    else:
        yield value


def _listed(layers: Sequence[str]) -> str:
    shown = ", ".join(layers[:5])
    return shown if len(layers) <= 5 else f"{shown} and {len(layers) - 5} more"


def _replace_constants(module: tvm.IRModule, values: dict[GenericConst, GenericConst]) -> tvm.IRModule:
    @relax.expr_functor.mutator
    class Replacement(relax.PyExprMutator):
        def visit_generic_const_(self, op: GenericConst) -> relax.Expr:
            return values.get(op, op)

    replacement = Replacement()
    functions = {
        variable: replacement.visit_expr(function) if isinstance(function, relax.Function) else function
        for variable, function in module.functions.items()
    }
    return tvm.IRModule(functions, attrs=module.attrs)
