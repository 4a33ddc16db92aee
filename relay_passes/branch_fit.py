"""Whether one branch of a fork can be more output channels of another's last convolution.

Both must have the same strides and activations, and the absorber's kernel must have taps where the branch
looks. Its kernel is at least as large as the window of the branch's pool; a 1x1 convolution may take in a
branch with a pool too, whose pool is then dropped, but only if that leaves no inputs unread.
"""

from __future__ import annotations

from relay_passes.branch_block import Branch
from relay_passes.convolution import Convolution
from relay_passes.merge import Refused
from relay_passes.merge_plan import Reason
from relay_passes.value_range import is_unchanged_by


def cannot_absorb(absorber: Branch, branch: Branch) -> Refused | None:
    """Why `absorber` can't take in `branch`, or None if it can."""
    last = absorber.last
    convolutions = [block.convolution for block in (*absorber.blocks, *branch.blocks)]
    if any(convolution.groups != 1 for convolution in convolutions):
        return Reason.GROUPED, f"{last.name} or its branch has groups"
    if last.dilation != (1, 1) and last.kernel != (1, 1):
        return Reason.DILATED, f"the taps of {last.name} don't lie side by side"
    if branch.pool is not None and (refused := _too_small(last, branch)) is not None:
        return refused
    if absorber.strides != last.strides:
        return Reason.DIFFERENT_STRIDES, f"a layer in front of {last.name} has a stride"
    if branch.strides != last.strides:
        return Reason.DIFFERENT_STRIDES, f"{branch.name} and {last.name} have different strides"
    if not _same_activations(absorber, branch):
        return Reason.DIFFERENT_ACTIVATIONS, f"behind {branch.name} and {last.name}"
    if None in taps_of(absorber, branch):
        return Reason.NO_ABSORBER, f"{branch.name} looks outside the window of {last.name}"
    if absorber.is_cut:
        return Reason.NO_ABSORBER, f"the channels of {last.name} are split"
    return None


def taps_of(absorber: Branch, branch: Branch) -> tuple[slice | None, slice | None]:
    """For each axis the taps of the absorber's kernel that look where the branch's kernel looks, or None."""
    return tuple(_taps_along(axis, absorber, branch) for axis in (0, 1))


def _taps_along(axis: int, absorber: Branch, branch: Branch) -> slice | None:
    """The branch's tap i stands on the absorber's tap first + i * step."""
    last, own = absorber.last, branch.last
    step, first = own.dilation[axis], -own.padding[axis]
    if branch.pool is not None:
        step *= branch.pool.strides[axis]
        first = first * branch.pool.strides[axis] + (branch.pool.window[axis] - 1) // 2
        first -= branch.pool.padding[axis]
    in_front = [block.convolution for block in absorber.blocks[:-1]]
    first += last.padding[axis]
    first -= sum(each.kernel[axis] // 2 * each.dilation[axis] - each.padding[axis] for each in in_front)
    end = first + (own.kernel[axis] - 1) * step + 1
    return slice(first, end, step) if first >= 0 and end <= last.kernel[axis] else None


def _too_small(last: Convolution, branch: Branch) -> Refused | None:
    wanted = branch.pool.strides if last.kernel == (1, 1) else branch.pool.window
    if all(k >= w for k, w in zip(last.kernel, wanted, strict=True)):
        return None
    sizes = (last.kernel, branch.pool.window, branch.pool.strides)
    kernel, window, strides = ("x".join(map(str, size)) for size in sizes)
    detail = f"{last.name} is {kernel}, the window of {branch.pool.var.name} {window} with strides {strides}"
    return Reason.KERNEL_TOO_SMALL, detail


def _same_activations(absorber: Branch, branch: Branch) -> bool:
    """Whether both end in the same activations; what a pool alone gives must pass through them unchanged."""
    if not branch.is_pool_alone:
        return absorber.signature == branch.signature
    layers = absorber.blocks[-1].activations
    return all(is_unchanged_by(layer, branch.values) for layer in layers)
