"""From an image, or a batch of arrays, to what a network gets.

Resizing the shorter side to `resize` and cropping the centre to `size` is taking a window of the image and
resizing that: of a side of `n` pixels that becomes `m`, pixel `i` comes from `[i n / m, (i + 1) n / m)`. So
only what is kept is computed, and a random crop differs in its window alone. Pixels stay whole numbers until
they are normalised, as they do in PIL.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from pipeline.data.preprocessing import Preprocessing

Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a window."""

CHANCES = 5
"""Random numbers that one random window takes."""

SMALLEST_AREA, WIDEST = 0.35, 4 / 3

PIL_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def photograph(image: Image.Image, preprocessing: Preprocessing, chances: Tensor | None = None) -> np.ndarray:
    """Cut and resize an image.

    Parameters
    ----------
    image : PIL.Image.Image
        Of any mode.
    preprocessing : Preprocessing
    chances : torch.Tensor, optional
        `CHANCES` numbers of 0 to 1: takes a random window and perhaps its mirror image instead of the
        centre, as torchvision's RandomResizedCrop and RandomHorizontalFlip do, with 35 to 100 % of the area
        and sides of 3:4 to 4:3.

    Returns
    -------
    numpy.ndarray
        uint8, (H, W, 3), or (H, W, 1) where `channels` is `L`; colours in the order RGB.
    """
    image = _of_mode(image, "L" if preprocessing.channels == "L" else "RGB")
    box = _centre(image.size, preprocessing) if chances is None else _random(image.size, chances)
    height, width = preprocessing.size
    image = image.resize((width, height), PIL_FILTERS[preprocessing.interpolation], box=box)
    pixels = np.asarray(image).reshape(height, width, -1)
    return pixels[:, ::-1] if chances is not None and chances[-1] < 0.5 else pixels


def resized(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Resize and crop a batch of arrays; grey becomes three equal channels where the network wants colours.

    Parameters
    ----------
    pixels : torch.Tensor
        (B, C, H, W); uint8 is rounded to whole numbers again, as PIL does.
    preprocessing : Preprocessing
    """
    height, width = preprocessing.size
    sides = _resized_sides(pixels.shape[2:], preprocessing)
    if sides != tuple(pixels.shape[2:]):
        smooth = preprocessing.interpolation != "nearest"
        mode = preprocessing.interpolation if smooth else "nearest-exact"
        pixels = interpolate(pixels, size=sides, mode=mode, antialias=smooth)
    top, left = (_margin(side, kept) for side, kept in zip(sides, preprocessing.size, strict=True))
    pixels = pixels[:, :, top : top + height, left : left + width]
    return pixels if preprocessing.channels == "L" else pixels.expand(-1, 3, -1, -1)


def normalised(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return `(pixel * scale - mean) / std` as float32, channels in the order that the network wants.

    Parameters
    ----------
    pixels : torch.Tensor
        (B, C, H, W); colours in the order RGB.
    preprocessing : Preprocessing
    """
    if preprocessing.channels == "BGR":
        pixels = pixels.flip(1)
    mean, std = (torch.tensor(each)[:, None, None] for each in (preprocessing.mean, preprocessing.std))
    return (pixels.contiguous().float() * preprocessing.scale).sub_(mean).div_(std)


def _of_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert(mode)


def _resized_sides(sides: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """Height and width once the shorter side is `resize`, or once all is the network's size."""
    if preprocessing.resize is None:
        return preprocessing.size
    shorter = min(sides)
    return tuple(
        preprocessing.resize if side == shorter else preprocessing.resize * side // shorter for side in sides
    )


def _margin(side: int, kept: int) -> int:
    return round((side - kept) / 2)


def _centre(size: tuple[int, int], preprocessing: Preprocessing) -> Box:
    sides = size[::-1]
    resized_sides = _resized_sides(sides, preprocessing)
    (top, bottom), (left, right) = (
        _window(side, new, kept)
        for side, new, kept in zip(sides, resized_sides, preprocessing.size, strict=True)
    )
    return left, top, right, bottom


def _window(side: int, new: int, kept: int) -> tuple[float, float]:
    start = _margin(new, kept)
    return start * side / new, min(side, (start + kept) * side / new)


def _random(size: tuple[int, int], chances: Tensor) -> Box:
    area, shape, across, down, _ = chances.tolist()
    width, height = size
    pixels = width * height * (SMALLEST_AREA + (1 - SMALLEST_AREA) * area)
    ratio = math.exp((2 * shape - 1) * math.log(WIDEST))
    wide = min(width, max(1, round(math.sqrt(pixels * ratio))))
    high = min(height, max(1, round(math.sqrt(pixels / ratio))))
    left, top = int(across * (width - wide + 1)), int(down * (height - high + 1))
    return left, top, left + wide, top + high
