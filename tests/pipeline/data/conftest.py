"""Networks that hold nothing but shapes, and small data in every form."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.network import Golden, Network, TensorSpec


@pytest.fixture
def network():
    def make(*inputs: tuple[int, ...], outputs: tuple[int, ...] = (1, 3)) -> Network:
        shapes = inputs or ((1, 3, 16, 16),)
        specs = tuple(TensorSpec(f"in{at}", shape, "float32") for at, shape in enumerate(shapes))
        return Network(
            "small",
            None,
            specs,
            (TensorSpec("out", outputs, "float32"),),
            Golden({}, {}, {}),
            "onnx",
            "sha256:0",
        )

    return make


@pytest.fixture
def draw():
    """Write an image whose pixels tell its number."""

    def write(path: Path, number: int = 0, size: tuple[int, int] = (24, 20), mode: str = "RGB") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(path)
        return path

    return write


@pytest.fixture
def folder(tmp_path, draw):
    """Three classes with 3, 2 and 4 images."""
    root = tmp_path / "pictures of pets"
    for name, count in (("cat", 3), ("dog", 2), ("fish", 4)):
        for at in range(count):
            draw(root / name / f"{at}.png", number=10 * count + at)
    return root


@pytest.fixture
def write_idx():
    def write(path: Path, array: np.ndarray, *, zipped: bool = False) -> Path:
        codes = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
        header = bytes([0, 0, codes[array.dtype.str[1:]], array.ndim])
        header += struct.pack(f">{array.ndim}I", *array.shape)
        data = header + array.astype(array.dtype.newbyteorder(">")).tobytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(data) if zipped else data)
        return path

    return write


@pytest.fixture
def mnist(tmp_path, write_idx):
    """A directory with MNIST's names: 12 and 5 images of 8 by 8."""
    rng = np.random.default_rng(0)
    for part, count, zipped in (("train", 12, True), ("t10k", 5, False)):
        end = ".gz" if zipped else ""
        images = rng.integers(0, 256, (count, 8, 8), dtype=np.uint8)
        labels = (np.arange(count) % 3).astype(np.uint8)
        write_idx(tmp_path / "mnist" / f"{part}-images-idx3-ubyte{end}", images, zipped=zipped)
        write_idx(tmp_path / "mnist" / f"{part}-labels-idx1-ubyte{end}", labels, zipped=zipped)
    return tmp_path / "mnist"
