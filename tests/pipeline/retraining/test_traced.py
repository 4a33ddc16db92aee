"""The twin in training: values of layers, outputs before a softmax, each sample by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import tvm
from googlenet import seeded_network
from torch import nn

from pipeline.errors import UserError
from pipeline.importer import load_network
from pipeline.retraining.traced import Traced, check_samples, kinds_of
from pipeline.twin import Twin, evaluate
from relay_passes import REBORN, reborn_layers, strip_softmax


def module_of(network: nn.Module, *inputs: torch.Tensor) -> tvm.IRModule:
    torch.manual_seed(0)
    return load_network(network.eval(), example_inputs=inputs).module


class Net(nn.Module):
    """A convolution, and what a function makes of it."""

    def __init__(self, then, channels: int = 4):
        super().__init__()
        self.conv, self.then = nn.Conv2d(2, channels, 3, padding=1), then

    def forward(self, x):
        return self.then(self.conv(x))


IMAGE = (1, 2, 6, 6)


def two(*shape: int) -> list[torch.Tensor]:
    return [torch.randn(2, *shape[1:], generator=torch.Generator().manual_seed(5))]


def shuffle(x):
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


SEPARATE = {
    "flatten": lambda x: x.flatten(1),
    "squeeze": lambda x: F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1),
    "shuffle": shuffle,
    "permute": lambda x: x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4),
    "split": lambda x: torch.cat(x.split(2, 1)[::-1], 1),
    "softmax": lambda x: x.flatten(1).softmax(1),
    "slice": lambda x: x[:, 1:, ::2],
    "mean": lambda x: x.mean((2, 3), keepdim=True) * x,
}


@pytest.mark.parametrize("name", SEPARATE)
def test_each_sample_by_itself(name):
    module = module_of(Net(SEPARATE[name]), torch.randn(IMAGE))
    check_samples(module, two(*IMAGE))
    (x,) = two(*IMAGE)
    with torch.no_grad():
        (both,) = Twin(module)(x)
    alone = [evaluate(module, [x[i : i + 1].numpy()])[0] for i in range(2)]
    np.testing.assert_allclose(both, np.concatenate(alone), rtol=1e-5, atol=1e-6)


MIXED = {
    "half the samples": lambda x: F.relu(x).reshape(2, 4, 3, 6).relu(),
    "samples in the channels": lambda x: F.relu(x).transpose(0, 1).relu(),
    "the first sample": lambda x: F.relu(x)[:1],
    "over all samples": lambda x: F.relu(x) * x.mean((0, 1, 2, 3), keepdim=True),
    "no batch axis": lambda x: F.relu(x).squeeze(0).relu(),
    "a softmax over samples": lambda x: F.relu(x).softmax(0),
    "a number": lambda x: F.relu(x).mean(),
}


@pytest.mark.parametrize("name", MIXED)
def test_samples_that_are_mixed(name):
    module = module_of(Net(MIXED[name]), torch.randn(IMAGE))
    with pytest.raises(UserError, match="cannot be retrained in batches: layer ") as caught:
        check_samples(module, two(*IMAGE))
    layer = str(caught.value).partition("layer ")[2].partition(" ")[0]
    assert not layer.startswith(("conv", "relu")) or layer.startswith("relu_")
    assert "\n" not in str(caught.value)


def test_the_first_layer_that_mixes_is_named():
    """Layers before it work on any number of samples, and those behind it fail."""

    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
            self.dense = nn.Linear(36, 3)

        def forward(self, x):
            pairs = self.second(self.first(x).relu()).reshape(2, 36)
            return self.dense(pairs)

    module = module_of(Deep(), torch.randn(IMAGE))
    with pytest.raises(UserError, match=r"layer (view|reshape)\S* does not compute each sample"):
        check_samples(module, two(*IMAGE))


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet", "inception_v1"])
def test_real_networks_in_batches(name, tmp_path):
    """As sample by sample, up to rounding."""
    import onnx

    onnx.save_model(seeded_network(name), tmp_path / f"{name}.onnx")
    module = load_network(tmp_path / f"{name}.onnx").module
    inputs = two(1, 3, 224, 224)
    check_samples(module, inputs)
    logits = strip_softmax(module)
    with torch.no_grad():
        (both,) = Twin(logits)(*inputs)
        alone = torch.cat([Twin(logits)(inputs[0][i : i + 1])[0] for i in range(2)])
    assert float((both - alone).abs().max() / alone.abs().max()) < 1e-5
    assert not torch.equal(both[0], both[1])


class Heads(nn.Module):
    """One dense layer, several outputs."""

    def __init__(self, *heads):
        super().__init__()
        self.dense, self.heads = nn.Linear(4, 3), nn.ModuleList(heads)

    def forward(self, x):
        y = self.dense(x)
        return tuple(head(y) for head in self.heads)


def test_outputs_and_what_they_were_before():
    network = Heads(nn.Softmax(-1), nn.Sigmoid(), nn.LogSoftmax(-1), nn.Tanh())
    module = module_of(network, torch.randn(1, 4))
    x = torch.randn(5, 4)
    found = Traced(module)(x)
    y = network.dense(x)
    torch.testing.assert_close(list(found.outputs), [y.softmax(1), y.sigmoid(), y.log_softmax(1), y.tanh()])
    torch.testing.assert_close(list(found.logits), [y, y, y, y.tanh()])
    kinds = ("classes", "probabilities", "classes")
    assert kinds_of(module, are_classes=False) == (*kinds, "values")
    assert kinds_of(module, are_classes=True) == (*kinds, "classes")


def test_values_of_layers_and_inputs(original, batch):
    traced = Traced(original, ["relu1", "block_a.cat"])
    found = traced(*batch.inputs)
    (x,) = batch.inputs
    assert found.layers.keys() == {"relu1", "block_a.cat"}
    assert found.layers["relu1"].shape == (12, 6, 16, 16)
    torch.testing.assert_close(traced.value([x], "relu1"), found.layers["relu1"])
    name = next(iter(original["main"].params)).name
    assert traced.value([x], name) is x


def test_a_network_that_is_a_softmax():
    module = module_of(nn.Softmax(1), torch.randn(1, 4))
    x = torch.randn(3, 4)
    (logits,) = Traced(module)(x).logits
    torch.testing.assert_close(logits, x)


def test_gradients_reach_every_layer(original, batch):
    traced = Traced(original)
    traced(*batch.inputs).logits[0].square().sum().backward()
    assert all(each.grad.abs().sum() > 0 for each in traced.twin.parameters())


def test_written_back_it_is_trained(original):
    module = original.with_attr(REBORN, ["conv1"])
    written = Traced(module).write_back()
    assert reborn_layers(written) == []
    x = np.random.default_rng(0).normal(size=(1, 1, 16, 16)).astype("float32")
    np.testing.assert_allclose(evaluate(written, [x])[0], evaluate(module, [x])[0], rtol=1e-4, atol=1e-5)


def test_where_numbers_stop_being_finite(original, batch):
    traced = Traced(original)
    assert traced.first_not_finite(batch.inputs) is None
    assert traced.last_gradient_not_finite() is None
    weight = traced.twin.get_parameter(traced.twin.layers["block_b.conv1x1"][0])
    traced(*batch.inputs).logits[0].sum().backward()
    weight.grad[0] = torch.nan
    assert traced.last_gradient_not_finite() == "layer block_b.conv1x1"
    with torch.no_grad():
        weight[0] = torch.inf
    assert traced.first_not_finite(batch.inputs) == "the weights of layer block_b.conv1x1 are not finite"
    with torch.no_grad():
        weight.fill_(3e38)
    assert traced.first_not_finite(batch.inputs) == "it begins in layer block_b.conv1x1"
