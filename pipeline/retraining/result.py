"""What a retraining leaves: network.onnx and retraining.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError
from pipeline.exporter import write_onnx
from pipeline.files import write_text_atomic
from pipeline.merging import MergedNetwork
from pipeline.merging.json_file import read_json
from pipeline.network import Network
from pipeline.retraining.checkpoint import Identity
from pipeline.retraining.records import Retraining

NETWORK, RECORD = "network.onnx", "retraining.json"


@dataclass(frozen=True)
class Retrained:
    """A finished retraining and where it lies."""

    record: Retraining
    directory: Path

    @property
    def network(self) -> Path:
        """The merged, retrained network as ONNX."""
        return self.directory / NETWORK


def read_result(directory: Path) -> Retrained:
    """Read what `retrain` wrote.

    Raises
    ------
    UserError
        It is no such directory, or the retraining is not finished.
    """
    if not (directory / RECORD).is_file() or not (directory / NETWORK).is_file():
        raise UserError(
            f"{directory} holds no finished retraining: run `deeprebirth retrain` with --out there"
        )
    return Retrained(read_json(directory / RECORD, Retraining, "retraining"), directory)


def find_result(directory: Path, identity: Identity) -> Retrained | None:
    """The finished retraining in a directory, if there is one with both of its files.

    Raises
    ------
    UserError
        It is another than the one wanted.
    """
    if not (directory / RECORD).exists() or not (directory / NETWORK).exists():
        return None
    found = read_result(directory)
    record = found.record
    same = (
        record.source_digest == identity.source_digest
        and record.settings == identity.settings
        and record.preprocessing == identity.preprocessing
        and (record.metric, record.loss, record.ranks) == (identity.metric, identity.loss, identity.ranks)
        and (record.training.name, record.validation.name) == (identity.training, identity.validation)
        and tuple(step.name for step in record.steps if step.merges) == identity.steps
    )
    if not same:
        raise UserError(
            f"{directory} holds another retraining, of {record.network} with other data, merges or settings: "
            "give another --out"
        )
    return found


def write_result(directory: Path, network: Network, merged: MergedNetwork, record: Retraining) -> Retrained:
    """Write both files, the record last.

    Raises
    ------
    NotVerified
        onnxruntime computes something else from the file than torch.
    """
    write_onnx(directory / NETWORK, network, merged)
    write_text_atomic(directory / RECORD, record.model_dump_json(indent=2) + "\n")
    return Retrained(record, directory)
