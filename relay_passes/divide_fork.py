"""Which branches of a fork become part of which, by the paper's rules and by what it costs.

A branch with a pool goes into the largest kernel that is at least the pool's window, a 1x1 branch into the
smallest larger kernel; of equal kernels into the one that costs least. If all that takes more multiply-adds
than it saves, branches are moved to where they cost less, and then left out, first the one that costs most.

Branches of a single 1x1 convolution that are left side by side become one 1x1 convolution, which is exact.
Where no larger kernel stands beside it, a pool branch joins them: its pool is dropped and the kernel stays,
as in a streamline merge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from relay_passes.branch_block import Branch, Fork
from relay_passes.branch_fit import cannot_absorb
from relay_passes.branch_groups import Absorbers, Division, divided
from relay_passes.merge import Refused
from relay_passes.merge_plan import Reason

Options = Mapping[int, list[Branch]]
"""By the place of a branch those that can absorb it, the preferred first."""


def divide(fork: Fork) -> tuple[Division, dict[int, Refused]]:
    """Who absorbs whom, and by their places why other small branches stay.

    Parameters
    ----------
    fork : Fork

    Returns
    -------
    tuple of Division and dict
        A small branch takes part in the one or stands in the other.
    """
    found = {branch.place: _larger(fork, branch) for branch in fork.branches if branch.is_small}
    options = {place: able for place, (able, _) in found.items() if able}
    chosen = _worthwhile(fork, options, _preferred(fork, options))
    refused = {
        place: _costs(fork, chosen, place, able) if able else why
        for place, (able, why) in found.items()
        if place not in chosen
    }
    stacked = _stacked(
        [branch for branch in fork.branches if branch.place in refused and _stacks(fork, branch)]
    )
    taking_part = {*stacked, *(leader.place for leader in stacked.values())}
    staying = {place: why for place, why in refused.items() if place not in taking_part}
    return divided(fork, {**chosen, **stacked}), staying


def _larger(fork: Fork, branch: Branch) -> tuple[list[Branch], Refused]:
    """The larger branches that can absorb one, the preferred first; why the first of all can't."""
    larger = sorted(
        (other for other in fork.branches if other.is_large),
        key=lambda other: (other.smallest_side, len(other.blocks)),
    )
    if not larger:
        return [], _why_alone(fork, branch)
    preferred = larger if branch.is_plain else larger[::-1]
    refused = [cannot_absorb(other, branch) for other in preferred]
    able = [other for other, why in zip(preferred, refused, strict=True) if why is None]
    return able, refused[0]


def _why_alone(fork: Fork, branch: Branch) -> Refused:
    """Why a branch beside no larger one stays, if it does."""
    if branch.is_pool_alone:
        return Reason.NO_WEIGHTS, f"{branch.name} has no weights, and no larger convolution reads its input"
    others = (other for other in fork.branches if other.is_pixel and other is not branch)
    other = next(others, None)
    if other is None:
        return Reason.NO_ABSORBER, "no branch from the same input has a kernel larger than 1x1"
    apart = Reason.SAVES_NOTHING, f"its channels and those of {other.name} lie apart"
    return cannot_absorb(other, branch) or apart


def _preferred(fork: Fork, options: Options) -> dict[int, Branch]:
    """Each branch into the first size of kernel that can take it, and of that size where it costs least."""
    macs, chosen = _macs_with(fork), {}
    branches = [branch for branch in fork.branches if branch.place in options]
    for branch in sorted(branches, key=lambda branch: not branch.is_plain):
        able = options[branch.place]
        equal = [other for other in able if other.smallest_side == able[0].smallest_side]
        chosen = min(({**chosen, branch.place: other} for other in equal), key=macs)
    return chosen


def _worthwhile(fork: Fork, options: Options, chosen: dict[int, Branch]) -> dict[int, Branch]:
    """Branches moved or left out until the rest costs nothing, and then back in where that costs nothing."""
    macs = _macs_with(fork)
    while macs(chosen) > 0:
        steps = (min(more, key=macs, default=chosen) for more in (_moves(options, chosen), _cuts(chosen)))
        chosen = next((step for step in steps if macs(step) < macs(chosen)), {})
    for place, able in options.items():
        if place not in chosen:
            more = min(({**chosen, place: other} for other in able), key=macs)
            chosen = more if macs(more) <= macs(chosen) else chosen
    return chosen


def _moves(options: Options, chosen: dict[int, Branch]) -> Iterator[dict[int, Branch]]:
    """The same with one branch in another of its absorbers."""
    return ({**chosen, place: absorber} for place in chosen for absorber in options[place])


def _cuts(chosen: dict[int, Branch]) -> Iterator[dict[int, Branch]]:
    """The same without one of the branches."""
    return ({place: chosen[place] for place in chosen if place != left_out} for left_out in chosen)


def _macs_with(fork: Fork) -> Callable[[Absorbers], int]:
    return lambda absorbers: divided(fork, absorbers).macs_change


def _costs(fork: Fork, chosen: dict[int, Branch], place: int, able: list[Branch]) -> Refused:
    macs = _macs_with(fork)
    best = min(able, key=lambda other: macs({**chosen, place: other}))
    change = macs({**chosen, place: best}) - macs(chosen)
    return Reason.SAVES_NOTHING, f"in {best.name} the network would take {change:+,} multiply-adds"


def _stacks(fork: Fork, branch: Branch) -> bool:
    """Whether a branch may become part of a 1x1 convolution beside it."""
    return branch.is_pixel or not (branch.is_pool_alone or any(other.is_large for other in fork.branches))


def _stacked(branches: list[Branch]) -> Absorbers:
    """By place the 1x1 convolution that takes a branch in: one without a pool only right after the others."""
    stacked: dict[int, Branch] = {}
    waiting: list[Branch] = []
    leader, end = None, None
    for branch in branches:
        fits = leader is not None and cannot_absorb(leader, branch) is None
        if fits and (not branch.is_pixel or branch.place == end):
            stacked[branch.place] = leader
        elif branch.is_pixel:
            leader = branch
            joining = {each.place: leader for each in waiting if cannot_absorb(leader, each) is None}
            waiting = [each for each in waiting if each.place not in joining]
            stacked |= joining
        else:
            waiting.append(branch)
            continue
        end = branch.place + 1
    return stacked
