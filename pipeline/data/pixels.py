"""From an image, or a batch of arrays, to what a network gets.

Images go the usual way of ImageNet, by PIL: the shorter side becomes `resize` pixels, the longer keeps the
ratio and is rounded down, and `size` is cut from the centre. Pixels stay whole numbers until they are
normalised. Arrays go the same way by torch, a batch at a time, and may differ from PIL in the last bit.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from pipeline.data.preprocessing import Preprocessing

CHANCES = 5
"""Random numbers that one random window takes."""

SMALLEST_AREA, WIDEST = 0.35, 4 / 3
LONGEST = 100
"""Longer to shorter side; a picture beyond it is no photograph, and would take much memory once resized."""

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

    Raises
    ------
    ValueError
        The image is too long and thin.
    """
    image = _of_mode(image, "L" if preprocessing.channels == "L" else "RGB")
    image = _centre(image, preprocessing) if chances is None else _window(image, preprocessing, chances)
    pixels = np.asarray(image).reshape(*preprocessing.size, -1)
    return pixels[:, ::-1] if chances is not None and chances[-1] < 0.5 else pixels


def resized(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Resize and crop a batch of arrays; grey becomes three equal channels where the network wants colours.

    Parameters
    ----------
    pixels : numpy.ndarray
        (B, C, H, W), uint8 or float32; uint8 is rounded to whole numbers again, as PIL does.
    preprocessing : Preprocessing
    """
    height, width = preprocessing.size
    sides = _resized_sides(pixels.shape[2:], preprocessing)
    if sides != pixels.shape[2:]:
        smooth = preprocessing.interpolation != "nearest"
        mode = preprocessing.interpolation if smooth else "nearest-exact"
        pixels = interpolate(torch.from_numpy(pixels), size=sides, mode=mode, antialias=smooth).numpy()
    top, left = (_margin(side, kept) for side, kept in zip(sides, preprocessing.size, strict=True))
    pixels = pixels[:, :, top : top + height, left : left + width]
    channels = 1 if preprocessing.channels == "L" else 3
    return np.broadcast_to(pixels, (len(pixels), channels, height, width))


def normalised(pixels: np.ndarray, preprocessing: Preprocessing, *, channels_last: bool = False) -> Tensor:
    """Return `(pixel * scale - mean) / std`, channels in the order that the network wants.

    NumPy computes it: torch's threads would wait for those of the training that runs beside.

    Parameters
    ----------
    pixels : numpy.ndarray
        (B, C, H, W); colours in the order RGB.
    preprocessing : Preprocessing
    channels_last : bool

    Returns
    -------
    torch.Tensor
        float32, (B, C, H, W), or (B, H, W, C) where the channels are last.
    """
    if preprocessing.channels == "BGR":
        pixels = pixels[:, ::-1]
    if channels_last:
        pixels = np.moveaxis(pixels, 1, -1)
    per_channel = (-1,) if channels_last else (-1, 1, 1)
    values = pixels.astype(np.float32, order="C")
    values *= np.float32(preprocessing.scale)
    values -= np.float32(preprocessing.mean).reshape(per_channel)
    values /= np.float32(preprocessing.std).reshape(per_channel)
    return torch.from_numpy(values)


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


def _centre(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    if max(image.size) > LONGEST * min(image.size):
        raise ValueError(f"{image.width} by {image.height} pixels: too long and thin")
    high, wide = _resized_sides((image.height, image.width), preprocessing)
    height, width = preprocessing.size
    top, left = _margin(high, height), _margin(wide, width)
    whole = image.resize((wide, high), PIL_FILTERS[preprocessing.interpolation])
    return whole.crop((left, top, left + width, top + height))


def _window(image: Image.Image, preprocessing: Preprocessing, chances: Tensor) -> Image.Image:
    area, shape, across, down, _ = chances.tolist()
    pixels = image.width * image.height * (SMALLEST_AREA + (1 - SMALLEST_AREA) * area)
    ratio = math.exp((2 * shape - 1) * math.log(WIDEST))
    wide = min(image.width, max(1, round(math.sqrt(pixels * ratio))))
    high = min(image.height, max(1, round(math.sqrt(pixels / ratio))))
    left, top = int(across * (image.width - wide + 1)), int(down * (image.height - high + 1))
    height, width = preprocessing.size
    return image.resize(
        (width, height),
        PIL_FILTERS[preprocessing.interpolation],
        box=(left, top, left + wide, top + high),
    )
