"""A network's layers that can be computed in more than one way, and the network with a way for each."""

from collections.abc import Callable

import tvm
from tvm import relax
from tvm.ir import Expr, IRModule

from tuning.lowering.winograd import convolved, fits


def layers_of(module: IRModule) -> list[relax.Call]:
    """Return the calls of ``main`` that have a choice, in order."""
    return [call for call in calls_of(module) if fits(call)]


def with_winograd(module: IRModule, chosen: Callable[[int], bool] = lambda _: True) -> IRModule:
    """Return a network with Winograd's convolution in place of the direct one in the chosen layers.

    Parameters
    ----------
    module : IRModule
        One Relax function ``main``, not legalised.
    chosen : callable
        Tells of a layer's number, in the order of the calls, whether it is.
    """
    lowering = _Lowering(module, chosen)
    main = module.get_global_var("main")
    lowering.builder_.update_func(main, lowering.visit_expr(module[main]))
    return lowering.builder_.get()


def calls_of(module: IRModule) -> list[relax.Call]:
    """Return the calls in ``main``, in order."""
    found: list[relax.Call] = []

    def visit(expression: Expr) -> None:
        if isinstance(expression, relax.Call):
            found.append(expression)

    relax.analysis.post_order_visit(module["main"].body, visit)
    return found


def calls_of_functions(module: IRModule) -> list[relax.Call]:
    """Return the calls of TIR functions in ``main``, in order."""
    return [call for call in calls_of(module) if call.op == tvm.ir.Op.get("relax.call_tir")]


@relax.expr_functor.mutator
class _Lowering(relax.PyExprMutator):
    def __init__(self, module: IRModule, chosen: Callable[[int], bool]) -> None:
        super().__init__(module)
        self._chosen = chosen
        self._layers = 0

    def visit_call_(self, call: relax.Call) -> Expr:
        call = self.visit_expr_post_order(call)
        if not fits(call):
            return call
        self._layers += 1
        return self._with_winograd(call) if self._chosen(self._layers - 1) else call

    def _with_winograd(self, call: relax.Call) -> Expr:
        """Return Winograd's convolution; a plain image is a packed one whose blocks hold one channel."""
        packed = self.builder_.emit(relax.op.reshape(call.args[0], [*call.args[0].ty.shape, 1]))
        result = self.builder_.emit(convolved(self.builder_, packed, call, 1))
        return relax.op.reshape(result, list(call.ty.shape))
