"""The three networks of the face detector MTCNN, with facenet-pytorch's names for their weights.

Each is a chain of convolution, PReLU and max-pool with ceil, then several heads: whether there is a face, its
box, and in the last network five landmarks. They are written out here since facenet-pytorch's own modules
cannot be imported without torchvision.
"""

from collections import OrderedDict

import torch
from torch import nn

Layers = dict[str, nn.Module]


class ColumnsFirst(nn.Module):
    """Flatten NxCxHxW in the order W, H, C."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Nx(W*H*C)."""
        return x.permute(0, 3, 2, 1).flatten(1)


class FaceNetwork(nn.Module):
    """A chain of layers, then heads that all read its end; a softmax follows the first one.

    Parameters
    ----------
    chain, heads : dict of str to torch.nn.Module
        By the names of their weights, in order.
    """

    def __init__(self, chain: Layers, heads: Layers):
        super().__init__()
        self._chain, self._heads = tuple(chain), tuple(heads)
        for name, layer in OrderedDict({**chain, **heads}).items():
            self.add_module(name, layer)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The further heads, then the probabilities of no face and a face."""
        for name in self._chain:
            image = self.get_submodule(name)(image)
        face, *others = (self.get_submodule(name)(image) for name in self._heads)
        return *others, face.softmax(1)


def _pool(size: int) -> nn.MaxPool2d:
    return nn.MaxPool2d(size, 2, ceil_mode=True)


def pnet() -> FaceNetwork:
    """Proposals: fully convolutional, images of any size."""
    chain = {
        **{"conv1": nn.Conv2d(3, 10, 3), "prelu1": nn.PReLU(10), "pool1": _pool(2)},
        **{"conv2": nn.Conv2d(10, 16, 3), "prelu2": nn.PReLU(16)},
        **{"conv3": nn.Conv2d(16, 32, 3), "prelu3": nn.PReLU(32)},
    }
    return FaceNetwork(chain, {"conv4_1": nn.Conv2d(32, 2, 1), "conv4_2": nn.Conv2d(32, 4, 1)})


def rnet() -> FaceNetwork:
    """Refinement of proposals, 3x24x24."""
    chain = {
        **{"conv1": nn.Conv2d(3, 28, 3), "prelu1": nn.PReLU(28), "pool1": _pool(3)},
        **{"conv2": nn.Conv2d(28, 48, 3), "prelu2": nn.PReLU(48), "pool2": _pool(3)},
        **{"conv3": nn.Conv2d(48, 64, 2), "prelu3": nn.PReLU(64), "flatten": ColumnsFirst()},
        **{"dense4": nn.Linear(576, 128), "prelu4": nn.PReLU(128)},
    }
    return FaceNetwork(chain, {"dense5_1": nn.Linear(128, 2), "dense5_2": nn.Linear(128, 4)})


def onet() -> FaceNetwork:
    """The last word, and landmarks, 3x48x48."""
    chain = {
        **{"conv1": nn.Conv2d(3, 32, 3), "prelu1": nn.PReLU(32), "pool1": _pool(3)},
        **{"conv2": nn.Conv2d(32, 64, 3), "prelu2": nn.PReLU(64), "pool2": _pool(3)},
        **{"conv3": nn.Conv2d(64, 64, 3), "prelu3": nn.PReLU(64), "pool3": _pool(2)},
        **{"conv4": nn.Conv2d(64, 128, 2), "prelu4": nn.PReLU(128), "flatten": ColumnsFirst()},
        **{"dense5": nn.Linear(1152, 256), "prelu5": nn.PReLU(256)},
    }
    heads = {"dense6_1": nn.Linear(256, 2), "dense6_2": nn.Linear(256, 4), "dense6_3": nn.Linear(256, 10)}
    return FaceNetwork(chain, heads)
