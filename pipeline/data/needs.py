"""What a network takes and gives, as far as data is concerned."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.network import Network, TensorSpec

IMAGE_CHANNELS = (1, 3)


@dataclass(frozen=True)
class ImageInput:
    """The size of an image input, and whether its channels are the last axis."""

    channels: int
    height: int
    width: int
    channels_last: bool

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width


@dataclass(frozen=True)
class Needs:
    """What data has to be like to fit a network.

    Parameters
    ----------
    inputs : tuple of TensorSpec
    image : ImageInput, optional
        Where the network has one input, and that takes grey or coloured images.
    classes : int, optional
        The number of scores in the first output, where it has one axis beside the batch that is not 1.
    output_shape : tuple of int
    """

    inputs: tuple[TensorSpec, ...]
    image: ImageInput | None
    classes: int | None
    output_shape: tuple[int, ...]

    @staticmethod
    def of(network: Network) -> Needs:
        """Return the needs of a network."""
        output = network.outputs[0].shape
        return Needs(network.inputs, _image(network.inputs), _classes(output), output)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of one sample, input by input."""
        return tuple(spec.shape[1:] for spec in self.inputs)

    def described(self) -> str:
        """Return the inputs in words."""
        return ", ".join(f"{spec.name} ({', '.join(map(str, spec.shape))})" for spec in self.inputs)

    def image_for(self, what: str) -> ImageInput:
        """Return the image input.

        Raises
        ------
        UserError
            The network takes something else; `what` the user gave does not fit it.
        """
        if self.image is None:
            raise UserError(
                f"{what} holds images, and the network takes {self.described()}: "
                "give a Dataset by module:function, or an .npz file of float arrays in these shapes"
            )
        return self.image

    def check_largest_label(self, what: str, largest: int) -> None:
        """Refuse labels that the network has no output for.

        Raises
        ------
        UserError
            A label is as large as the number of outputs or larger.
        """
        if self.classes is not None and largest >= self.classes:
            raise UserError(
                f"{what} holds the label {largest}, and the network has {self.classes} outputs "
                f"(labels 0 to {self.classes - 1}): give the data this network was trained for"
            )


def _image(inputs: tuple[TensorSpec, ...]) -> ImageInput | None:
    shapes = [spec.shape for spec in inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        return None
    _, first, second, last = shapes[0]
    if first in IMAGE_CHANNELS:
        return ImageInput(first, second, last, channels_last=False)
    if last in IMAGE_CHANNELS:
        return ImageInput(last, first, second, channels_last=True)
    return None


def _classes(output: tuple[int, ...]) -> int | None:
    sizes = [size for size in output[1:] if size != 1]
    return prod(sizes) if len(sizes) <= 1 else None
