"""The result of a retraining, read back for the stages behind it."""

from __future__ import annotations

from pipeline.errors import UserError
from pipeline.importer import load_network
from pipeline.merging.verified import MergedNetwork, verify_module
from pipeline.network import Network
from pipeline.retraining.result import Retrained
from pipeline.twin import evaluate


def retrained_network(retrained: Retrained, original: Network) -> MergedNetwork:
    """Read a retrained network, in the place of one that is merged anew.

    Parameters
    ----------
    retrained : Retrained
        What `retrain` wrote.
    original : Network
        What it came from.

    Returns
    -------
    MergedNetwork
        Its reference is what the retrained network computes in torch for the original's golden inputs, its
        check the comparison of the file in torch with the file in onnxruntime.

    Raises
    ------
    UserError
        It came from another network, has other inputs or outputs, or cannot be read.
    """
    record, directory = retrained.record, retrained.directory
    if record.source_digest != original.source_digest:
        raise UserError(
            f"{directory} is the retraining of another network, {record.network} ({record.source_digest}): "
            "give the model that it came from, or retrain this one"
        )
    network = load_network(retrained.network)
    if (network.inputs, network.outputs) != (original.inputs, original.outputs):
        raise UserError(
            f"{directory} was retrained for other inputs or outputs than the model has now: "
            "give the same --input-shape as to `deeprebirth retrain`"
        )
    outputs = evaluate(network.module, list(original.golden.inputs.values()))
    return MergedNetwork(
        module=network.module,
        plan=record.plan,
        reference=dict(zip(original.golden.outputs, outputs, strict=True)),
        against="the retrained network in torch",
        check=verify_module(
            network.module, network.golden, "retrained network in torch", "its ONNX file in onnxruntime"
        ),
    )
