"""Train a small network on Fashion-MNIST: `python examples/fashion.py NETWORK OUT.onnx [--epochs 12]`.

NETWORK is one of `fashion_networks.py`. It learns from the first 55,000 training images, mirrored half of the
time, with AdamW and a learning rate that rises and falls once (Smith and Topin, Super-convergence, 2018). The
other 5,000 show how it goes after each epoch, and the test images what came of it.

Images are read and resized by `pipeline.data`, so that `deeprebirth retrain` and the device see the same. The
data is Debian's package dataset-fashion-mnist, or any directory with MNIST's four files.

`fashion_googlenet.onnx` beside this file came of this recipe with seed 0, on two threads, its images not
rounded to bytes after resizing: 92.2 % of the held-out and 91.7 % of the test images.
`python examples/fashion.py googlenet OUT.onnx` makes another like it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from fashion_networks import NETWORKS, SIZE
from torch import Tensor, nn

from pipeline import MergeRequest, export, load_network
from pipeline.data import Data, Source, open_data
from pipeline.errors import UserError

DATA = Path("/usr/share/datasets/fashion-mnist")
HELD_OUT = 5000
"""Training images that are not trained on, the last ones."""
EPOCHS = 12
BATCH, TESTED_AT_ONCE = 128, 500
LARGEST_RATE, START = 3e-3, 0.2
"""The learning rate, and the part of training after which it is reached."""
WEIGHT_DECAY, LARGEST_GRADIENT = 0.05, 1.0


@dataclass(frozen=True)
class Samples:
    """Some samples of a source, by their numbers there."""

    source: Source
    numbers: range

    @classmethod
    def all_of(cls, source: Source) -> Samples:
        """All samples of a source."""
        return cls(source, range(len(source)))

    def __len__(self) -> int:
        return len(self.numbers)

    def batches(self, order: Sequence[int], size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images, (B, 1, 64, 64) of 0 to 1, and labels, in this order of the samples' places."""
        for first in range(0, len(order), size):
            batch = self.source.fetch([self.numbers[place] for place in order[first : first + size]], None)
            yield batch.inputs[0].to(memory_format=torch.channels_last), batch.labels


def new_network(name: str, seed: int) -> nn.Module:
    """Make one of `fashion_networks.NETWORKS` with He's normal weights and no biases."""
    torch.manual_seed(seed)
    network = NETWORKS[name]()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network.to(memory_format=torch.channels_last)


def train(
    network: nn.Module, training: Samples, held_out: Samples, *, epochs: int, say: Callable[[str], None]
) -> None:
    """Train a network in place, and leave it in eval mode.

    Random numbers come from torch's own generator, so the seed of `new_network` decides the outcome on one
    thread.
    """
    size = min(BATCH, len(training))
    steps = len(training) // size
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LARGEST_RATE, epochs=epochs, steps_per_epoch=steps, pct_start=START
    )
    for epoch in range(1, epochs + 1):
        network.train()
        order, losses = torch.randperm(len(training)).tolist(), 0.0
        for images, labels in training.batches(order[: steps * size], size):
            loss = F.cross_entropy(network(half_mirrored(images)), labels)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
            optimizer.step()
            schedule.step()
            losses += loss.item()
        reached = accuracy(network.eval(), held_out)
        say(f"epoch {epoch} of {epochs}: loss {losses / steps:.3f}, {reached:.2f} % on held-out images")


def half_mirrored(images: Tensor) -> Tensor:
    """Mirror each image left to right, or not, by chance."""
    return torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images, images.flip(-1))


def accuracy(network: nn.Module, samples: Samples) -> float:
    """How many samples a network in eval mode classifies right, in per cent."""
    right = 0
    with torch.inference_mode():
        for images, labels in samples.batches(range(len(samples)), TESTED_AT_ONCE):
            right += int((network(images).argmax(1) == labels).sum())
    return 100 * right / len(samples)


def open_for(network: nn.Module, training: Path, validation: Path | None = None) -> Data:
    """Open data as `network` takes it; the validation part of MNIST's four files are the test images."""
    return open_data(training, validation, load_network(network.eval(), example_inputs=example()))


def write(network: nn.Module, place: Path) -> None:
    """Write a network in eval mode as ONNX, layer by layer as it is."""
    export(network, example_inputs=example(), onnx_file=place, request=MergeRequest(skip=("*",)))


def example() -> Tensor:
    """One image of noise."""
    return torch.rand(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def main() -> None:
    """Train and write what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("out", type=Path, metavar="OUT.onnx", help="the file to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"default: {EPOCHS}")
    parser.add_argument("--threads", type=int, help="of torch; default: torch's own number")
    parser.add_argument("--data", type=Path, default=DATA, help=f"default: {DATA}")
    options = parser.parse_args()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    network = new_network(options.network, options.seed)
    try:
        data = open_for(network, options.data)
        kept = len(data.training) - HELD_OUT
        training, held_out = (
            Samples(data.training, numbers) for numbers in (range(kept), range(kept, len(data.training)))
        )
        train(network, training, held_out, epochs=options.epochs, say=print)
        print(f"{accuracy(network, Samples.all_of(data.validation)):.2f} % on test images")
        write(network, options.out)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
