"""How the ranks of a Tucker-2 decomposition are chosen.

`Vbmf`, `Energy` and `Ratio` choose for every convolution, `Fixed` says them by name. With C = I, O channels,
T taps and P places, ranks R_in and R_out cost

    I R_in P_in  +  R_in R_out T P_out  +  R_out O P_out        multiply-adds instead of  I O T P_out

and a 1x1 convolution whose rank equals the channels is left away with its cost. The first three leave
channels alone where that costs no more than the rank they found: it loses nothing. So of the kernel of a 1x1
convolution or of a dense layer, which is a matrix, they lower one rank only.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from relay_passes.merge import Refused
from relay_passes.merge_plan import Reason
from relay_passes.tucker import IN, OUT, Ranks
from relay_passes.vbmf import rank_under_noise

FEWEST_CHANNELS = 8
"""Fewer are left alone, such as the three of a picture, and a matrix is not left with fewer by a share."""


class WrongRanks(ValueError):
    """A choice of ranks that has no meaning."""


@dataclass(frozen=True)
class Kernel:
    """What a choice of ranks looks at: a convolution with one group, or a dense layer, of one tap.

    `channels` are inputs and outputs, `taps` is KH * KW, `places` are the positions (batch, rows, columns) of
    input and output. `squares` gives the squared singular values of the unfolding along an axis.
    """

    name: str
    channels: tuple[int, int]
    taps: int
    places: tuple[int, int]
    squares: Callable[[int], np.ndarray]

    @property
    def is_open(self) -> tuple[bool, bool]:
        """Whether inputs and outputs may get a lower rank."""
        return tuple(channels >= FEWEST_CHANNELS for channels in self.channels)

    def macs(self, ranks: Ranks) -> int:
        """Multiply-adds with these ranks; with ranks equal to the channels, those of the convolution."""
        (inputs, outputs), (before, behind), (rank_in, rank_out) = self.channels, self.places, ranks
        into = inputs * rank_in * before if rank_in < inputs else 0
        out = rank_out * outputs * behind if rank_out < outputs else 0
        return into + rank_in * rank_out * self.taps * behind + out

    def cheapest(self, ranks: Ranks) -> Ranks:
        """These ranks, or the channels instead of one or both where that costs no more."""
        rank_in, rank_out = (
            rank if is_open else channels
            for rank, channels, is_open in zip(ranks, self.channels, self.is_open, strict=True)
        )
        rank_in, rank_out = min(rank_in, rank_out * self.taps), min(rank_out, rank_in * self.taps)
        inputs, outputs = self.channels
        options = itertools.product((inputs, rank_in), (outputs, rank_out))
        return min(options, key=self.macs)


@dataclass(frozen=True)
class Found:
    """Ranks that are found for every convolution larger than 1x1.

    Parameters
    ----------
    matrices : bool
        For 1x1 convolutions and dense layers too.
    multiple : int
        Ranks are multiples of this, such as the lanes of a vector, where the channels allow it.

    Raises
    ------
    WrongRanks
        If the multiple is less than 1.
    """

    matrices: bool = field(default=False, kw_only=True)
    multiple: int = field(default=1, kw_only=True)

    def __post_init__(self):
        if self.multiple < 1:
            raise WrongRanks(f"ranks can't be multiples of {self.multiple}: give 1 or more")

    def _filled(self, kernel: Kernel, ranks: Ranks) -> Ranks:
        """The multiples from these ranks on, or the channels."""
        filled = (math.ceil(rank / self.multiple) * self.multiple for rank in ranks)
        return kernel.cheapest(tuple(map(min, filled, kernel.channels)))


@dataclass(frozen=True)
class Vbmf(Found):
    """Ranks that stand out of noise: variational Bayesian matrix factorisation of both unfoldings."""

    def choose(self, kernel: Kernel) -> Ranks | Refused:
        """The ranks for a kernel, or why there are none."""
        (inputs, outputs), (open_in, open_out) = kernel.channels, kernel.is_open
        rank_in = rank_under_noise(kernel.squares(IN), inputs, outputs * kernel.taps) if open_in else inputs
        rank_out = (
            rank_under_noise(kernel.squares(OUT), outputs, inputs * kernel.taps) if open_out else outputs
        )
        if 0 in (rank_in, rank_out):
            return Reason.NO_RANK, "its weights can't be told from noise"
        return self._filled(kernel, (rank_in, rank_out))


@dataclass(frozen=True)
class Energy(Found):
    """The smallest ranks that keep a share of the sum of squares of each unfolding.

    Raises
    ------
    WrongRanks
        If the share is not between 0 and 1, or the multiple less than 1.
    """

    share: float

    def __post_init__(self):
        super().__post_init__()
        _check_share("energy", self.share)

    def choose(self, kernel: Kernel) -> Ranks | Refused:
        """The ranks for a kernel, or why there are none."""
        return self._filled(kernel, (self._rank(kernel.squares(IN)), self._rank(kernel.squares(OUT))))

    def _rank(self, squares: np.ndarray) -> int:
        kept = np.cumsum(squares)
        return int(np.searchsorted(kept, self.share * kept[-1])) + 1


@dataclass(frozen=True)
class Ratio(Found):
    """Ranks in proportion to the channels that leave this share of each layer's multiply-adds, or less.

    Raises
    ------
    WrongRanks
        If the share is not between 0 and 1, or the multiple less than 1.
    """

    share: float

    def __post_init__(self):
        super().__post_init__()
        _check_share("ratio", self.share)

    def choose(self, kernel: Kernel) -> Ranks | Refused:
        """The ranks for a kernel, from 1 on even if that takes more than the share; of a matrix from 8 on."""
        wanted = self._in_proportion(kernel)
        if kernel.taps == 1 and wanted[0] < FEWEST_CHANNELS:
            return Reason.NO_RANK, f"rank {int(wanted[0])} is too low: {FEWEST_CHANNELS} are the fewest"
        most = self.share * kernel.macs(kernel.channels)
        near = map(self._near, wanted, kernel.channels)
        options = [kernel.cheapest(ranks) for ranks in itertools.product(*near)]
        fitting = [ranks for ranks in options if kernel.macs(ranks) <= most]
        return max(fitting, key=kernel.macs) if fitting else options[0]

    def _in_proportion(self, kernel: Kernel) -> tuple[float, float]:
        """Ranks that take the share: the part of the channels is the root of a quadratic equation."""
        (inputs, outputs), (before, behind) = kernel.channels, kernel.places
        if kernel.taps == 1:
            return (self.share * inputs * outputs / (inputs + outputs),) * 2
        whole = inputs * outputs * kernel.taps * behind
        open_in, open_out = kernel.is_open
        around = open_in * inputs * inputs * before + open_out * outputs * outputs * behind
        if open_in and open_out:
            part = (math.sqrt(around**2 + 4 * whole * self.share * whole) - around) / (2 * whole)
        else:
            part = self.share * whole / (whole + around)
        return part * inputs, part * outputs

    def _near(self, rank: float, channels: int) -> tuple[int, int]:
        """The multiples beside a rank, the lower one first; below the first of them the rank itself."""
        low = int(rank) // self.multiple * self.multiple
        return max(low or int(rank), 1), min(low + self.multiple, channels)


@dataclass(frozen=True)
class Fixed:
    """Ranks R_in and R_out by the layer's name, taken as they are; other layers stay.

    Raises
    ------
    WrongRanks
        If a rank is less than 1, or, when it comes to its layer, more than the channels.
    """

    ranks: Mapping[str, Ranks]
    matrices: ClassVar[bool] = True

    def __post_init__(self):
        for name, ranks in self.ranks.items():
            if len(ranks) != 2 or min(ranks) < 1:
                raise WrongRanks(f"{name}: ranks {_written(ranks)} are not two numbers from 1")

    def choose(self, kernel: Kernel) -> Ranks | None:
        """The ranks for a kernel, or None if it has none."""
        ranks = self.ranks.get(kernel.name)
        if ranks is None:
            return None
        (inputs, outputs), (rank_in, rank_out) = kernel.channels, ranks
        if rank_in > inputs or rank_out > outputs:
            raise WrongRanks(
                f"{kernel.name}: ranks {_written(ranks)} exceed its {inputs} inputs and {outputs} outputs"
            )
        return rank_in, rank_out


RankChoice = Vbmf | Energy | Ratio | Fixed


def _check_share(what: str, share: float) -> None:
    if not 0 < share < 1:
        raise WrongRanks(f"{what} {share:g} is out of range: give a share between 0 and 1, such as 0.5")


def _written(ranks: Ranks) -> str:
    return ", ".join(str(rank) for rank in ranks)
