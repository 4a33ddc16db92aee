"""What all records that are written to files have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _encodable(text: object) -> object:
    return text.encode("utf-8", "replace").decode("utf-8") if isinstance(text, str) else text


Name = Annotated[str, BeforeValidator(_encodable)]
"""Text of the user's, in which what cannot be encoded is replaced."""


class Record(BaseModel):
    """A frozen record that knows all of its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
