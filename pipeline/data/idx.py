"""IDX files, as MNIST and Fashion-MNIST come in.

Two zero bytes, a code for the type, the number of axes, the length of each axis as 32 bits big-endian, then
the values in C order. The file may be compressed by gzip, whatever its name.
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Iterable
from math import prod
from typing import BinaryIO

import numpy as np

from pipeline.data.arrays import Arrays
from pipeline.data.content import Part
from pipeline.errors import UserError

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MOST_AXES = 8
GZIP = b"\x1f\x8b"

IMAGES = {"training": "train-images", "validation": "t10k-images"}
SPELLINGS = ("-idx3-ubyte", ".idx3-ubyte")
ENDINGS = ("", ".gz")


def has_idx(directory: str) -> bool:
    """Tell whether a directory holds images under MNIST's names."""
    return any(_named(directory, part) is not None for part in IMAGES)


def read_idx_directory(directory: str, part: Part) -> Arrays | None:
    """Read the training (`train-`) or validation part (`t10k-`) of a directory with MNIST's names.

    Returns
    -------
    Arrays or None
        None if there is no such part.

    Raises
    ------
    UserError
        As `read_idx`.
    """
    images = _named(directory, part)
    return None if images is None else read_idx_file(images)


def read_idx_file(images: str) -> Arrays:
    """Read images, and the labels from the file beside it that MNIST's names suggest, if there is one.

    Raises
    ------
    UserError
        As `read_idx`; or the file does not hold images.
    """
    array = read_idx(images)
    if array.ndim not in (3, 4):
        raise UserError(f"{images} has {array.ndim} axes, and images have 3: give the file of the images")
    labels = _labels_of(images)
    return Arrays(images, os.path.realpath(images), (array,), None if labels is None else read_idx(labels))


def read_idx(path: str) -> np.ndarray:
    """Read one IDX file.

    Raises
    ------
    UserError
        It cannot be read, is no IDX file, or is longer or shorter than it says.
    """
    try:
        with open(path, "rb") as file:
            zipped = file.read(len(GZIP)) == GZIP
            file.seek(0)
            if not zipped:
                return _read(file, path)
            with gzip.open(file) as unzipped:
                return _read(unzipped, path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is damaged ({error}): fetch it again") from None
    except MemoryError:
        raise UserError(f"{path} does not fit into memory: give a Dataset that reads it bit by bit") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None


def _read(file: BinaryIO, path: str) -> np.ndarray:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or not 1 <= magic[3] <= MOST_AXES:
        raise UserError(f"{path} is not an IDX file: it begins with {magic.hex() or 'nothing'}")
    header = file.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise UserError(f"{path} ends within its header: fetch it again")
    shape = struct.unpack(f">{magic[3]}I", header)
    dtype = np.dtype(TYPES[magic[2]])
    size = prod(shape) * dtype.itemsize
    data = file.read()
    if len(data) != size:
        raise UserError(
            f"{path} should hold {shape} in {size:,} bytes, and holds {len(data):,} bytes: fetch it again"
        )
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _named(directory: str, part: Part) -> str | None:
    names = [f"{IMAGES[part]}{spelling}{ending}" for spelling in SPELLINGS for ending in ENDINGS]
    return _first_there(os.path.join(directory, name) for name in names)


def _labels_of(images: str) -> str | None:
    directory, name = os.path.split(images)
    beside = name.replace("images", "labels").replace("idx3", "idx1").removesuffix(".gz")
    return (
        None
        if "images" not in name
        else _first_there(os.path.join(directory, beside + end) for end in ENDINGS)
    )


def _first_there(paths: Iterable[str]) -> str | None:
    return next((path for path in paths if os.path.isfile(path)), None)
