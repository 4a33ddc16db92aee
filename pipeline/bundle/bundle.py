"""Write a bundle, and read one back after checking that every file in it is what was written.

library.so        the compiled network
weights.params    its weights in TVM's own format; `main` takes them in the order of their names, once those
                  stored as int8 numbers and scales are multiplied out
golden.npz        an input and its output: input_0, ..., output_0, ...
golden.params     the same in TVM's own format, for run.cpp
load_and_run.py   loads the bundle with the TVM runtime alone and compares with the golden output
run.cpp           the same in C++, for a device without Python
CMakeLists.txt    builds run.cpp
manifest.h        what run.cpp has to know of the manifest
README.txt        how to use it
manifest.json     all of the above described, with the digest of each file
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import numpy as np
import tvm
from pydantic import ValidationError

from pipeline.bundle.header import header
from pipeline.bundle.int8 import SCALES, unpack
from pipeline.bundle.manifest import SCHEMA_VERSION, FileEntry, Manifest, MeasuredAccuracy
from pipeline.bundle.readme import readme
from pipeline.data import Preprocessing
from pipeline.errors import UserError
from pipeline.files import sha256, write_bytes_atomic, write_text_atomic, writing
from pipeline.report.model import Target, Tensor, Verification

MANIFEST = "manifest.json"
LIBRARY = "library.so"
WEIGHTS = "weights.params"
GOLDEN = "golden.npz"
GOLDEN_PARAMS = "golden.params"
EXAMPLE = "load_and_run.py"
CPP_EXAMPLE = ("run.cpp", "CMakeLists.txt")
HEADER = "manifest.h"
README = "README.txt"
FILES = (LIBRARY, WEIGHTS, GOLDEN, GOLDEN_PARAMS, EXAMPLE, *CPP_EXAMPLE, HEADER, README)


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are all there and undamaged."""

    directory: Path
    manifest: Manifest

    @property
    def library(self) -> Path:
        """The compiled library."""
        return self.directory / LIBRARY

    @property
    def weights_file(self) -> Path:
        """The weights as they are stored, in TVM's own format."""
        return self.directory / WEIGHTS

    def weights(self) -> dict[str, np.ndarray]:
        """The weights by name, in the order in which `main` takes them after its inputs."""
        return unpack(_load_weights(self.weights_file))

    def golden_inputs(self) -> dict[str, np.ndarray]:
        """An example of each input by name, in the order in which `main` takes them."""
        return self._arrays(GOLDEN, "input", self.manifest.inputs)

    def golden_outputs(self) -> dict[str, np.ndarray]:
        """What the network computes for the golden inputs, by the outputs' names."""
        return self._arrays(GOLDEN, "output", self.manifest.outputs)

    def _arrays(self, file: str, kind: str, tensors: tuple[Tensor, ...]) -> dict[str, np.ndarray]:
        with np.load(self.directory / file, allow_pickle=False) as arrays:
            return {tensor.name: arrays[f"{kind}_{index}"] for index, tensor in enumerate(tensors)}


