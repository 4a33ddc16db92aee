import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay_passes.merge_plan import Reason
from relay_passes.ranks import Energy, Fixed, Kernel, Ratio, Vbmf, WrongRanks
from relay_passes.tucker import IN, OUT, squares


def _kernel(weight, before=100, behind=100):
    outputs, inputs, *taps = weight.shape
    return Kernel(
        "c", (inputs, outputs), int(np.prod(taps)), (before, behind), lambda axis: squares(weight, axis)
    )


def _shaped(inputs, outputs, taps=9, before=100, behind=100):
    return Kernel("c", (inputs, outputs), taps, (before, behind), lambda _axis: pytest.fail("looked at"))


def _low_rank(outputs, inputs, rank_out, rank_in, noise=0.0):
    generator = np.random.default_rng(0)
    core, a, b = (
        generator.standard_normal(s)
        for s in ((rank_out, rank_in, 3, 3), (outputs, rank_out), (inputs, rank_in))
    )
    weight = np.einsum("rqhw,or,iq->oihw", core, np.linalg.qr(a)[0], np.linalg.qr(b)[0])
    return weight + noise * generator.standard_normal(weight.shape)


def test_multiply_adds_of_the_three_convolutions():
    kernel = _shaped(32, 64, before=400, behind=100)
    assert kernel.macs((32, 64)) == 32 * 64 * 9 * 100
    assert kernel.macs((8, 16)) == 32 * 8 * 400 + 8 * 16 * 9 * 100 + 16 * 64 * 100
    assert kernel.macs((32, 16)) == 32 * 16 * 9 * 100 + 16 * 64 * 100
    assert kernel.macs((8, 64)) == 32 * 8 * 400 + 8 * 64 * 9 * 100


def test_channels_stay_where_that_is_cheaper():
    assert _shaped(32, 64).cheapest((8, 16)) == (8, 16)
    assert _shaped(32, 64).cheapest((31, 16)) == (32, 16)
    assert _shaped(32, 64).cheapest((8, 63)) == (8, 64)
    assert _shaped(32, 64).cheapest((31, 63)) == (32, 64)
    assert _shaped(32, 64, before=10_000).cheapest((8, 16)) == (32, 16)


def test_the_channels_of_a_picture_stay():
    assert _shaped(3, 64).cheapest((1, 8)) == (3, 8)
    assert _shaped(64, 3).cheapest((8, 1)) == (8, 3)


def test_a_rank_does_not_exceed_what_the_other_leaves():
    assert _shaped(200, 64, before=1).cheapest((150, 4)) == (36, 4)


@pytest.mark.parametrize("noise", [0, 1e-3, 1e-2])
def test_vbmf_finds_the_ranks_of_a_kernel(noise):
    assert Vbmf().choose(_kernel(_low_rank(64, 48, 9, 6, noise))) == (6, 9)


def test_vbmf_leaves_the_channels_of_a_picture():
    assert Vbmf().choose(_kernel(_low_rank(64, 3, 5, 3, 1e-3))) == (3, 5)


def test_vbmf_finds_no_rank_in_noise_or_nothing():
    for weight in (np.random.default_rng(0).standard_normal((32, 32, 3, 3)), np.zeros((32, 32, 3, 3))):
        assert Vbmf().choose(_kernel(weight))[0] is Reason.NO_RANK


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_energy_keeps_its_share_with_the_smallest_ranks(share):
    weight = _low_rank(40, 24, 12, 10, 0.01)
    ranks = Energy(share).choose(_kernel(weight))
    for axis, rank in zip((IN, OUT), ranks, strict=True):
        kept = np.cumsum(squares(weight, axis)) / (weight**2).sum()
        assert kept[rank - 1] >= share
        assert rank == 1 or kept[rank - 2] < share


