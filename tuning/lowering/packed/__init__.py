"""Layers on packed tensors: (batch, blocks, height, width, block), the channels of a block in a vector."""
