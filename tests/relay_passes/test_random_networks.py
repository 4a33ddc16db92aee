"""Random small networks: exact merges keep every output, all merges keep every shape."""

import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn
from tvm import relax
from tvm_ffi import structural_hash

from pipeline.twin import evaluate
from relay_passes import Ratio, Reason, apply_plan, cost, exact_only, make_merges, plan_merges

CHANNELS, SIZE = 4, 14


class Network(nn.Module):
    """A row of steps: a layer and the values that it reads, by number; the input is number 0."""

    def __init__(self, steps, outputs):
        super().__init__()
        self.layers = nn.ModuleList(layer for layer, _ in steps)
        self.sources = [sources for _, sources in steps]
        self.outputs = outputs

    def forward(self, x):
        values = [x]
        for layer, sources in zip(self.layers, self.sources, strict=True):
            values.append(layer(*(values[i] for i in sources)))
        return tuple(values[i] for i in self.outputs)


class Join(nn.Module):
    def forward(self, *values):
        return torch.cat(values, 1)


class Sum(nn.Module):
    def forward(self, left, right):
        return left + right


def _batch_norm(draw, channels):
    norm = nn.BatchNorm2d(channels)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    norm.bias.data.normal_()
    norm.weight.data.uniform_(0.3 if draw(st.booleans()) else -1.5, 1.5)
    return norm


@st.composite
def networks(draw):
    torch.manual_seed(draw(st.integers(0, 1000)))
    steps, shapes = [], [(CHANNELS, SIZE, SIZE)]

    def add(layer, *sources):
        """Add a step if it leaves something of the picture; return its number."""
        values = [torch.zeros(1, *shapes[i]) for i in sources]
        try:
            shape = tuple(layer.eval()(*values).shape[1:])
        except RuntimeError:
            return sources[-1]
        if min(shape) == 0:
            return sources[-1]
        steps.append((layer, sources))
        shapes.append(shape)
        return len(steps)

    def convolution(source, kernel=None, stride=None):
        channels = shapes[source][0]
        groups = draw(st.sampled_from([g for g in (1, 1, 1, 2, channels) if channels % g == 0]))
        kernel = kernel or draw(st.sampled_from([1, 2, 3, 3, 5]))
        dilation = draw(st.sampled_from([1, 1, 1, 2]))
        layer = nn.Conv2d(
            channels,
            groups * draw(st.integers(1, 3)),
            kernel,
            stride or draw(st.sampled_from([1, 1, 2])),
            draw(st.sampled_from([0, kernel // 2, (kernel - 1) * dilation // 2])),
            dilation,
            groups,
            draw(st.booleans()),
        )
        return add(layer, source)

    def simple(source):
        channels = shapes[source][0]
        padding, flag = draw(st.integers(0, 1)), draw(st.booleans())
        layers = (
            nn.ReLU,
            nn.ReLU6,
            lambda: nn.LeakyReLU(0.2),
            lambda: nn.PReLU(channels),
            nn.Sigmoid,
            nn.Dropout,
            lambda: nn.LocalResponseNorm(3, 0.1),
            lambda: nn.MaxPool2d(draw(st.integers(2, 3)), draw(st.integers(1, 2)), padding, ceil_mode=flag),
            lambda: nn.AvgPool2d(3, 2, padding, count_include_pad=flag),
            lambda: _batch_norm(draw, channels),
            lambda: _batch_norm(draw, channels),
        )
        return add(draw(st.sampled_from(layers))(), source)

    def inception(source):
        ends = []
        channels = shapes[source][0]
        googlenets = st.permutations(["1", "r3", "r5", "pool"])
        others = st.lists(st.sampled_from(["1", "3", "r3", "r5", "pool", "avg"]), min_size=2, max_size=4)
        for kind in draw(st.one_of(googlenets, others)):
            end = source
            if kind == "pool":
                end = add(nn.MaxPool2d(3, 1, 1), end)
            if kind == "avg":
                end = add(nn.AvgPool2d(3, 1, 1), end)
            if kind[0] == "r":
                end = add(nn.ReLU(), add(nn.Conv2d(channels, draw(st.sampled_from([2, 16])), 1), end))
            kernel = int(kind[-1]) if kind[-1].isdigit() else 1
            layer = nn.Conv2d(
                shapes[end][0], draw(st.integers(1, 8)), kernel, 1, kernel // 2, bias=draw(st.booleans())
            )
            ends.append(add(nn.ReLU(), add(layer, end)))
        return add(Join(), *ends)

    def joined(source, layer, *, all_of_shape):
        same = [
            i
            for i, shape in enumerate(shapes)
            if shape[not all_of_shape :] == shapes[source][not all_of_shape :]
        ]
        return add(layer, draw(st.sampled_from(same)), source)

    last = 0
    for _ in range(draw(st.integers(3, 9))):
        kind = draw(
            st.sampled_from(
                ["conv", "conv", "simple", "simple", "simple", "inception", "concat", "add", "fork"]
            )
        )
        if kind == "fork":
            last = draw(st.integers(0, len(steps)))
        elif kind == "conv":
            last = convolution(last)
        elif kind == "simple":
            last = simple(last)
        elif kind == "inception":
            last = inception(last)
        elif kind == "concat":
            last = joined(last, Join(), all_of_shape=False)
        else:
            last = joined(last, Sum(), all_of_shape=True)
    others = draw(st.lists(st.integers(1, len(steps)), max_size=2)) if steps else []
    return Network(steps, [last, *others])


@settings(max_examples=30, deadline=None, derandomize=True, phases=[Phase.generate])
@given(networks())
def test_merges_of_random_networks(from_torch, network):
    case = from_torch(network, torch.randn(1, CHANNELS, SIZE, SIZE))
    assert case.difference() < 1e-4
    before = structural_hash(case.module, map_free_vars=True)
    plan = plan_merges(case.module)
    exact_plan = plan_merges(case.module, choice=exact_only)

    exact = apply_plan(case.module, exact_plan)
    relax.analysis.well_formed(exact)
    assert case.difference(exact) < 1e-4
    _says_what_it_saves(exact_plan, exact)

    merged = apply_plan(case.module, plan)
    relax.analysis.well_formed(merged)
    case.difference(merged)
    _says_what_it_saves(plan, merged)

    checked = make_merges(
        case.module, ranks=Ratio(0.5), evaluate=lambda module, at: evaluate(module, case.inputs, at)
    )
    assert Reason.CHECK_FAILED not in {refusal.reason for refusal in checked.plan.refusals}
    case.difference(checked.module)
    _says_what_it_saves(checked.plan, checked.module)
    assert structural_hash(case.module, map_free_vars=True) == before


def _says_what_it_saves(plan, merged):
    if plan.candidates:
        last, found = plan.candidates[-1], cost(merged)
        said = (last.macs_after, last.parameters_after, last.activation_bytes_after)
        assert said == (found.macs, found.parameters, found.activation_bytes)
