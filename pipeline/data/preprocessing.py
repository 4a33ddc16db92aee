"""What is done to an image before a network gets it; kept with the network, for the device to do the same."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt, model_validator

from pipeline.record import Record

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Preprocessing(Record):
    """From an image to an input: resize the shorter side, crop the centre, scale, normalise.

    The value that the network gets is `(pixel * scale - mean) / std`, channel by channel, for pixels of
    0 to 255 (or what an array holds).

    Attributes
    ----------
    channels : {"RGB", "BGR", "L"}
        Their order; `L` is grey.
    resize : int, optional
        Length of the shorter side before cropping; without it the image is resized to `size` as it is.
    size : tuple of int
        Height and width of the network's input.
    interpolation : {"bilinear", "bicubic", "nearest"}
    scale : float
    mean, std : tuple of float
        One number, or one for each channel.
    """

    channels: Literal["RGB", "BGR", "L"] = "RGB"
    resize: PositiveInt | None = None
    size: tuple[PositiveInt, PositiveInt]
    interpolation: Literal["bilinear", "bicubic", "nearest"] = "bilinear"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @model_validator(mode="after")
    def _fits_its_channels(self) -> Preprocessing:
        allowed = {1, 1 if self.channels == "L" else 3}
        if len(self.mean) not in allowed or len(self.std) not in allowed:
            raise ValueError(f"mean and std need one number, or one for each channel of {self.channels}")
        if 0 in self.std:
            raise ValueError("std holds a zero")
        if self.resize is not None and self.resize < max(self.size):
            raise ValueError(f"resize is {self.resize}, and too short to crop {self.size} from")
        return self
