"""A directory of image files: one folder for each class, as ImageNet has it, or images without labels.

The sorted names of the folders are classes 0, 1, ...; a file of class names gives another order, or names
classes that this directory has no folder for. Images may lie deeper in a class's folder. Only names are held;
images are read when they are asked for, by as many threads as there are cores, since PIL lets go of the
interpreter's lock while it decodes and resizes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.data.needs import Needs
from pipeline.data.pixels import CHANCES, normalised, photograph
from pipeline.data.preprocessing import Preprocessing
from pipeline.data.presets import for_photographs
from pipeline.data.source import NOTHING, Batch
from pipeline.data.user_code import reason_of
from pipeline.errors import UserError
from targets.machine import core_count

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm")


@dataclass(frozen=True)
class ImageFolder:
    """The image files of a directory, in the order of their classes and names.

    Parameters
    ----------
    name, place : str
        The directory as the user gave it, and where it really is.
    files : list of str
        Paths relative to the directory.
    labels : numpy.ndarray, optional
        int64, one for each file.
    class_names : tuple of str, optional
    """

    name: str
    place: str
    files: list[str]
    labels: np.ndarray | None
    class_names: tuple[str, ...] | None

    def usual_preprocessing(self, needs: Needs) -> Preprocessing:
        """Return ImageNet's preprocessing at the network's size."""
        return for_photographs(needs.image_for(self.name))

    def source(self, needs: Needs, preprocessing: Preprocessing | None) -> ImageSource:
        """Return the images as the network gets them."""
        image = needs.image_for(self.name)
        if self.class_names is not None and len(self.class_names) != needs.classes:
            raise UserError(self._other_classes(needs))
        return ImageSource(self, preprocessing or for_photographs(image), image.channels_last)

    def _other_classes(self, needs: Needs) -> str:
        found = f"{self.name} has {len(self.class_names)} classes (folders)"
        if needs.classes is None:
            shape = ", ".join(map(str, needs.output_shape))
            return f"{found}, and the network's output ({shape}) is not one score a class: give a Dataset"
        empty = set(range(len(self.class_names))) - set(np.unique(self.labels).tolist())
        stray = (
            f"; without images: {', '.join(self.class_names[each] for each in sorted(empty)[:3])}"
            if empty
            else ""
        )
        return (
            f"{found}, and the network has {needs.classes} outputs{stray}: give the data this network was "
            "trained for; if folders are missing, name all classes in a file, one a line (--classes)"
        )


class ImageSource:
    """Images of a directory, preprocessed; a file that cannot be decoded is left out and noted."""

    def __init__(self, folder: ImageFolder, preprocessing: Preprocessing, channels_last: bool):
        self.name = folder.name
        self.classes = None if folder.class_names is None else len(folder.class_names)
        self.labelled = folder.labels is not None
        self.unreadable: dict[str, str] = {}
        self._folder = folder
        self._preprocessing = preprocessing
        self._channels_last = channels_last
        self._pool = ThreadPoolExecutor(core_count(), thread_name_prefix="images")

    def __len__(self) -> int:
        return len(self._folder.files)

    def fetch(self, indices: Sequence[int], augmentation: torch.Generator | None) -> Batch:
        """Read, cut and normalise images, in this order."""
        chances: Sequence[Tensor | None] = (
            [None] * len(indices)
            if augmentation is None
            else torch.rand(len(indices), CHANCES, generator=augmentation)
        )
        read = list(zip(indices, self._pool.map(self._read, indices, chances), strict=True))
        for index, result in read:
            if isinstance(result, str):
                self.unreadable[self._folder.files[index]] = result
        kept = [(index, result) for index, result in read if not isinstance(result, str)]
        if not kept:
            return NOTHING
        pixels = np.moveaxis(np.stack([result for _, result in kept]), -1, 1)
        inputs = normalised(pixels, self._preprocessing, channels_last=self._channels_last)
        return Batch((inputs,), self._labels([index for index, _ in kept]))

    def _labels(self, indices: list[int]) -> Tensor | None:
        labels = self._folder.labels
        return None if labels is None else torch.from_numpy(labels[indices])

    def _read(self, index: int, chances: Tensor | None) -> np.ndarray | str:
        """Return the pixels, or the reason why there are none."""
        try:
            with Image.open(os.path.join(self._folder.place, self._folder.files[index])) as image:
                return photograph(image, self._preprocessing, chances)
        except MemoryError:
            raise
        except Exception as error:
            return reason_of(error)


def read_folder(path: str, class_names: tuple[str, ...] | None = None) -> ImageFolder | None:
    """List the images of a directory.

    Parameters
    ----------
    path : str
    class_names : tuple of str, optional
        All classes in the order of the network's outputs; by default the sorted names of the folders.

    Returns
    -------
    ImageFolder or None
        None if there are no images.

    Raises
    ------
    UserError
        A folder is none of the classes, or the directory cannot be read.
    """
    place = os.path.realpath(path)
    entries = sorted(visible(place), key=lambda entry: entry.name)
    by_folder = {entry.name: list(_images(place, entry.name)) for entry in entries if entry.is_dir()}
    if any(by_folder.values()):
        return _classes(path, place, by_folder, class_names)
    loose = [entry.name for entry in entries if _is_image(entry)]
    return ImageFolder(path, place, loose, None, None) if loose else None


def read_class_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read class names, one a line, in the order of the network's outputs.

    Raises
    ------
    UserError
        The file cannot be read, or holds no names or a name twice.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            names = [line.strip() for line in file if line.strip()]
    except OSError as error:
        raise UserError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file in UTF-8: write one class name a line") from None
    if not names:
        raise UserError(f"{path} names no classes: write one a line")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path} names {twice} twice: each class has one line")
    return tuple(names)


def visible(directory: str) -> list[os.DirEntry[str]]:
    """Return what a directory holds besides hidden files and folders.

    Raises
    ------
    UserError
        It cannot be read.
    """
    try:
        with os.scandir(directory) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(f"cannot read {directory}: {(error.strerror or str(error)).lower()}") from None


def _classes(
    path: str, place: str, by_folder: dict[str, list[str]], class_names: tuple[str, ...] | None
) -> ImageFolder:
    names = class_names or tuple(by_folder)
    number = {name: at for at, name in enumerate(names)}
    if foreign := [folder for folder in by_folder if folder not in number]:
        raise UserError(
            f"{path} has the folder {foreign[0]}, which is none of the {len(names)} classes: "
            "remove it, or name it among the classes"
        )
    in_order = sorted(by_folder, key=number.__getitem__)
    counts = [len(by_folder[folder]) for folder in in_order]
    labels = np.repeat(np.array([number[folder] for folder in in_order], dtype=np.int64), counts)
    return ImageFolder(
        path, place, [file for folder in in_order for file in by_folder[folder]], labels, names
    )


def _images(place: str, folder: str) -> Iterator[str]:
    """Relative paths of all images below a folder, sorted; links to folders are not followed deeper down."""
    entries = sorted(visible(os.path.join(place, folder)), key=lambda entry: entry.name)
    for entry in entries:
        inside = os.path.join(folder, entry.name)
        if entry.is_dir(follow_symlinks=False):
            yield from _images(place, inside)
        elif _is_image(entry):
            yield inside


def _is_image(entry: os.DirEntry[str]) -> bool:
    return (
        entry.name.lower().endswith(SUFFIXES)
        and (entry.is_file() or entry.is_symlink())
        and not entry.is_dir()
    )
