"""The rows of convolutions that a division of a fork makes, with the best weights that need no data.

A shrunk reducer or squeeze keeps the channels that carry most (norm of the channel's row times norm of what
reads it). What read all of its channels y gets a kernel for those kept, z: K becomes K M pinv(N), the
least-squares answer, where M and N are the second moments of y with z and of z with z if the inputs are
normally distributed. With the rows u and v of [weights, bias], the angle t between them, and a ReLU behind,

    E[relu(u x) relu(v x)] = |u| |v| (sin t + (pi - t) cos t) / (2 pi)

(Cho and Saul, Kernel Methods for Deep Learning, 2009), without one E[(u x) (v x)] = u v.

A branch kernel K on the block's input x becomes K pinv(R), R being the centre taps of the layers in front of
the absorber multiplied together: the least-squares answer if those layers were linear.

The kernel stands where the branch looked, mostly the centre of the larger kernel; behind an average pool a
part of it on every tap of the pool's window, which is what the pool did. Without a layer in front R is the
identity, and a 1x1 branch without a pool is absorbed exactly.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

from relay_passes.branch_block import Branch
from relay_passes.branch_fit import taps_of
from relay_passes.branch_groups import Division, Group, half
from relay_passes.convolution import ChannelLayer, ConvBlock

RIDGE = 1e-10
"""Added to the diagonal, as a part of its mean, so that a reducer without full rank has an inverse too."""


def merged_rows(division: Division) -> tuple[ConvBlock | None, list[list[ConvBlock]]]:
    """The shrunk squeeze, if it is one that shrinks, and the row of each group that changes."""
    if not division.squeezes:
        return None, [_merged_row(group) for group in division.changed]
    squeeze = division.fork.squeeze
    readers = np.concatenate([_flat(branch.first.weight) for branch in division.fork.branches], axis=1)
    kept = _strongest_half(squeeze.convolution.weight, readers)
    from_kept = _guess_from(squeeze, kept)
    rows = [_merged_row(_on_squeezed(group, from_kept)) for group in division.changed]
    return _select_outputs(squeeze, kept), rows


def _on_squeezed(group: Group, from_kept: np.ndarray) -> Group:
    """The group with its branches reading the shrunk squeeze."""

    def narrowed(branch: Branch) -> Branch:
        first, *others = branch.blocks
        weight = _times(first.convolution.weight, from_kept)
        return replace(branch, blocks=(first.with_convolution(weight=weight), *others))

    absorbed = tuple(narrowed(branch) for branch in group.absorbed)
    return replace(group, absorber=narrowed(group.absorber), absorbed=absorbed)


def _merged_row(group: Group) -> list[ConvBlock]:
    """The absorber's blocks with the absorbed branches inside."""
    *front, last = group.absorber.blocks
    if not group.absorbed:
        return [*front, last]
    if group.shrinks:
        weight = last.convolution.weight
        kept = _strongest_half(front[-1].convolution.weight, _flat(weight))
        last = last.with_convolution(weight=_times(weight, _guess_from(front[-1], kept)))
        front[-1] = _select_outputs(front[-1], kept)
    members = [
        (last, last.convolution.weight)
        if branch is group.absorber
        else (_behind(branch, last), _placed(group.absorber, branch, front))
        for branch in group.members
    ]
    return [*front, _stacked(last, members)]


def _flat(weight: np.ndarray) -> np.ndarray:
    """A row for each input channel: all that reads it."""
    return np.moveaxis(weight, 1, 0).reshape(weight.shape[1], -1).astype("float64")


def _strongest_half(reducer: np.ndarray, readers: np.ndarray) -> np.ndarray:
    """Indices, in order, of the half of the reducer's channels that carry most."""
    strength = np.linalg.norm(reducer.reshape(len(reducer), -1), axis=1) * np.linalg.norm(readers, axis=1)
    return np.sort(np.argsort(-strength, kind="stable")[: half(len(reducer))])


def _select_outputs(block: ConvBlock, kept: np.ndarray) -> ConvBlock:
    tail = tuple(
        layer if layer.by is None else replace(layer, by=np.take(layer.by, kept, layer.channel_axis))
        for layer in block.tail
    )
    return replace(block.with_convolution(weight=block.convolution.weight[kept]), tail=tail)


def _guess_from(block: ConvBlock, kept: np.ndarray) -> np.ndarray:
    """The matrix (channels, kept) that makes all channels of a 1x1 block from those kept."""
    weight = block.convolution.weight
    bias = np.zeros(len(weight)) if block.bias is None else block.bias
    rows = np.column_stack([weight.reshape(len(weight), -1), bias.reshape(-1)]).astype("float64")
    moments = rows @ rows[kept].T
    if block.activations and block.activations[0].operator == "nn.relu":
        norms = np.linalg.norm(rows, axis=1)
        scale = np.outer(norms, norms[kept])
        cosine = np.clip(np.divide(moments, scale, out=np.zeros_like(scale), where=scale > 0), -1, 1)
        angle = np.arccos(cosine)
        moments = scale * (np.sin(angle) + (np.pi - angle) * cosine) / (2 * np.pi)
    return np.linalg.solve(_with_ridge(moments[kept]), moments.T).T


