"""A merge plan as a file: written by `inspect`, edited by hand, and given back."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import BaseModel, ConfigDict

from pipeline.files import write_text_atomic
from pipeline.merging.json_file import read_json
from relay_passes import MergePlan


class PlanFile(BaseModel):
    """What a plan file holds. Only the merges under `plan.candidates` are made when it is given back."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["deeprebirth merge plan"] = "deeprebirth merge plan"
    version: Literal[1] = 1
    network: str
    plan: MergePlan


def write_plan(path: str | os.PathLike[str], plan: MergePlan, network: str) -> None:
    """Write a plan as indented JSON.

    Raises
    ------
    UserError
        The file cannot be written.
    """
    write_text_atomic(path, PlanFile(network=network, plan=plan).model_dump_json(indent=2) + "\n")


def read_plan(path: str | os.PathLike[str]) -> MergePlan:
    """Read a plan that `write_plan` wrote, perhaps edited since.

    Raises
    ------
    UserError
        The file cannot be read, or is no plan.
    """
    return read_json(path, PlanFile, "merge plan").plan
