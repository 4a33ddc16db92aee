import numpy as np
import pytest
import torch

from pipeline.data.arrays import Arrays
from pipeline.data.needs import Needs
from pipeline.errors import UserError

RNG = np.random.default_rng(0)


def opened(network, array, labels=None, *shape, outputs=(1, 3)):
    needs = Needs.of(network(*shape, outputs=outputs))
    arrays = Arrays("digits.npz", "here", (array,), labels)
    return arrays.source(needs, arrays.usual_preprocessing(needs))


def bytes_of(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("shape", "network_shape", "axes"),
    [
        ((4, 3, 16, 16), (1, 3, 16, 16), (0, 1, 2, 3)),
        ((4, 16, 16, 3), (1, 3, 16, 16), (0, 3, 1, 2)),
        ((4, 16, 16, 1), (1, 1, 16, 16), (0, 3, 1, 2)),
        ((4, 16, 16, 3), (1, 16, 16, 3), (0, 1, 2, 3)),
        ((4, 3, 16, 16), (1, 16, 16, 3), (0, 2, 3, 1)),
    ],
)
def test_layouts_are_told_apart_by_the_channels(network, shape, network_shape, axes):
    array = bytes_of(*shape)
    batch = opened(network, array, None, network_shape).fetch([2, 0], None)
    assert np.array_equal(batch.inputs[0].numpy(), array[[2, 0]].transpose(axes) * np.float32(1 / 255))


@pytest.mark.parametrize("shape", [(4, 16, 16), (4, 1, 16, 16), (4, 16, 16, 1)])
def test_grey_is_repeated_for_a_colour_network(network, shape):
    array = bytes_of(*shape)
    batch = opened(network, array).fetch([1], None)
    assert np.array_equal(batch.inputs[0][0, 2].numpy(), array[1].reshape(16, 16) * np.float32(1 / 255))


def test_other_sizes_are_resized(network):
    array = bytes_of(3, 28, 28)
    inputs = opened(network, array, None, (1, 1, 32, 32)).fetch([0, 1, 2], None).inputs[0]
    reference = torch.nn.functional.interpolate(
        torch.tensor(array[:, None]).float(), size=(32, 32), mode="bilinear", antialias=True
    )
    assert (inputs * 255 - reference).abs().max() <= 1.001


@pytest.mark.parametrize("shape", [(4, 3, 16, 16), (4, 7)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_of_the_networks_shape_are_taken_as_they_are(network, shape, dtype):
    array = (RNG.normal(size=shape) * 1000).astype(dtype)
    batch = opened(network, array, None, (1, *shape[1:])).fetch([3, 3], None)
    assert batch.inputs[0].dtype == torch.float32
    assert np.array_equal(batch.inputs[0].numpy(), array[[3, 3]].astype(np.float32))


def test_the_arrays_themselves_stay_untouched(network):
    array = RNG.normal(size=(4, 3, 16, 16)).astype(np.float32)
    before = array.copy()
    opened(network, array).fetch(range(4), None).inputs[0].zero_()
    assert np.array_equal(array, before)


def test_digits_are_not_augmented(network):
    source = opened(network, bytes_of(4, 16, 16))
    augmented = source.fetch([0, 1], torch.Generator().manual_seed(0))
    assert torch.equal(augmented.inputs[0], source.fetch([0, 1], None).inputs[0])


@pytest.mark.parametrize("dtype", ["u1", "i1", ">i4", "i8", "u8"])
@pytest.mark.parametrize("column", [False, True])
def test_labels_of_any_whole_type(network, dtype, column):
    labels = np.array([1, 0, 2], dtype).reshape((3, 1) if column else 3)
    source = opened(network, bytes_of(3, 16, 16), labels)
    found = source.fetch([2, 0], None).labels
    assert found.dtype == torch.int64
    assert found.tolist() == [2, 1]
    assert source.classes == 3


def test_fewer_labels_than_outputs_are_fine(network):
    assert opened(network, bytes_of(2, 16, 16), np.array([0, 1]), outputs=(1, 1000)).classes == 2


@pytest.mark.parametrize(
    ("array", "labels", "reason"),
    [
        (bytes_of(2, 16, 16), np.array([0, 3]), "holds the label 3, and the network has 3 outputs"),
        (bytes_of(2, 16, 16), np.array([0, -1]), "holds the label -1"),
        (bytes_of(2, 16, 16), np.array([0.0, 1.0]), "labels of float64"),
        (bytes_of(2, 16, 16), np.eye(2, dtype=int), r"labels of shape \(2, 2\) for 2 samples"),
        (bytes_of(2, 16, 16), np.array([0]), r"labels of shape \(1,\) for 2 samples"),
        (bytes_of(2, 16, 16).astype(np.int64), None, "samples of int64: store them as uint8 or float32"),
        (bytes_of(2, 4, 16, 16), None, r"samples of \(4, 16, 16\), and the network takes images"),
        (bytes_of(2, 256), None, r"samples of \(256,\), and the network takes images"),
    ],
)
def test_what_does_not_fit_is_told(network, array, labels, reason):
    with pytest.raises(UserError, match=reason):
        opened(network, array, labels)


def test_colours_do_not_fit_a_grey_network(network):
    with pytest.raises(UserError, match="1 channel"):
        opened(network, bytes_of(2, 16, 16, 3), None, (1, 1, 16, 16))


def test_a_network_that_takes_no_images_wants_its_own_shape(network):
    for array in (bytes_of(2, 7), RNG.normal(size=(2, 8))):
        with pytest.raises(UserError, match=r"the network's input in0 takes \(7,\): store them as float32"):
            opened(network, array, None, (1, 7))