def write_bundle(
    directory: Path,
    *,
    name: str,
    library: Path,
    weights: Path,
    stored: Mapping[str, np.ndarray] | None = None,
    golden_inputs: Mapping[str, np.ndarray],
    golden_outputs: Mapping[str, np.ndarray],
    target: Target,
    versions: Mapping[str, str],
    tuned_trials: int,
    records_applied: int,
    tolerance: float,
    verification: Iterable[Verification] = (),
    structure_only: bool = False,
    notices: Iterable[str] = (),
    preprocessing: Preprocessing | None = None,
    accuracy: MeasuredAccuracy | None = None,
) -> Bundle:
    """Write a bundle into a directory, its manifest last.

    Write into a `fresh_directory` and call `verify_bundle` before the block ends, so that only a verified
    bundle takes its place.

    Parameters
    ----------
    directory : Path
        Where to write; made if it is not there.
    library : Path
        The compiled library, a shared object for the target.
    weights : Path
        The weights in TVM's own format; `main` takes them after its inputs in the order of their names.
    stored : mapping of str to numpy.ndarray, optional
        What `pack` made of them, to be stored in their place.
    golden_inputs, golden_outputs : Mapping[str, np.ndarray]
        In the order of `main`'s parameters and results; outputs of the untuned network of the same structure.
    tolerance : float
        Bound on the largest difference, element by element, from the golden outputs.
    preprocessing, accuracy : optional
        What was done to the samples that the network was trained on, and the accuracy on those that it was
        not trained on.

    Raises
    ------
    UserError
        The directory cannot be written.
    pydantic.ValidationError
        The facts contradict each other; see `Manifest`.
    """
    directory = Path(directory)
    golden = {**_numbered("input", golden_inputs), **_numbered("output", golden_outputs)}
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(library, directory / LIBRARY)
        if stored is None:
            shutil.copyfile(weights, directory / WEIGHTS)
        np.savez(directory / GOLDEN, **golden)
    if stored is not None:
        write_bytes_atomic(directory / WEIGHTS, bytes(tvm.runtime.save_param_dict(stored)))
    write_bytes_atomic(directory / GOLDEN_PARAMS, bytes(tvm.runtime.save_param_dict(golden)))
    for static in (EXAMPLE, *CPP_EXAMPLE):
        write_bytes_atomic(directory / static, (resources.files(__package__) / static).read_bytes())
    facts = {
        "name": name,
        "created": datetime.now(UTC).replace(microsecond=0),
        "target": target,
        "versions": dict(versions),
        "inputs": _tensors(golden_inputs),
        "outputs": _tensors(golden_outputs),
        "weights": _tensors(_load_weights(weights)),
        "int8_weights": tuple(key.removesuffix(SCALES)[:-1] for key in stored or () if key.endswith(SCALES)),
        "structure_only": structure_only,
        "notices": tuple(notices),
        "preprocessing": preprocessing,
        "accuracy": accuracy,
        "tuned_trials": tuned_trials,
        "records_applied": records_applied,
        "tolerance": tolerance,
        "verification": tuple(verification),
    }
    described = Manifest(**facts, files={})
    loaded = {"kLibrary": LIBRARY, "kWeights": WEIGHTS, "kGolden": GOLDEN_PARAMS}
    write_text_atomic(directory / README, readme(described))
    write_text_atomic(
        directory / HEADER, header(described, {name: directory / file for name, file in loaded.items()})
    )
    manifest = Manifest(**facts, files={file: _entry(directory / file) for file in FILES})
    write_text_atomic(directory / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    return Bundle(directory, manifest)


def read_bundle(directory: Path) -> Bundle:
    """Read a bundle's manifest and check the digest of every file.

    Raises
    ------
    UserError
        It is not a bundle, is of a newer version, or a file is missing or damaged.
    """
    directory = Path(directory)
    manifest = _read_manifest(directory)
    for name in sorted({LIBRARY, WEIGHTS, GOLDEN} - manifest.files.keys()):
        raise UserError(f"the manifest of {directory} does not name {name}: build the bundle again")
    for name, entry in manifest.files.items():
        if not (directory / name).is_file():
            raise UserError(f"{name} is missing from the bundle {directory}: build it again")
        if _entry(directory / name) != entry:
            raise UserError(
                f"{name} in the bundle {directory} is not the file that was written there: build it again"
            )
    return Bundle(directory, manifest)


def _read_manifest(directory: Path) -> Manifest:
    try:
        facts = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        version = facts["schema_version"]
    except OSError as error:
        raise UserError(f"{directory} is not a bundle: its {MANIFEST} cannot be read") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"the {MANIFEST} of {directory} is damaged: build the bundle again") from error
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UserError(
            f"the bundle {directory} was written by a newer deeprebirth (version {version} of its manifest): "
            "update deeprebirth"
        )
    try:
        return Manifest.model_validate_json(json.dumps(facts))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "its facts"
        raise UserError(
            f"the {MANIFEST} of {directory} is damaged ({where}): build the bundle again"
        ) from error


def _numbered(kind: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{kind}_{index}": array for index, array in enumerate(arrays.values())}


def _load_weights(path: Path) -> dict[str, np.ndarray]:
    tensors = tvm.runtime.load_param_dict(path.read_bytes())
    return {str(name): tensors[name].numpy() for name in sorted(tensors, key=str)}


def _tensors(arrays: Mapping[str, np.ndarray]) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(name=name, shape=array.shape, dtype=str(array.dtype)) for name, array in arrays.items()
    )


def _entry(path: Path) -> FileEntry:
    return FileEntry(sha256=sha256(path), bytes=path.stat().st_size)
