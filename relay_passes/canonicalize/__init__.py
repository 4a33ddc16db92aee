"""One spelling for what the importers spell in many ways (docs/architecture.md, "The canonical module")."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tvm
from tvm import relax

from relay_passes.canonicalize.absorb_padding import absorb_padding
from relay_passes.canonicalize.drop_identities import drop_identities
from relay_passes.canonicalize.fold_constants import fold_constants
from relay_passes.canonicalize.name_layers import NameTheRest, name_layers
from relay_passes.canonicalize.raise_tensor_ir import raise_tensor_ir
from relay_passes.canonicalize.respell_batch_norm import respell_batch_norm
from relay_passes.canonicalize.respell_clip import respell_clip
from relay_passes.canonicalize.respell_lrn import respell_lrn
from relay_passes.canonicalize.respell_prelu import respell_prelu
from relay_passes.canonicalize.respell_scale import respell_scale
from relay_passes.canonicalize.respell_silu import respell_silu
from relay_passes.canonicalize.respell_sum import respell_sum

PHASES = (
    raise_tensor_ir,
    drop_identities,
    fold_constants,
    respell_lrn,
    respell_prelu,
    respell_clip,
    respell_silu,
    respell_sum,
    respell_batch_norm,
    respell_scale,
    absorb_padding,
)


NO_LAYERS: Mapping[relax.Var, str] = {}


def canonicalize(
    module: tvm.IRModule, weights: Mapping[str, np.ndarray], layers: Mapping[relax.Var, str] = NO_LAYERS
) -> tvm.IRModule:
    """Bind the weights and bring the module to its canonical form.

    Parameters
    ----------
    module : tvm.IRModule
        As an importer made it; the parameters of `main` after the inputs are named after the weights.
    weights : mapping of str to numpy.ndarray
        The value of each of those parameters.
    layers : mapping of relax.Var to str, optional
        The user's layer that a value of `main` belongs to; no two layers have one name.

    Returns
    -------
    tvm.IRModule
    """
    module, layer_of = name_layers(module, layers)
    module = relax.transform.BindParams("main", dict(weights))(module)
    module["main"] = module["main"].without_attr("params")
    return tvm.transform.Sequential([*PHASES, NameTheRest(layer_of)])(module)
