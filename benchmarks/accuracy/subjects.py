"""What the table is made of: four networks, each with its data, as files in a directory.

Fashion-MNIST is split into the first 55,000 training images to learn from, the last 5,000 to decide when a
step ends, and the 10,000 test images that decide nothing; tones are split alike.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from torch.utils.data import TensorDataset

from pipeline import MergeRequest, export
from pipeline.data.idx import read_idx_directory
from pipeline.errors import UserError

sys.path.append(str(Path(__file__).parents[2] / "examples"))

import crepe
import fashion
import tones

TRAINED_GOOGLENET = Path(fashion.__file__).with_name("fashion_googlenet.onnx")
PARTS = ("training", "validation", "test")

Arrays = tuple[np.ndarray, np.ndarray]
"""Samples and labels."""
Splits = Mapping[str, Arrays]


@dataclass(frozen=True)
class Subject:
    """A network to merge and retrain.

    Attributes
    ----------
    data : str
        A name in `DATA`.
    make : callable
        Writes the original network as ONNX; takes the place and the files of the data's parts.
    metric : str
        For `pipeline.retrain`.
    mirror : bool
        Whether samples may be mirrored.
    groups : tuple of tuple of str
        Merges that are retrained together.
    """

    data: str
    make: Callable[[Path, Mapping[str, Path]], None]
    metric: str = "top-1"
    mirror: bool = True
    groups: tuple[tuple[str, ...], ...] = ()


def parts_of(subject: Subject, folder: Path) -> dict[str, Path]:
    """The data's files by part."""
    return {part: folder / f"{subject.data}_{part}.npz" for part in PARTS}


def write_data(subject: Subject, folder: Path, fashion_mnist: Path, samples: int | None) -> None:
    """Write the files of the data's parts that are not there yet, of at most so many samples each.

    Raises
    ------
    UserError
        The data is not there.
    """
    files = parts_of(subject, folder)
    if all(file.exists() for file in files.values()):
        return
    for part, (x, y) in DATA[subject.data](fashion_mnist).items():
        _write(files[part], partial(np.savez, x=x[:samples], y=y[:samples]))


def model_of(name: str, folder: Path) -> Path:
    """The original network's file; it is made if it is not there yet."""
    subject, place = SUBJECTS[name], folder / f"{name}.onnx"
    if not place.exists():
        subject.make(place, parts_of(subject, folder))
    return place


def _write(place: Path, write: Callable[[Path], None]) -> None:
    temporary = place.with_name(f".{secrets.token_hex(4)}{place.suffix}")
    write(temporary)
    os.replace(temporary, place)


def _fashion_mnist(folder: Path) -> Splits:
    training, test = (read_idx_directory(os.fspath(folder), part) for part in ("training", "validation"))
    if training is None or test is None:
        raise UserError(
            f"{folder} does not hold MNIST's four files: install dataset-fashion-mnist, or give --data"
        )
    (x,), y = training.inputs, training.labels
    kept = len(x) - fashion.HELD_OUT
    return {
        "training": (x[:kept], y[:kept]),
        "validation": (x[kept:], y[kept:]),
        "test": (test.inputs[0], test.labels),
    }


def _tones(_folder: Path) -> Splits:
    made = {"training": tones.train(), "validation": tones.held_out(), "test": tones.unseen()}
    return {part: _arrays(dataset) for part, dataset in made.items()}


def _arrays(dataset: TensorDataset) -> Arrays:
    frames, labels = dataset.tensors
    return frames.numpy(), labels.numpy()


def _copy_googlenet(place: Path, _parts: Mapping[str, Path]) -> None:
    _write(place, partial(shutil.copyfile, TRAINED_GOOGLENET))


def _train_fashion(name: str, place: Path, parts: Mapping[str, Path], *, epochs: int = 4) -> None:
    network = fashion.new_network(name, seed=0)
    data = fashion.open_for(network, parts["training"], parts["validation"])
    training, held_out = map(fashion.Samples.all_of, (data.training, data.validation))
    fashion.train(
        network, training, held_out, epochs=epochs, say=lambda line: print(f"{name}: {line}", file=sys.stderr)
    )
    fashion.write(network, place)


def _write_crepe(place: Path, _parts: Mapping[str, Path]) -> None:
    try:
        network = crepe.trained_crepe()
    except FileNotFoundError as error:
        raise UserError(str(error)) from None
    nothing = MergeRequest(skip=("*",))
    export(network, example_inputs=crepe.tone(220.0), onnx_file=place, request=nothing)


DATA: dict[str, Callable[[Path], Splits]] = {"fashion": _fashion_mnist, "tones": _tones}

SUBJECTS = {
    "googlenet": Subject(
        "fashion", _copy_googlenet, groups=(("inception_4b*", "inception_4c*", "inception_4d*"),)
    ),
    "alexnet": Subject("fashion", partial(_train_fashion, "alexnet")),
    "resnet": Subject("fashion", partial(_train_fashion, "resnet")),
    "crepe": Subject("tones", _write_crepe, metric="tones:accuracy", mirror=False),
}
