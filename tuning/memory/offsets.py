"""Tensors that begin inside a storage, and functions that take them.

The virtual machine gives such a tensor the storage's address and the offset beside it, and functions refuse a
tensor with an offset unless their argument is declared with one.
"""

from collections import defaultdict
from collections.abc import Iterable

import tvm
from tvm import relax, tirx
from tvm.ir import Expr, IRModule, Op

from tuning.memory.straight import bindings_of, called, is_call, source_of, with_bindings


@tvm.transform.module_pass(opt_level=0, name="Offsets")
class Offsets:
    """The phase after memory has been planned: views of planned tensors become tensors at offsets."""

    def transform_module(self, module: IRModule, _: tvm.transform.PassContext) -> IRModule:
        """Return the module with functions that take these tensors."""
        bindings = bindings_of(module)
        if not any(_is_view(binding.value) for binding in bindings):
            return module
        module = with_bindings(module, _without_views(bindings))
        functions = {
            name: _at_offsets(module[name], arguments) for name, arguments in _moved_arguments(module).items()
        }
        return IRModule({**dict(module.functions_items()), **functions}, attrs=module.attrs)


def _is_view(expression: Expr) -> bool:
    return is_call(expression, "relax.memory.view")


def _is_tensor(expression: Expr) -> bool:
    return is_call(expression, "relax.memory.alloc_tensor")


def _without_views(bindings: Iterable[relax.Binding]) -> list[relax.Binding]:
    tensors: dict[Expr, relax.Call] = {}
    written = []
    for binding in bindings:
        value = binding.value
        if _is_view(value):
            value = _inside(tensors[value.args[0]], value)
            binding = relax.VarBinding(binding.var, value)
        if _is_tensor(value):
            tensors[binding.var] = value
        written.append(binding)
    return written


def _inside(tensor: relax.Call, view: relax.Call) -> relax.Call:
    """Return a view as a tensor of its own in the storage of another."""
    storage, begin, _, _, *rest = tensor.args
    _, shape, dtype, offset = view.args
    begin = relax.prim_value(int(begin) + int(offset))
    return relax.Call(Op.get("relax.memory.alloc_tensor"), [storage, begin, shape, dtype, *rest])


def _moved_arguments(module: IRModule) -> dict[tvm.ir.GlobalVar, set[int]]:
    """Return the functions of which a call takes tensors with an offset, and as which arguments."""
    moved: set[Expr] = set()
    arguments = defaultdict(set)
    for binding in bindings_of(module):
        value = binding.value
        if source_of(value) in moved or (_is_tensor(value) and int(value.args[1]) > 0):
            moved.add(binding.var)
        elif called(module, value):
            places = {place for place, each in enumerate(value.args) if each in moved}
            if places:
                arguments[value.op] |= places
    return arguments


def _at_offsets(function: tirx.PrimFunc, arguments: set[int]) -> tirx.PrimFunc:
    """Return a function some of whose arguments may have an offset, in words of its old arguments."""
    params, declarations = list(function.params), []
    for place in sorted(arguments):
        old = params[place]
        params[place] = _with_offset(old)
        first = tirx.BufferLoad(params[place], [0] * len(old.shape))
        declarations.append(tirx.DeclBuffer(old, data=tirx.address_of(first)))
    body = tirx.SeqStmt([*declarations, function.body])
    return tirx.PrimFunc(params, body, function.ret_type, function.attrs)


def _with_offset(buffer: tirx.Var) -> tirx.Var:
    offset = tirx.Var(f"{buffer.name}_offset", "int64")
    return tirx.decl_buffer(buffer.shape, buffer.dtype, buffer.name, elem_offset=offset, offset_factor=1)
