"""Small networks for Fashion-MNIST with the topologies that the DeepRebirth paper merges.

GoogLeNet, AlexNet and ResNet layer by layer, with fewer channels and a smaller input (1x64x64), so that two
cores train them in minutes. Layers are called as in the papers: `inception_3a.pool_proj`, `conv1`, `res2a`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

SIZE = 64
"""Height and width of the input."""
CLASSES = 10
DROPOUT = 0.4
THINNER = 4
"""How many times fewer channels than GoogLeNet's own."""

INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""GoogLeNet's channels: 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5, pool_proj."""
POOL_AFTER = {"3b": "pool3", "4e": "pool4"}


class Inception(nn.Module):
    """Four branches side by side, joined by their channels."""

    def __init__(self, inputs: int, channels: tuple[int, ...]):
        super().__init__()
        alone, reduce3, out3, reduce5, out5, out_pool = channels
        self.conv1x1 = nn.Conv2d(inputs, alone, 1)
        self.conv3x3_reduce = nn.Conv2d(inputs, reduce3, 1)
        self.conv3x3 = nn.Conv2d(reduce3, out3, 3, padding=1)
        self.conv5x5_reduce = nn.Conv2d(inputs, reduce5, 1)
        self.conv5x5 = nn.Conv2d(reduce5, out5, 5, padding=2)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.pool_proj = nn.Conv2d(inputs, out_pool, 1)
        self.outputs = alone + out3 + out5 + out_pool

    def forward(self, x: Tensor) -> Tensor:
        """The branches' outputs in the paper's order."""
        reduced3, reduced5 = self.conv3x3_reduce(x).relu(), self.conv5x5_reduce(x).relu()
        branches = (self.conv1x1(x), self.conv3x3(reduced3), self.conv5x5(reduced5))
        return torch.cat([*(branch.relu() for branch in branches), self.pool_proj(self.pool(x)).relu()], 1)


class Residual(nn.Module):
    """ResNet's bottleneck: 1x1, 3x3, 1x1, each with a batch norm, beside a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        outputs = 4 * width
        self.branch2a = _conv_bn(inputs, width, 1)
        self.branch2b = _conv_bn(width, width, 3, stride)
        self.branch2c = _conv_bn(width, outputs, 1)
        same = stride == 1 and inputs == outputs
        self.branch1 = nn.Identity() if same else _conv_bn(inputs, outputs, 1, stride)
        self.outputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both, with a ReLU."""
        inner = self.branch2b(self.branch2a(x).relu()).relu()
        return (self.branch2c(inner) + self.branch1(x)).relu()


def googlenet() -> nn.Module:
    """GoogLeNet: the stem with its two LRNs, nine Inception blocks, four pools; 0.38 M parameters."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv1"], layers["relu1"] = nn.Conv2d(1, 64 // THINNER, 7, stride=2, padding=3), nn.ReLU()
    layers["pool1"], layers["norm1"] = _pool(), nn.LocalResponseNorm(5)
    layers["conv2_reduce"], layers["relu2_reduce"] = nn.Conv2d(64 // THINNER, 64 // THINNER, 1), nn.ReLU()
    layers["conv2"] = nn.Conv2d(64 // THINNER, 192 // THINNER, 3, padding=1)
    layers["relu2"], layers["norm2"], layers["pool2"] = nn.ReLU(), nn.LocalResponseNorm(5), _pool()
    channels = 192 // THINNER
    for name, full in INCEPTION.items():
        block = Inception(channels, tuple(number // THINNER for number in full))
        layers[f"inception_{name}"], channels = block, block.outputs
        if name in POOL_AFTER:
            layers[POOL_AFTER[name]] = _pool()
    return nn.Sequential(layers | _classifier(channels))


def alexnet() -> nn.Module:
    """AlexNet: five convolutions, the first two with LRN and pool; 0.15 M parameters."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv1"], layers["relu1"] = nn.Conv2d(1, 24, 7, stride=2, padding=3), nn.ReLU()
    layers["norm1"], layers["pool1"] = nn.LocalResponseNorm(5), _pool()
    layers["conv2"], layers["relu2"] = nn.Conv2d(24, 64, 5, padding=2, groups=2), nn.ReLU()
    layers["norm2"], layers["pool2"] = nn.LocalResponseNorm(5), _pool()
    layers["conv3"], layers["relu3"] = nn.Conv2d(64, 96, 3, padding=1), nn.ReLU()
    layers["conv4"], layers["relu4"] = nn.Conv2d(96, 96, 3, padding=1, groups=2), nn.ReLU()
    layers["conv5"], layers["relu5"] = nn.Conv2d(96, 64, 3, padding=1, groups=2), nn.ReLU()
    layers["pool5"] = _pool()
    return nn.Sequential(layers | _classifier(64))


def resnet() -> nn.Module:
    """ResNet with bottlenecks: a stem with a pool, four stages of two blocks; 0.34 M parameters."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv1"], layers["relu1"], layers["pool1"] = _conv_bn(1, 16, 7, 2), nn.ReLU(), _pool()
    channels = 16
    for stage, width in enumerate((16, 32, 48, 64), start=2):
        for place in "ab":
            block = Residual(channels, width, stride=2 if place == "a" and stage > 2 else 1)
            layers[f"res{stage}{place}"], channels = block, block.outputs
    return nn.Sequential(layers | _classifier(channels))


NETWORKS: dict[str, Callable[[], nn.Module]] = {"googlenet": googlenet, "alexnet": alexnet, "resnet": resnet}


def _classifier(channels: int) -> OrderedDict[str, nn.Module]:
    layers = {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "drop": nn.Dropout(DROPOUT)}
    return OrderedDict(layers | {"classifier": nn.Linear(channels, CLASSES)})


def _pool() -> nn.Module:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


def _conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(OrderedDict(conv=convolution, bn=nn.BatchNorm2d(outputs)))
