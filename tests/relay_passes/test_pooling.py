"""The geometry of a convolution that takes a pool's stride, held against torch."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from tvm import relax

from relay_passes.convolution import Convolution
from relay_passes.graph import Graph
from relay_passes.merge_plan import Reason
from relay_passes.pooling import Pool, is_global, why_no_stride, with_stride_of


def _relax_conv(x, weight, options):
    return relax.op.nn.conv2d(x, relax.const(weight), **options)


def _found(built, size, weight, options, pool):
    """The convolution and the pool behind it in a module of both."""

    def compute(builder, x):
        convolved = builder.emit(_relax_conv(x, weight, options))
        return relax.op.nn.max_pool2d(convolved, **pool)

    graph = Graph(built((1, weight.shape[1] * options.get("groups", 1), *size), compute))
    convolution, pooled = graph.layers
    return Convolution.at(graph, convolution), Pool.at(graph, pooled)


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def geometries(draw):
    kernel, dilation = draw(pairs), draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    window = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    extent = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    return {
        "size": draw(st.tuples(st.integers(5, 20), st.integers(5, 20))),
        "kernel": kernel,
        "options": {
            "strides": draw(st.tuples(st.integers(1, 4), st.integers(1, 3))),
            "padding": tuple(draw(st.integers(0, extent[i % 2])) for i in range(4)),
            "dilation": dilation,
        },
        "pool": {
            "pool_size": window,
            "strides": draw(pairs),
            "padding": tuple(draw(st.integers(0, window[i % 2] // 2)) for i in range(4)),
            "dilation": draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
            "ceil_mode": draw(st.booleans()),
        },
    }


def _convolve(x, weight, padding, strides, dilation):
    top, left, bottom, right = padding
    return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, stride=strides, dilation=dilation)


@settings(max_examples=120, deadline=None)
@given(geometries())
def test_the_new_convolution_computes_what_the_pool_saw(built, geometry):
    """Each of its outputs is the old convolution's at one place of the window, the same place for all.

    The place is the middle, or as near to it as the kernel's padding allows.
    """
    options, pool_options = geometry["options"], geometry["pool"]
    size = geometry["size"]
    extent = [(k - 1) * d + 1 for k, d in zip(geometry["kernel"], options["dilation"], strict=True)]
    padded = [size[i] + options["padding"][i] + options["padding"][i + 2] for i in (0, 1)]
    assume(all(p >= e for p, e in zip(padded, extent, strict=True)))
    convolved = [(p - e) // s + 1 for p, e, s in zip(padded, extent, options["strides"], strict=True)]
    window = [convolved[i] + pool_options["padding"][i] + pool_options["padding"][i + 2] for i in (0, 1)]
    sizes = zip(pool_options["pool_size"], pool_options["dilation"], strict=True)
    assume(all(n > (w - 1) * e for n, (w, e) in zip(window, sizes, strict=True)))

    weight = torch.randn(2, 2, *geometry["kernel"], dtype=torch.float64).float()
    convolution, pool = _found(built, size, weight.numpy(), options, pool_options)
    new = with_stride_of(convolution, pool)
    if new is None:
        return
    x = torch.randn(1, 2, *size)
    after = _convolve(x, weight, new["padding"], new["strides"], options["dilation"])
    pooled = tuple(int(n) for n in pool.var.ty.shape)
    assert after.shape == pooled

    before = _convolve(x, weight, options["padding"], options["strides"], options["dilation"])
    rows, columns = (_places(axis, convolution, pool, new, before.shape[2 + axis]) for axis in (0, 1))
    sampled = before[:, :, [r for _, r in rows]][:, :, :, [c for _, c in columns]]
    taken = after[:, :, [j for j, _ in rows]][:, :, :, [j for j, _ in columns]]
    torch.testing.assert_close(taken, sampled, rtol=1e-4, atol=1e-4)


def _places(axis, convolution, pool, new, available):
    """Pairs of a new output and the old output that it has to equal, where the old one was computed."""
    stride, padding, window = (getattr(convolution, f)[axis] for f in ("strides", "padding", "window"))
    outputs, size = int(pool.var.ty.shape[2 + axis]), int(convolution.source.ty.shape[2 + axis])
    offset, rest = divmod(padding - new["padding"][axis], stride)
    first = -pool.padding[axis]
    offsets = range(first, first + pool.window[axis], pool.dilation[axis])
    assert rest == 0
    assert offset in offsets

    def keeps_size(c):
        in_front = padding - stride * c
        step = stride * pool.strides[axis]
        sizes = {(size + in_front + behind - window) // step + 1 for behind in range(window)}
        return in_front < window and outputs in sizes

    middle = (offsets[0] + offsets[-1]) / 2
    possible = [c for c in offsets if keeps_size(c)]
    uncropped = [c for c in possible if padding >= stride * c]
    assert abs(offset - middle) == min(abs(c - middle) for c in uncropped or possible)
    places = ((j, j * pool.strides[axis] + offset) for j in range(outputs))
    return [(j, place) for j, place in places if 0 <= place < available]


@settings(max_examples=150, deadline=None)
@given(kernel=st.integers(1, 4), dilation=st.integers(1, 3), stride=st.integers(1, 3), pool=pairs, step=pairs)
def test_inputs_that_would_stay_unread(built, kernel, dilation, stride, pool, step):
    """On one axis, against the inputs in the middle of the picture that either of them reads."""
    (window, pool_dilation), (pool_stride, _) = pool, step
    weight = np.ones((1, 1, 1, kernel), "float32")
    options = {"strides": (1, stride), "dilation": (1, dilation)}
    pool_options = {
        "pool_size": (1, window),
        "strides": (1, pool_stride),
        "dilation": (1, pool_dilation),
    }
    convolution, found = _found(built, (1, 100), weight, options, pool_options)

    def read(places):
        starts = [stride * (j * pool_stride + place) for j in range(100) for place in places]
        return {start + i * dilation for start in starts for i in range(kernel)} & set(range(40, 60))

    loses_some = bool(read([place * pool_dilation for place in range(window)]) - read([0]))
    is_dilated = dilation > 1 and kernel > 1
    is_allowed = not is_dilated and kernel >= found.window[1]
    new = with_stride_of(convolution, found)
    assert (new is None) == (loses_some and not is_allowed)
    if new is None:
        reason, _ = why_no_stride(convolution, found)
        assert reason is (Reason.DILATED if is_dilated else Reason.KERNEL_TOO_SMALL)


BY_TWO = {"pool_size": 3, "strides": 2}
KNOWN = {
    "GoogLeNet conv1": (224, 7, {"strides": 2, "padding": 3}, {**BY_TWO, "ceil_mode": True}, 56),
    "GoogLeNet conv2": (56, 3, {"padding": 1}, {**BY_TWO, "ceil_mode": True}, 28),
    "ResNet conv1": (224, 7, {"strides": 2, "padding": 3}, {**BY_TWO, "padding": 1}, 56),
}


@pytest.mark.parametrize(("size", "kernel", "options", "pool", "output"), KNOWN.values(), ids=KNOWN.keys())
def test_the_stems_of_known_networks(built, size, kernel, options, pool, output):
    weight = torch.ones(1, 1, kernel, kernel)
    convolution, found = _found(built, (size, size), weight.numpy(), options, pool)
    new = with_stride_of(convolution, found)
    assert new["strides"] == tuple(s * 2 for s in convolution.strides)
    after = _convolve(torch.ones(1, 1, size, size), weight, new["padding"], new["strides"], 1)
    assert after.shape[2:] == (output, output)


CROPPED = {
    "AlexNet conv1": (227, 11, 4, 27, {"strides": (8, 8), "padding": (-4, -4, 0, 0)}),
    "SqueezeNet conv1": (224, 7, 2, 54, {"strides": (4, 4), "padding": (-2, -2, 0, 0)}),
}


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "output", "expected"), CROPPED.values(), ids=CROPPED.keys()
)
def test_a_size_that_needs_a_crop(built, size, kernel, stride, output, expected):
    """M7: 11x11/4 on 227, then a pool 3x3/2: 27, where stride 8 without padding gives 28."""
    weight = np.ones((1, 1, kernel, kernel), "float32")
    convolution, pool = _found(built, (size, size), weight, {"strides": stride}, BY_TWO)
    assert pool.var.ty.shape[2] == output
    assert with_stride_of(convolution, pool) == expected


def test_the_dilated_footprint_counts(built):
    """M9: a 3x3 convolution with dilation 2 sees 5x5."""
    weight = np.ones((1, 1, 3, 3), "float32")
    options = {"strides": 2, "padding": 2, "dilation": 2}
    convolution, pool = _found(built, (17, 17), weight, options, {"pool_size": 2, "strides": 2})
    assert convolution.window == (5, 5)
    assert with_stride_of(convolution, pool) == {"strides": (4, 4), "padding": (2, 2, 0, 0)}


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda x: relax.op.mean(x, [2, 3]), True),
        (lambda x: relax.op.mean(x, [-1, -2], keepdims=True), True),
        (lambda x: relax.op.max(x, [2, 3]), True),
        (lambda x: relax.op.mean(x), False),
        (lambda x: relax.op.mean(x, [1]), False),
        (lambda x: relax.op.mean(x, [1, 2, 3]), False),
        (lambda x: relax.op.mean(x, [3]), False),
        (lambda x: relax.op.nn.adaptive_avg_pool2d(x, 1), True),
        (lambda x: relax.op.nn.adaptive_avg_pool2d(x, 2), False),
        (lambda x: relax.op.nn.avg_pool2d(x, 6), True),
        (lambda x: relax.op.nn.max_pool2d(x, 3), False),
        (lambda x: relax.op.nn.relu(x), False),
    ],
)
def test_global_pooling_in_all_spellings(built, build, expected):
    graph = Graph(built((1, 2, 6, 6), lambda builder, x: build(x)))
    (layer,) = graph.layers
    assert is_global(graph, layer) is expected


def test_a_mean_of_vectors_is_no_global_pool(built):
    graph = Graph(built((1, 2, 6, 6, 6), lambda builder, x: relax.op.mean(x, [2, 3])))
    assert not is_global(graph, graph.layers[0])


def test_other_layouts_are_not_pools_of_ours(built):
    graph = Graph(built((1, 6, 6, 2), lambda builder, x: relax.op.nn.max_pool2d(x, 2, layout="NHWC")))
    assert Pool.at(graph, graph.layers[0]) is None
