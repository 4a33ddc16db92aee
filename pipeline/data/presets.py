"""Preprocessing by name, from a file, or as the kind of data suggests.

A name stands for channels and values. The geometry (resizing, cropping) is that of the training data's kind:
photographs are cropped, arrays are only resized.
"""

from __future__ import annotations

import os
from typing import Any

from pydantic import RootModel, ValidationError

from pipeline.data.needs import ImageInput
from pipeline.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from pipeline.errors import UserError
from pipeline.merging.json_file import read_json

IMAGENET_RATIO = 256 / 224
"""Shorter side before cropping, to what is cropped."""

PRESETS: dict[str, dict[str, Any]] = {
    "imagenet": {"channels": "RGB", "scale": 1 / 255, "mean": IMAGENET_MEAN, "std": IMAGENET_STD},
    "unit": {"scale": 1 / 255},
    "signed": {"scale": 1 / 127.5, "mean": (1.0,)},
    "caffe": {"channels": "BGR", "scale": 1.0, "mean": (104.0, 117.0, 123.0)},
}


class _Fields(RootModel[dict[str, Any]]):
    """What a preprocessing file holds before the network fills the gaps."""


def for_photographs(image: ImageInput) -> Preprocessing:
    """Return ImageNet's preprocessing; for a grey network its geometry, and values of 0 to 1."""
    values = PRESETS["imagenet" if image.channels == 3 else "unit"]
    resize = round(max(image.size) * IMAGENET_RATIO)
    return Preprocessing(**{**_plain(image), **values, "resize": resize})


def for_arrays(image: ImageInput, *, of_bytes: bool) -> Preprocessing:
    """Return resizing to the network's size; bytes become 0 to 1, other numbers stay what they are."""
    return Preprocessing(**_plain(image), scale=1 / 255 if of_bytes else 1.0)


def choose_preprocessing(
    given: str | os.PathLike[str] | Preprocessing, usual: Preprocessing, image: ImageInput
) -> Preprocessing:
    """Return the preprocessing that the user asked for.

    Parameters
    ----------
    given : str, path or Preprocessing
        One of `PRESETS`, a JSON file with the record's fields, or the record. The network decides what a
        file leaves out of size and channels.
    usual : Preprocessing
        What the kind of data suggests: a name takes its geometry from it.
    image : ImageInput

    Raises
    ------
    UserError
        There is no such name or file, the file holds something else, or the network takes another size or
        other channels.
    """
    if isinstance(given, Preprocessing):
        chosen, called = given, "the preprocessing"
    elif given in PRESETS:
        geometry = {"size": usual.size, "resize": usual.resize, "interpolation": usual.interpolation}
        chosen, called = _made({**_plain(image), **geometry, **PRESETS[given]}, given), given
    else:
        chosen, called = _from_file(given, image), os.fspath(given)
    if chosen.size != image.size:
        raise UserError(f"{called} makes images of {chosen.size}, and the network takes {image.size}")
    if _channels(chosen) != image.channels:
        raise UserError(
            f"{called} makes {chosen.channels} images; the network takes {image.channels} channel(s)"
        )
    return chosen


def _plain(image: ImageInput) -> dict[str, Any]:
    return {"size": image.size, "channels": "RGB" if image.channels == 3 else "L"}


def _channels(preprocessing: Preprocessing) -> int:
    return 1 if preprocessing.channels == "L" else 3


def _from_file(path: str | os.PathLike[str], image: ImageInput) -> Preprocessing:
    if not os.path.exists(path):
        raise UserError(
            f"there is no preprocessing {os.fspath(path)}: choose {', '.join(PRESETS)}, or give a JSON file"
        )
    given = read_json(path, _Fields, "preprocessing file").root
    return _made({**_plain(image), **given}, os.fspath(path))


def _made(fields: dict[str, Any], called: str) -> Preprocessing:
    try:
        return Preprocessing(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f" at {place}" for place in first["loc"][:1])
        raise UserError(f"the preprocessing {called} does not fit{where}: {first['msg']}") from None
