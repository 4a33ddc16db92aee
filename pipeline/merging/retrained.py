"""The result of a retraining, read back for the stages behind it."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.errors import UserError
from pipeline.importer import load_network
from pipeline.merging.json_file import read_json
from pipeline.merging.verified import MergedNetwork
from pipeline.network import Network
from pipeline.report.model import Verification
from pipeline.retraining.records import Retraining
from pipeline.twin import evaluate
from pipeline.verification import verify, worst
from relay_passes import strip_softmax

NETWORK, RECORD = "network.onnx", "retraining.json"


def read_retraining(directory: str | os.PathLike[str]) -> Retraining:
    """Read the record of a finished retraining.

    Raises
    ------
    UserError
        The directory holds none.
    """
    directory = Path(directory)
    if not all((directory / name).is_file() for name in (NETWORK, RECORD)):
        raise UserError(
            f"{directory} does not hold a finished retraining ({NETWORK}, {RECORD}): "
            "let `deeprebirth retrain` end there, or name another directory"
        )
    return read_json(directory / RECORD, Retraining, "retraining")


def retrained_network(
    directory: str | os.PathLike[str], record: Retraining, original: Network
) -> MergedNetwork:
    """Read a retrained network, in the place of one that is merged anew.

    Parameters
    ----------
    directory : path
        Where `retrain` wrote it.
    record : Retraining
        From the same directory.
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
    directory = Path(directory)
    if record.source_digest != original.source_digest:
        raise UserError(
            f"{directory} is the retraining of another network, {record.network} ({record.source_digest}): "
            "give the model that it came from, or retrain this one"
        )
    retrained = load_network(directory / NETWORK)
    if (retrained.inputs, retrained.outputs) != (original.inputs, original.outputs):
        raise UserError(
            f"{directory} was retrained for other inputs or outputs than the model has now: "
            "give the same --input-shape as to `deeprebirth retrain`"
        )
    outputs = evaluate(retrained.module, list(original.golden.inputs.values()))
    return MergedNetwork(
        module=retrained.module,
        plan=record.plan,
        reference=dict(zip(original.golden.outputs, outputs, strict=True)),
        against="the retrained network in torch",
        check=_check(retrained),
    )


def _check(retrained: Network) -> Verification:
    golden, what, against = retrained.golden, "retrained network in torch", "its ONNX file in onnxruntime"
    inputs = list(golden.inputs.values())
    check = verify(what, against, golden.outputs, evaluate(retrained.module, inputs))
    if not golden.has_softmax:
        return check
    before = evaluate(strip_softmax(retrained.module), inputs)
    return worst((check, verify(f"{what}, before its softmax or sigmoid", against, golden.logits, before)))
