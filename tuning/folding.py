"""Computes what is known when a network is built: calls of TIR functions whose arguments are all constants.

TVM's ``FoldConstant`` compiles these functions one by one. There is one for each layer, which rearranges its
weights; compiled together they take a fraction of the time.
"""

import tvm
from tvm import relax
from tvm.ir import Expr, GenericConst, IRModule

_HOST = {"kind": "llvm", "opt-level": 0}


def fold(module: IRModule) -> IRModule:
    """Return a network with constants in place of calls on constants; some functions are of no use then.

    Parameters
    ----------
    module : IRModule
        One Relax function ``main``, lowered to calls of TIR functions.
    """
    while names := _functions_of_constants(module):
        functions = {name.name_hint: _plain(module[name], name.name_hint) for name in names}
        folder = _Folder(module, tvm.compile(IRModule(functions), _HOST))
        main = module.get_global_var("main")
        folder.builder_.update_func(main, folder.visit_expr(module[main]))
        module = relax.transform.CanonicalizeBindings()(folder.builder_.get())
    return module


def _functions_of_constants(module: IRModule) -> set[tvm.ir.GlobalVar]:
    found: set[tvm.ir.GlobalVar] = set()

    def visit(expression: Expr) -> None:
        if _is_on_constants(expression):
            found.add(expression.args[0])

    relax.analysis.post_order_visit(module["main"].body, visit)
    return found


def _is_on_constants(expression: Expr) -> bool:
    if not isinstance(expression, relax.Call) or expression.op != tvm.ir.Op.get("relax.call_tir"):
        return False
    return all(isinstance(each, GenericConst) for each in expression.args[1].fields)


def _plain(function: tvm.tirx.PrimFunc, name: str) -> tvm.tirx.PrimFunc:
    return function.without_attr("target").with_attr("global_symbol", name)


@relax.expr_functor.mutator
class _Folder(relax.PyExprMutator):
    def __init__(self, module: IRModule, functions: tvm.runtime.Module) -> None:
        super().__init__(module)
        self._functions = functions

    def visit_call_(self, call: relax.Call) -> Expr:
        call = self.visit_expr_post_order(call)
        if not _is_on_constants(call):
            return call
        types = list(getattr(call.ty, "fields", [call.ty]))
        results = [tvm.runtime.empty([int(each) for each in one.shape], str(one.dtype)) for one in types]
        self._functions[call.args[0].name_hint](*(each.value for each in call.args[1].fields), *results)
        constants = [relax.const(each) for each in results]
        return relax.Tuple(constants) if len(constants) > 1 else constants[0]
