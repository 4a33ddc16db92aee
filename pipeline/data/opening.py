"""Open training and validation data, and check them against the network."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.data.content import Content
from pipeline.data.forms import find_content, find_own_validation
from pipeline.data.image_folder import read_class_names
from pipeline.data.needs import Needs
from pipeline.data.preprocessing import Preprocessing
from pipeline.data.presets import choose_preprocessing
from pipeline.data.source import Source
from pipeline.errors import UserError

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from pipeline.network import Network


@dataclass(frozen=True)
class Data:
    """Training and validation data, preprocessed alike.

    Parameters
    ----------
    training, validation : Source
    preprocessing : Preprocessing, optional
        None where a user's dataset does it by itself, or samples are given to the network as they are.
    """

    training: Source
    validation: Source
    preprocessing: Preprocessing | None


def open_data(
    training: str | os.PathLike[str] | Dataset,
    validation: str | os.PathLike[str] | Dataset | None,
    network: Network,
    *,
    preprocessing: str | os.PathLike[str] | Preprocessing | None = None,
    classes: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Data:
    """Open the data for a network.

    Parameters
    ----------
    training, validation : str, path or torch.utils.data.Dataset
        A directory of class folders or images, IDX or NPZ files, `module:function`, or a dataset. Without
        validation data the part is taken that the training data brings along.
    network : Network
    preprocessing : str, path or Preprocessing, optional
        `imagenet`, `unit`, `signed`, `caffe`, a JSON file, or a record; by default what the kind of the data
        suggests.
    classes : path, optional
        A text file of class names, one a line, in the order of the network's outputs.
    seed : int
        For functions that make datasets.

    Returns
    -------
    Data

    Raises
    ------
    UserError
        There is no data, training and validation are the same, or they do not fit each other or the network.
    """
    needs = Needs.of(network)
    names = None if classes is None else read_class_names(classes)
    train = find_content(training, "training", needs, names, seed)
    held_out = _validation(training, validation, train, needs, names, seed)
    if classes is not None and train.class_names is None and held_out.class_names is None:
        raise UserError(f"class names ({classes}) are for class folders, and there are none: leave them out")
    chosen = _preprocessing(train, held_out, needs, preprocessing)
    data = Data(train.source(needs, chosen), held_out.source(needs, chosen), chosen)
    for part, source in (("training", data.training), ("validation", data.validation)):
        if len(source) == 0:
            raise UserError(f"the {part} data {source.name} holds no samples")
    return data


def _validation(
    training: str | os.PathLike[str] | Dataset,
    validation: str | os.PathLike[str] | Dataset | None,
    train: Content,
    needs: Needs,
    names: tuple[str, ...] | None,
    seed: int,
) -> Content:
    names = names or train.class_names
    if validation is None:
        if (own := find_own_validation(training, needs, names)) is None:
            raise UserError(f"{train.name} has no validation data of its own: give some with --validation")
        return own
    if not _same(training, validation):
        held_out = find_content(validation, "validation", needs, names, seed)
        if held_out.place != train.place:
            return held_out
    raise UserError(
        f"training and validation are both {train.name}: give other samples with --validation, "
        "or leave it out where the data has a part of its own"
    )


def _same(one: object, other: object) -> bool:
    if isinstance(one, str | os.PathLike) and isinstance(other, str | os.PathLike):
        return one == other or os.path.realpath(one) == os.path.realpath(other)
    return one is other


def _preprocessing(
    train: Content, held_out: Content, needs: Needs, given: str | os.PathLike[str] | Preprocessing | None
) -> Preprocessing | None:
    usual = [each for each in (train.usual_preprocessing(needs), held_out.usual_preprocessing(needs)) if each]
    if given is not None:
        if not usual or needs.image is None:
            raise UserError(f"{train.name} is not preprocessed here: leave --preprocessing out")
        return choose_preprocessing(given, usual[0], needs.image)
    if len(set(usual)) > 1:
        raise UserError(
            f"{train.name} and {held_out.name} are of different kinds: "
            "say with --preprocessing what is done to both"
        )
    return usual[0] if usual else None
