"""Tensors are the same after they were packed and unpacked."""

import numpy as np
import pytest
from tvm import relax

from tuning.lowering.packed.layout import pack, unpack


@pytest.mark.parametrize("sizes", [(5, 3, 4), (16, 2, 3), (1, 2, 2), (20, 1, 1)], ids=str)
@pytest.mark.parametrize("block", [1, 4, 8])
def test_packing_fills_up_with_zeros(run, image, sizes: tuple[int, int, int], block: int) -> None:
    values = image(*sizes)
    channels, height, width = sizes
    blocks = -(-channels // block)
    filled = np.zeros((1, blocks * block, height, width), "float32")
    filled[:, :channels] = values
    wanted = filled.reshape(1, blocks, block, height, width).transpose(0, 1, 3, 4, 2)
    got = run(values.shape, lambda builder, data: pack(builder, data, block), values)
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("sizes", [(5, 3, 4), (16, 2, 3), (20, 1, 1)], ids=str)
def test_channels_that_filled_up_are_gone_again(run, packed, image, sizes: tuple[int, int, int]) -> None:
    values = packed.packed(image(*sizes))
    got = run(values.shape, lambda builder, data: unpack(builder, data, sizes[0]), values)
    np.testing.assert_array_equal(got, image(*sizes))


def test_a_pixel_with_full_blocks_is_packed_without_moving_numbers(packed) -> None:
    data = relax.Var("data", relax.TensorType((1, 2 * packed.block, 1, 1), "float32"))
    assert pack(relax.BlockBuilder(), data, packed.block).op.name == "relax.reshape"