def test_energy_of_a_kernel_of_zeros():
    assert Energy(0.9).choose(_kernel(np.zeros((32, 32, 3, 3)))) == (1, 1)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.floats(0.01, 0.99),
    st.integers(1, 600),
    st.integers(8, 600),
    st.sampled_from([1, 2, 9, 25]),
    st.integers(1, 9),
    st.sampled_from([1, 8, 16]),
)
def test_ratio_leaves_its_share_or_less(share, inputs, outputs, taps, stride, multiple):
    kernel = _shaped(inputs, outputs, taps, before=50 * stride, behind=50)
    ranks = Ratio(share, multiple=multiple).choose(kernel)
    if ranks[0] is Reason.NO_RANK:
        assert taps == 1
        assert kernel.macs((inputs, 8)) > share * kernel.macs(kernel.channels)
        return
    assert all(1 <= rank <= channels for rank, channels in zip(ranks, kernel.channels, strict=True))
    assert kernel.macs(ranks) <= share * kernel.macs(kernel.channels) or 1 in ranks
    for rank, channels in zip(ranks, kernel.channels, strict=True):
        assert rank % multiple == 0 or rank < multiple or rank == channels


def test_ratio_comes_near_its_share():
    for kernel in (_shaped(256, 384), _shaped(3, 64, 49, before=400), _shaped(512, 512, before=400)):
        assert 0.9 < kernel.macs(Ratio(0.5).choose(kernel)) / kernel.macs(kernel.channels) / 0.5 <= 1


def test_a_matrix_has_one_rank():
    assert Ratio(0.5).choose(_shaped(256, 512, 1)) == (256, 85)
    assert Ratio(0.5).choose(_shaped(256, 512, 1, before=400)) == (256, 85)
    assert Ratio(0.5, multiple=16).choose(_shaped(256, 512, 1)) == (256, 80)
    assert Ratio(0.5).choose(_shaped(256, 10, 1)) == (Reason.NO_RANK, "rank 4 is too low: 8 are the fewest")
    weight = _low_rank(64, 48, 5, 5, 1e-3)[:, :, :1, :1]
    assert Vbmf().choose(_kernel(weight)) == Energy(0.999).choose(_kernel(weight)) == (48, 5)


def test_multiples_are_filled_up_and_not_beyond_the_channels():
    weight = _low_rank(64, 24, 9, 17, 1e-3)
    assert Vbmf().choose(_kernel(weight)) == (17, 9)
    assert Vbmf(multiple=8).choose(_kernel(weight)) == (24, 16)
    assert Energy(0.9999, multiple=16).choose(_kernel(weight)) == (24, 16)


@pytest.mark.parametrize("multiple", [0, -8])
def test_multiples_without_meaning(multiple):
    with pytest.raises(WrongRanks, match=f"ranks can't be multiples of {multiple}: give 1 or more"):
        Ratio(0.5, multiple=multiple)


def test_fixed_ranks_are_taken_as_they_are():
    choice = Fixed({"c": (63, 2)})
    assert choice.choose(_shaped(64, 3)) == (63, 2)
    assert Fixed({"d": (63, 2)}).choose(_shaped(64, 3)) is None


@pytest.mark.parametrize("record", [Energy, Ratio])
@pytest.mark.parametrize("share", [0, 1, -0.5, 1.5, float("nan"), float("inf")])
def test_shares_without_meaning(record, share):
    with pytest.raises(WrongRanks, match="is out of range: give a share between 0 and 1") as error:
        record(share)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("ranks", [(0, 3), (3, -1), (3,), (1, 2, 3)])
def test_ranks_without_meaning(ranks):
    with pytest.raises(WrongRanks, match=r"c: ranks .* are not two numbers from 1"):
        Fixed({"c": ranks})


def test_ranks_beyond_the_channels():
    with pytest.raises(WrongRanks, match="c: ranks 65, 2 exceed its 64 inputs and 32 outputs"):
        Fixed({"c": (65, 2)}).choose(_shaped(64, 32))