def _placed(absorber: Branch, branch: Branch, front: list[ConvBlock]) -> np.ndarray:
    """The branch's kernel behind the layers in front, inside a kernel of the absorber's size."""
    on_reduced = branch.last.weight
    if front:
        on_reduced = _times_pinv(
            on_reduced, functools.reduce(lambda made, tap: tap @ made, map(_centre_tap, front))
        )
    placed = np.zeros((*on_reduced.shape[:2], *absorber.last.kernel), dtype=branch.last.weight.dtype)
    places = _places(absorber, branch)
    for rows, columns in places:
        placed[:, :, rows, columns] += on_reduced / len(places)
    return placed


def _places(absorber: Branch, branch: Branch) -> list[tuple[slice, slice]]:
    """Where the branch's kernel stands: once, or on each tap of an average pool's window if that fits."""
    rows, columns = taps_of(absorber, branch)
    if not branch.averages:
        return [(rows, columns)]
    window = [_shifted(taps, branch, axis) for axis, taps in enumerate((rows, columns))]
    fits = all(
        taps[0].start >= 0 and taps[-1].stop <= k
        for taps, k in zip(window, absorber.last.kernel, strict=True)
    )
    return [(row, column) for row in window[0] for column in window[1]] if fits else [(rows, columns)]


def _shifted(taps: slice, branch: Branch, axis: int) -> list[slice]:
    """The taps moved over each place of the pool's window."""
    size, dilation = branch.pool.size[axis], branch.pool.dilation[axis]
    before = (branch.pool.window[axis] - 1) // 2
    moves = [place * dilation - before for place in range(size)]
    return [slice(taps.start + move, taps.stop + move, taps.step) for move in moves]


def _times(kernel: np.ndarray, by: np.ndarray) -> np.ndarray:
    """K M for each tap of a kernel (O, I, KH, KW)."""
    return np.moveaxis(np.moveaxis(kernel, 1, -1) @ by, -1, 1).astype(kernel.dtype)


def _with_ridge(gram: np.ndarray) -> np.ndarray:
    return gram + np.eye(len(gram)) * (RIDGE * np.trace(gram) / len(gram) or 1.0)


def _times_pinv(kernel: np.ndarray, reduce: np.ndarray) -> np.ndarray:
    """K pinv(R) for each tap of a kernel (O, I, KH, KW)."""
    outputs, _, height, width = kernel.shape
    rows = np.moveaxis(kernel, 1, -1).reshape(-1, reduce.shape[1]).astype("float64")
    on_reduced = np.linalg.solve(_with_ridge(reduce @ reduce.T), reduce @ rows.T).T
    return np.moveaxis(on_reduced.reshape(outputs, height, width, -1), -1, 1)


def _centre_tap(block: ConvBlock) -> np.ndarray:
    """The linear map (output channels, input channels) of the middle tap."""
    weight = block.convolution.weight
    return weight[:, :, weight.shape[2] // 2, weight.shape[3] // 2].astype("float64")


def _behind(branch: Branch, last: ConvBlock) -> ConvBlock:
    """The branch's own block; for a pool alone one with the absorber's activations that leave it as it is."""
    (block,) = branch.blocks
    if not branch.is_pool_alone:
        return block
    return replace(block, tail=tuple(_neutral(layer, branch.channels) for layer in last.activations))


def _neutral(layer: ChannelLayer, channels: int) -> ChannelLayer:
    if layer.by is None:
        return layer
    shape = [channels if axis == layer.channel_axis else 1 for axis in range(layer.by.ndim)]
    value = 0 if layer.operator == "add" else 1
    return replace(layer, by=np.full(shape, value, dtype=layer.by.dtype))


def _stacked(last: ConvBlock, members: list[tuple[ConvBlock, np.ndarray]]) -> ConvBlock:
    """One block whose output channels are those of the members, one after the other."""
    dtype = last.convolution.weight.dtype
    weight = np.concatenate([kernel for _, kernel in members]).astype(dtype)
    blocks = [block for block, _ in members]
    activations = [block.activations for block in blocks]
    tail = [
        replace(layer, by=None if layer.by is None else _joined([row[i] for row in activations]))
        for i, layer in enumerate(last.activations)
    ]
    if any(block.has_bias for block in blocks):
        tail.insert(0, _joined_bias(blocks))
    return replace(last.with_convolution(weight=weight), tail=tuple(tail))


def _joined(layers: list[ChannelLayer]) -> np.ndarray:
    return np.concatenate([layer.by for layer in layers], layers[0].channel_axis)


def _joined_bias(blocks: list[ConvBlock]) -> ChannelLayer:
    template = next(block.tail[0] for block in blocks if block.has_bias)
    biases = [
        np.zeros((1, len(block.convolution.weight), 1, 1), dtype=template.by.dtype)
        if block.bias is None
        else block.bias
        for block in blocks
    ]
    return replace(template, by=np.concatenate(biases, axis=1))
