"""Against PIL and NumPy by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.data.pixels import CHANCES, normalised, photograph, resized
from pipeline.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

FILTERS = {"nearest": Image.NEAREST, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}


def picture(width: int, height: int, channels: int = 3, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels)


def by_hand(image: Image.Image, record: Preprocessing) -> np.ndarray:
    """Resize all of the image, then crop."""
    height, width = record.size
    method = FILTERS[record.interpolation]
    if record.resize is None:
        return np.asarray(image.resize((width, height), method))
    short = min(image.size)
    whole = image.resize(tuple(int(record.resize * side / short) for side in image.size), method)
    left, top = round((whole.width - width) / 2), round((whole.height - height) / 2)
    return np.asarray(whole.crop((left, top, left + width, top + height)))


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    more=st.none() | st.integers(0, 20),
    interpolation=st.sampled_from(sorted(FILTERS)),
)
def test_images_are_resized_and_cropped_to_the_bit(width, height, size, more, interpolation):
    resize = None if more is None else max(size) + more
    record = Preprocessing(size=size, resize=resize, interpolation=interpolation)
    image = picture(width, height)
    ours, theirs = photograph(image, record), by_hand(image, record)
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("size", [(500, 375), (333, 500), (256, 256), (60, 60)])
def test_imagenets_preprocessing_from_end_to_end(size):
    record = Preprocessing(size=(224, 224), resize=256, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    image = picture(*size).resize((size[0] // 2, size[1] // 2)).resize(size)
    ours = normalised(np.moveaxis(photograph(image, record)[None], -1, 1), record)[0].numpy()
    theirs = (by_hand(image, record) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    assert np.abs(ours - theirs.transpose(2, 0, 1)).max() < 1e-5


def test_an_endless_strip_is_no_photograph():
    record = Preprocessing(size=(224, 224), resize=256)
    with pytest.raises(ValueError, match="100000 by 1 pixels"):
        photograph(Image.new("L", (100_000, 1)), record)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr", "I;16", "I"])
def test_every_mode_becomes_colours_and_grey(mode):
    image = Image.fromarray(np.full((9, 9), 0x8040, np.uint16 if mode == "I;16" else np.int32))
    if not mode.startswith("I"):
        image = Image.new("RGB", (9, 9), (128, 128, 128))
        image = image.quantize() if mode == "P" else image.convert(mode)
    for channels, count in (("RGB", 3), ("L", 1)):
        pixels = photograph(image, Preprocessing(size=(9, 9), channels=channels))
        assert pixels.shape == (9, 9, count)
        assert mode == "1" or np.abs(pixels.astype(int) - 128).max() <= 2


def test_transparent_palettes_keep_their_colours(recwarn):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.info["transparency"] = b"\x00\x80"
    pixels = photograph(image, Preprocessing(size=(4, 4)))
    assert pixels[0, 0].tolist() == [200, 100, 50]
    assert not recwarn.list


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    chances=st.lists(st.floats(0, 1, exclude_max=True, width=32), min_size=CHANCES, max_size=CHANCES),
)
def test_a_random_window_lies_in_the_image_and_is_perhaps_mirrored(width, height, chances):
    across = np.tile(np.arange(width, dtype=np.uint8) * 4, (height, 1))
    down = np.tile(np.arange(height, dtype=np.uint8)[:, None] * 4, (1, width))
    image = Image.fromarray(np.stack([across, down, across], -1))
    pixels = photograph(image, Preprocessing(size=(8, 8)), torch.tensor(chances)).astype(int)
    assert pixels.shape == (8, 8, 3)
    direction = np.sign(pixels[0, -1, 0] - pixels[0, 0, 0])
    assert direction in ((0, -1) if chances[-1] < 0.5 else (0, 1))
    assert pixels[-1, 0, 1] >= pixels[0, 0, 1]


def test_random_windows_cover_the_scales_they_should():
    side = 200
    ramp = np.arange(side, dtype=np.float32)
    image = Image.fromarray(np.tile((ramp * 255 / side).astype(np.uint8), (side, 1)))
    record = Preprocessing(size=(50, 50), channels="L")
    numbers = torch.rand(300, CHANCES, generator=torch.Generator().manual_seed(0))
    spans = [np.ptp(photograph(image, record, each).astype(int)) / 255 for each in numbers]
    assert min(spans) > 0.48  # the square root of 0.35 * 3/4 is 0.51
    assert max(spans) <= 1
    assert np.mean(spans) == pytest.approx(0.8, abs=0.05)


@settings(max_examples=40, deadline=None)
@given(
    sides=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    more=st.none() | st.integers(0, 9),
    channels=st.sampled_from([1, 3]),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)
def test_batches_of_bytes_are_resized_as_pil_does(sides, size, more, channels, interpolation):
    resize = None if more is None else max(size) + more
    kind = "L" if channels == 1 else "RGB"
    record = Preprocessing(size=size, resize=resize, interpolation=interpolation, channels=kind)
    images = [
        picture(sides[1], sides[0], channels, seed).point(lambda value: 64 + value // 2) for seed in range(2)
    ]
    batch = np.stack([np.asarray(image).reshape(*sides, channels).transpose(2, 0, 1) for image in images])
    theirs = np.stack(
        [by_hand(image, record).reshape(*size, channels).transpose(2, 0, 1) for image in images]
    )
    ours = resized(batch, record)
    assert ours.dtype == np.uint8
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= (1 if interpolation == "bilinear" else 3)


def test_nearest_takes_the_pixel_at_the_centre():
    batch = np.arange(25, dtype=np.uint8).reshape(1, 1, 5, 5)
    record = Preprocessing(size=(3, 3), channels="L", interpolation="nearest")
    assert resized(batch, record)[0, 0].tolist() == [[0, 2, 4], [10, 12, 14], [20, 22, 24]]
    assert by_hand(Image.fromarray(batch[0, 0]), record).tolist() == [[0, 2, 4], [10, 12, 14], [20, 22, 24]]


def test_floats_keep_their_fractions():
    batch = np.random.default_rng(0).normal(size=(2, 1, 6, 6)).astype(np.float32)
    ours = resized(batch, Preprocessing(size=(3, 3), channels="L", scale=1.0))
    theirs = torch.nn.functional.interpolate(
        torch.tensor(batch), size=(3, 3), mode="bilinear", antialias=True
    )
    assert np.array_equal(ours, theirs.numpy())


def test_grey_becomes_three_equal_channels():
    batch = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
    record = Preprocessing(size=(4, 4))
    values = normalised(resized(batch, record), record)
    assert values.shape == (1, 3, 4, 4)
    assert values.is_contiguous()
    assert torch.equal(values[:, 0], values[:, 2])


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_normalising_is_the_formula(channels, channels_last):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5), dtype=np.uint8)
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    record = Preprocessing(size=(4, 5), channels=channels, scale=0.25, mean=mean, std=std)
    ours = normalised(pixels, record, channels_last=channels_last)
    order = (0, 1, 2) if channels == "RGB" else (2, 1, 0)
    theirs = np.stack([(pixels[:, at] * 0.25 - mean[n]) / std[n] for n, at in enumerate(order)], 1)
    assert ours.dtype == torch.float32
    assert ours.is_contiguous()
    assert np.allclose(ours, theirs.transpose(0, 2, 3, 1) if channels_last else theirs, rtol=1e-6, atol=1e-5)
