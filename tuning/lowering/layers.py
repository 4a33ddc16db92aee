"""A network's layers that can be computed in more than one way, and the network with a way for each."""

from collections.abc import Callable

from tvm import relax
from tvm.ir import Expr, IRModule

from tuning.lowering.winograd import convolved, fits

Way = Callable[[relax.BlockBuilder, relax.Call, int], Expr]


def layers_of(module: IRModule) -> list[relax.Call]:
    """Return the calls of ``main`` that have a choice, in order."""
    found: list[relax.Call] = []

    def visit(expression: Expr) -> None:
        if isinstance(expression, relax.Call) and fits(expression):
            found.append(expression)

    relax.analysis.post_order_visit(module["main"].body, visit)
    return found


def lowered(module: IRModule, way: Way) -> IRModule:
    """Return a network with each of its layers that have a choice computed in a way of the caller's.

    Parameters
    ----------
    module : IRModule
        One Relax function ``main``, not legalised.
    way : callable
        Takes a builder, the call, and the layer's number, in the order of the calls; returns what replaces
        the call.
    """
    lowering = _Lowering(module, way)
    main = module.get_global_var("main")
    lowering.builder_.update_func(main, lowering.visit_expr(module[main]))
    return lowering.builder_.get()


def with_winograd(module: IRModule, chosen: Callable[[int], bool] = lambda _: True) -> IRModule:
    """Return a network with Winograd's convolution in place of the direct one in the chosen layers.

    Parameters
    ----------
    module : IRModule
        One Relax function ``main``, not legalised.
    chosen : callable
        Tells of a layer's number whether it is.
    """
    return lowered(module, lambda builder, call, layer: convolved(builder, call) if chosen(layer) else call)


@relax.expr_functor.mutator
class _Lowering(relax.PyExprMutator):
    def __init__(self, module: IRModule, way: Way) -> None:
        super().__init__(module)
        self._way = way
        self._layers = 0

    def visit_call_(self, call: relax.Call) -> Expr:
        call = self.visit_expr_post_order(call)
        if not fits(call):
            return call
        self._layers += 1
        return self._way(self.builder_, call, self._layers - 1)
