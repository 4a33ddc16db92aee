"""Save a retraining so that a killed one goes on.

`checkpoint/state.pt` holds which steps are done and with what result, the weights of the network after the
last step that was kept, and, inside a step, all that training goes on from. The merges themselves are made
again: the same merges of the same network give the same layers.
"""

from __future__ import annotations

import io
import os
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from pipeline.data.preprocessing import Preprocessing
from pipeline.errors import UserError
from pipeline.files import write_bytes_atomic, writing
from pipeline.record import Name, Record
from pipeline.retraining.records import StepResult
from pipeline.retraining.settings import Settings
from relay_passes import MergePlan

FOLDER = "checkpoint"
FILE = "state.pt"
DAMAGE = (OSError, RuntimeError, LookupError, TypeError, ValueError, EOFError, pickle.UnpicklingError)
"""What reading a damaged file ends in."""


class Identity(Record):
    """What has to be the same for a run to go on."""

    source_digest: str
    settings: Settings
    metric: str
    training: Name
    validation: Name
    preprocessing: Preprocessing | None = None
    loss: str | None = None
    ranks: str | None = None
    """How the ranks of decompositions are chosen, in words."""
    steps: tuple[Name, ...]


class Done(Record):
    """The steps that are done."""

    identity: Identity
    original: float
    results: tuple[StepResult, ...] = ()
    made: tuple[MergePlan, ...] = ()
    """For each step that was kept, what was merged, with the ranks of decompositions."""
    batches: int = 0
    """Trained on in all steps."""


class Saved:
    """What a checkpoint holds.

    Attributes
    ----------
    done : Done
    weights : dict of str to Tensor
        Of the network after the last step that was kept.
    step : dict or None
        The state inside the step that runs.
    """

    def __init__(self, done: Done, weights: dict[str, torch.Tensor], step: dict[str, Any] | None):
        self.done, self.weights, self.step = done, weights, step


def save(out: Path, saved: Saved) -> None:
    """Write the checkpoint, whole or not at all.

    Raises
    ------
    UserError
        It cannot be written there.
    """
    buffer = io.BytesIO()
    content = {"done": saved.done.model_dump_json(), "weights": saved.weights, "step": saved.step}
    torch.save(content, buffer)
    with writing(out / FOLDER):
        (out / FOLDER).mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(out / FOLDER / FILE, buffer.getvalue())


def load(out: Path, identity: Identity) -> Saved | None:
    """Read the checkpoint of a run that was broken off, or None if there is none.

    Raises
    ------
    UserError
        It is of another run, or damaged.
    """
    path = out / FOLDER / FILE
    if not os.path.exists(path):
        return None
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
        done = Done.model_validate_json(content["done"])
        saved = Saved(done, content["weights"], content["step"])
    except DAMAGE as error:
        reason = str(error).strip().partition("\n")[0][:100] or type(error).__name__
        raise UserError(f"{path} is damaged ({reason}): remove {path.parent} to start anew") from None
    if done.identity != identity:
        raise UserError(
            f"{out} {_difference(done.identity, identity)}: give the same again, or another --out"
        )
    return saved


def remove(out: Path) -> None:
    """Remove the checkpoint of a run that is finished, and what a killed one was writing."""
    folder = out / FOLDER
    for file in (folder / FILE, *folder.glob(".*.tmp")):
        file.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def _difference(saved: Identity, given: Identity) -> str:
    """The first thing that another run has otherwise, in words."""
    was, now = ({**dict(each), **dict(each.settings)} for each in (saved, given))
    name = next(name for name in was if was[name] != now[name] and name != "settings")
    if name in ("source_digest", "steps"):
        return "holds the retraining of another network, or with other merges"
    return f"holds a retraining with {name.replace('_', ' ')} {was[name]}, not {now[name]}"
