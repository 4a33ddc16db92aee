"""Read a record that the user may have edited by hand."""

from __future__ import annotations

import os
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.errors import UserError

Record = TypeVar("Record", bound=BaseModel)


def read_json(path: str | os.PathLike[str], record: type[Record], what: str) -> Record:
    """Read a JSON file.

    Parameters
    ----------
    path : path
    record : type of pydantic.BaseModel
        What it has to hold.
    what : str
        What the user calls such a file.

    Raises
    ------
    UserError
        It cannot be read, or holds something else; the message names the place in it.
    """
    try:
        with open(path, "rb") as file:
            return record.model_validate_json(file.read())
    except OSError as error:
        raise UserError(f"cannot read {what} {path}: {(error.strerror or str(error)).lower()}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        where = f" at {place}" if place else ""
        raise UserError(f"{path} is not a {what}{where}: {first['msg']}") from None
