"""NPZ files: samples under `images` or `x`, labels under `labels` or `y`, in capital letters too.

`x_train`, `y_train`, `x_test`, `y_test` hold both parts in one file. A network of several inputs finds each
under the input's own name.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np

from pipeline.data.arrays import Arrays
from pipeline.data.needs import Needs
from pipeline.errors import UserError

IMAGES, LABELS = ("images", "x"), ("labels", "y")


def read_npz(path: str, suffixes: Sequence[str], needs: Needs) -> Arrays | None:
    """Read the arrays whose names end in the first of the suffixes that is there.

    Parameters
    ----------
    path : str
    suffixes : sequence of str
        `_train` for `x_train` and `y_train`, nothing for `x` and `y`.
    needs : Needs

    Returns
    -------
    Arrays or None
        None if there are none of these names.

    Raises
    ------
    UserError
        The file cannot be read, or holds something else than numbers.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            keys = {key.lower(): key for key in file.files}
            for suffix in suffixes:
                found = [_first(keys, names, suffix) for names in _input_names(needs)]
                if None not in found:
                    label = _first(keys, LABELS, suffix)
                    inputs = tuple(file[key] for key in found)
                    labels = None if label is None else file[label]
                    return Arrays(path, (os.path.realpath(path), *found), inputs, labels)
    except MemoryError:
        raise UserError(f"{path} does not fit into memory: give a Dataset that reads it bit by bit") from None
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise UserError(f"{path} is not an NPZ file of numbers: {error}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    return None


def array_names(path: str) -> tuple[str, ...]:
    """Return the names of the arrays in a file that `read_npz` could read."""
    with np.load(path, allow_pickle=False) as file:
        return tuple(file.files)


def wanted_names(needs: Needs) -> str:
    """Return in words what the samples of a network may be called."""
    return " and ".join(" or ".join(names) for names in _input_names(needs))


def _input_names(needs: Needs) -> list[tuple[str, ...]]:
    own = [(spec.name.lower(),) for spec in needs.inputs]
    return own if len(own) > 1 else [(*IMAGES, *own[0])]


def _first(keys: dict[str, str], names: tuple[str, ...], suffix: str) -> str | None:
    return next((keys[name + suffix] for name in names if name + suffix in keys), None)
