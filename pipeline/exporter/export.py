"""From a model's file to its merged network as an ONNX file, checked before it is handed over."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from pipeline.errors import UserError
from pipeline.exporter.model import OPSET, to_onnx
from pipeline.files import check_writable, write_bytes_atomic, writing
from pipeline.importer import load_network
from pipeline.merging import EXACT_MERGES, MergedNetwork, MergeRequest, merge_verified
from pipeline.network import Network
from pipeline.record import Name, Record
from pipeline.report.model import Verification
from pipeline.twin import evaluate
from pipeline.verification import NotVerified, verify, worst
from relay_passes import REBORN, Cost, MergePlan, cost, reborn_layers, strip_softmax

LARGEST_FILE = 2**31 - 1
"""Bytes of one protobuf message, which an ONNX file is."""


class Exported(Record):
    """What `export` wrote.

    `reborn` names the layers that are not trained; with any, `notices` says what the file is good for.
    `verification` holds the exact merges against the original, then the file in onnxruntime against its
    reference.
    """

    name: Name
    framework: str
    source_digest: str
    path: Name
    bytes: int
    opset: int
    plan: MergePlan
    original: Cost
    merged: Cost
    reborn: tuple[Name, ...]
    notices: tuple[str, ...]
    verification: tuple[Verification, ...]

    @property
    def worst(self) -> Verification:
        """The comparison that comes closest to its tolerance."""
        return worst(self.verification)


def export(
    model: str | os.PathLike[str] | Any,
    *,
    onnx_file: str | os.PathLike[str],
    example_inputs: Any = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    request: MergeRequest = EXACT_MERGES,
    seed: int = 0,
) -> Exported:
    """Merge a model and write it as ONNX.

    The file is written only if it passes ONNX's own checks and onnxruntime computes from it what the original
    computes, or, with merges that need retraining, what the merged network computes in torch.

    Parameters
    ----------
    model, example_inputs, input_shapes
        As for `pipeline.load_network`.
    onnx_file : path
        The file to write; an older file there is replaced.
    request : MergeRequest
        The merges to make; by default all exact ones.
    seed : int
        For random golden inputs.

    Returns
    -------
    Exported

    Raises
    ------
    UserError
        The model, the request or the place cannot be used, or an operator cannot be written as ONNX.
    NotVerified
        What would be written differs from its reference.
    """
    path = _usable_place(onnx_file, model)
    network = load_network(model, example_inputs=example_inputs, input_shapes=input_shapes, seed=seed)
    merged = merge_verified(network, request)
    size, checks = write_onnx(path, network, merged)
    reborn = tuple(reborn_layers(merged.module))
    return Exported(
        name=network.name,
        framework=network.framework,
        source_digest=network.source_digest,
        path=os.fspath(onnx_file),
        bytes=size,
        opset=OPSET,
        plan=merged.plan,
        original=cost(network.module),
        merged=cost(merged.module),
        reborn=reborn,
        notices=(_notice(reborn),) if reborn else (),
        verification=(merged.check, *checks),
    )


def write_onnx(path: Path, network: Network, merged: MergedNetwork) -> tuple[int, tuple[Verification, ...]]:
    """Write a merged network, if onnxruntime computes from the file what it has to.

    Returns
    -------
    size : int
        Of the file in bytes.
    checks : tuple of Verification

    Raises
    ------
    UserError
        It cannot be written there, or an operator cannot be written as ONNX.
    NotVerified
        It breaks ONNX's rules or computes something else than the reference.
    """
    data = _serialized(to_onnx(merged.module, **_labels(network, merged)))
    checks = tuple(_checked(data, network, merged))
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(path, data)
    return len(data), checks


def _usable_place(place: str | os.PathLike[str], model: Any) -> Path:
    """The file that `place` stands for, links followed, if it can be written and is not the model itself."""
    path = os.path.realpath(place)
    if os.path.isdir(path):
        raise UserError(
            f"{place} is a directory: name the file to write, such as {Path(place, 'merged.onnx')}"
        )
    if os.path.exists(path) and not os.path.isfile(path):
        raise UserError(f"{place} is not a file: name another to write")
    is_file = isinstance(model, str | os.PathLike) and os.path.exists(model)
    if is_file and os.path.exists(path) and os.path.samefile(path, model):
        raise UserError(f"{place} is the model itself: name another file to write")
    check_writable(os.path.dirname(path))
    return Path(path)


def _notice(reborn: Sequence[str]) -> str:
    return f"for timing only: {len(reborn)} reborn layer{'s are' if len(reborn) > 1 else ' is'} not trained"


def _labels(network: Network, merged: MergedNetwork) -> dict[str, Any]:
    """What the file says of itself besides its layers."""
    reborn = reborn_layers(merged.module)
    notice = _notice(reborn) if reborn else ""
    merges = [
        each.model_dump(mode="json", include={"name", "kind", "exact"}) for each in merged.plan.candidates
    ]
    properties = {
        "deeprebirth.source_digest": network.source_digest,
        "deeprebirth.framework": network.framework,
        "deeprebirth.merges": json.dumps(merges),
        **({REBORN: json.dumps(reborn), "deeprebirth.notice": notice} if reborn else {}),
    }
    return {
        "name": network.name,
        "inputs": [spec.name for spec in network.inputs],
        "outputs": [spec.name for spec in network.outputs],
        "description": notice,
        "properties": properties,
    }


def _serialized(model: onnx.ModelProto) -> bytes:
    size = model.ByteSize()
    if size > LARGEST_FILE:
        raise UserError(
            f"the network takes {size / 1e9:.1f} GB, and an ONNX file holds 2.1 at most: deploy it instead"
        )
    return model.SerializeToString()


def _checked(data: bytes, network: Network, merged: MergedNetwork) -> list[Verification]:
    """The file's content in onnxruntime against the reference, before a final softmax or sigmoid too.

    Raises
    ------
    NotVerified
        It breaks ONNX's rules, onnxruntime cannot run it, or it differs.
    """
    try:
        onnx.checker.check_model(data, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise NotVerified(f"the exported network breaks ONNX's rules: {error}") from None
    golden, what = network.golden, "exported network in onnxruntime"
    checks = [verify(what, merged.against, merged.reference, _run(data, golden.inputs))]
    if golden.has_softmax:
        stripped = strip_softmax(merged.module)
        reference = golden.logits
        if not merged.plan.is_exact:
            outputs = evaluate(stripped, list(golden.inputs.values()))
            reference = dict(zip(reference, outputs, strict=True))
        inputs = {spec.name: golden.inputs[spec.name] for spec in network.inputs}
        outputs = _run(to_onnx(stripped, inputs=list(inputs)).SerializeToString(), inputs)
        checks.append(verify(f"{what}, before its softmax or sigmoid", merged.against, reference, outputs))
    return checks


def _run(data: bytes, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return session.run(None, dict(inputs))
    except Exception as error:
        raise NotVerified(f"onnxruntime cannot run the exported network: {error}") from None
