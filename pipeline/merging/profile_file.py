"""The time that each layer takes, as a file."""

from __future__ import annotations

import os

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat

from pipeline.merging.json_file import read_json


class Profile(BaseModel):
    """Milliseconds that each layer takes, by its name, and what they were measured on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    measured_on: str = Field(min_length=1)
    milliseconds: dict[str, NonNegativeFloat] = Field(min_length=1)


def read_profile(path: str | os.PathLike[str]) -> Profile:
    """Read a profile.

    Raises
    ------
    UserError
        The file cannot be read, or is no profile.
    """
    return read_json(path, Profile, "profile")
