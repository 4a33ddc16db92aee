"""Tell the form of data by what is there: class folders, images, IDX, NPZ, or a user's dataset."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pipeline.data.arrays import Arrays
from pipeline.data.content import Content, Part
from pipeline.data.idx import GZIP, has_idx, read_idx_directory, read_idx_file
from pipeline.data.image_folder import SUFFIXES, ImageFolder, read_folder, visible
from pipeline.data.needs import Needs
from pipeline.data.npz import array_names, read_npz, wanted_names
from pipeline.data.user_code import is_reference
from pipeline.data.user_dataset import call_for_dataset, of_dataset
from pipeline.errors import UserError

if TYPE_CHECKING:
    from torch.utils.data import Dataset

FOLDERS: dict[Part, tuple[str, ...]] = {
    "training": ("train",),
    "validation": ("val", "validation", "valid", "test"),
}
ARRAYS: dict[Part, tuple[str, ...]] = {"training": ("_train",), "validation": ("_val", "_test")}
WHOLE = ("",)

ZIP, NPY, IDX = b"PK", b"\x93N", b"\0\0"
KNOWN = "a directory of class folders, IDX or .npz files, or module:function"


def find_content(
    given: str | os.PathLike[str] | Dataset,
    part: Part,
    needs: Needs,
    class_names: tuple[str, ...] | None,
    seed: int,
) -> Content:
    """Find what the user means.

    Parameters
    ----------
    given : str, path or Dataset
    part : {"training", "validation"}
        Which is taken where a directory or file holds both; where it holds one thing, that is it.
    needs : Needs
    class_names : tuple of str, optional
        All classes, for image folders.
    seed : int
        For a function that makes a dataset.

    Raises
    ------
    UserError
        There is no data there, or not in a form that is known.
    """
    if not isinstance(given, str | os.PathLike):
        return of_dataset(given)
    path = os.fspath(given)
    if os.path.isdir(path):
        return _in_directory(path, part, class_names)
    if os.path.isfile(path):
        return _in_file(path, part, needs)
    if os.path.exists(path):
        raise UserError(f"{path} is neither a file nor a directory: give {KNOWN}")
    if isinstance(given, str) and is_reference(given):
        return call_for_dataset(given, seed)
    raise UserError(f"there is no {path}: give {KNOWN}")


def find_own_validation(
    training: str | os.PathLike[str] | Dataset, needs: Needs, class_names: tuple[str, ...] | None
) -> Content | None:
    """Find the validation part that training data may bring along.

    Raises
    ------
    UserError
        There is one, and it cannot be read.
    """
    if not isinstance(training, str | os.PathLike):
        return None
    path = os.fspath(training)
    if os.path.isdir(path) and has_idx(path):
        return read_idx_directory(path, "validation")
    if os.path.isdir(path):
        folder = _folder_of(path, "validation")
        return None if folder in (None, path) else read_folder(folder, class_names)
    return _own_arrays(path, needs)


def _in_directory(path: str, part: Part, class_names: tuple[str, ...] | None) -> Content:
    if has_idx(path):
        found: Arrays | ImageFolder | None = read_idx_directory(path, part)
        wanted = f"{'train' if part == 'training' else 't10k'}-images-idx3-ubyte"
    else:
        folder = _folder_of(path, part)
        found = None if folder is None else read_folder(folder, class_names)
        wanted = (
            f"{' or '.join(FOLDERS[part])} folder" if folder is None else f"image ({', '.join(SUFFIXES)})"
        )
    if found is None:
        raise UserError(f"{path} holds no {part} data: there is no {wanted} in it; give {KNOWN}")
    return found


def _in_file(path: str, part: Part, needs: Needs) -> Content:
    beginning = _beginning(path)
    if beginning in (GZIP, IDX):
        return read_idx_file(path)
    if beginning == NPY:
        raise UserError(f"{path} is an .npy file: save samples and labels together with numpy.savez as .npz")
    if beginning != ZIP:
        raise UserError(f"{path} is neither an .npz nor an IDX file: give {KNOWN}")
    found = read_npz(path, (*ARRAYS[part], *WHOLE), needs)
    if found is None:
        raise UserError(
            f"{path} holds no {part} samples among its arrays ({', '.join(array_names(path)) or 'none'}): "
            f"call them {wanted_names(needs)}, or with {' or '.join(ARRAYS[part])} at the end"
        )
    return found


def _own_arrays(path: str, needs: Needs) -> Arrays | None:
    if not os.path.isfile(path) or _beginning(path) != ZIP:
        return None
    return read_npz(path, ARRAYS["validation"], needs)


def _beginning(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(2)
    except OSError as error:
        raise UserError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None


def _folder_of(path: str, part: Part) -> str | None:
    """Return the folder of a part; the directory itself if it has no parts; None if it lacks this one.

    A class may be called `train`: folders are parts where both parts are there, or nothing else is.
    """
    folders = {entry.name.lower(): entry.path for entry in visible(path) if entry.is_dir()}
    present = {each: [name for name in names if name in folders] for each, names in FOLDERS.items()}
    others = set(folders).difference(*FOLDERS.values())
    if not folders or (others and not all(present.values())):
        return path
    return folders[present[part][0]] if present[part] else None
