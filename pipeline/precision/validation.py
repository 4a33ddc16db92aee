"""What the accuracy in float16 is measured on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.data import Metric, Preprocessing, Source, find_metric
from pipeline.data.forms import find_content
from pipeline.data.image_folder import read_class_names
from pipeline.data.needs import Needs
from pipeline.data.presets import choose_preprocessing
from pipeline.errors import UserError
from pipeline.network import Network

if TYPE_CHECKING:
    from torch.utils.data import Dataset


@dataclass(frozen=True)
class Validation:
    """Opened validation data and the metric on it."""

    source: Source
    metric: Metric


def open_validation(
    given: str | os.PathLike[str] | Dataset,
    network: Network,
    *,
    metric: str = "top-1",
    preprocessing: str | os.PathLike[str] | Preprocessing | None = None,
    classes: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Validation:
    """Open validation data alone, as `pipeline.data.open_data` opens it beside training data.

    Parameters
    ----------
    given : str, path or torch.utils.data.Dataset
    network : Network
    metric : str
    preprocessing : str, path or Preprocessing, optional
        By default what the kind of the data suggests.
    classes : path, optional
        A text file of class names, one a line, in the order of the network's outputs.
    seed : int
        For functions that make datasets.

    Raises
    ------
    UserError
        There is no data, it does not fit the network, or there is no such metric.
    """
    measure = find_metric(metric)
    needs = Needs.of(network)
    names = None if classes is None else read_class_names(classes)
    content = find_content(given, "validation", needs, names, seed)
    usual = content.usual_preprocessing(needs)
    if preprocessing is not None and (usual is None or needs.image is None):
        raise UserError(f"{content.name} is not preprocessed here: leave --preprocessing out")
    chosen = usual if preprocessing is None else choose_preprocessing(preprocessing, usual, needs.image)
    source = content.source(needs, chosen)
    if len(source) == 0:
        raise UserError(f"the validation data {source.name} holds no samples")
    return Validation(source, measure)
