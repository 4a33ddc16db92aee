"""Tones to retrain the pitch tracker of `crepe.py` on.

    deeprebirth retrain crepe.pt2 --data tones:train --validation tones:held_out --metric tones:accuracy

in this directory. A sample is one frame of a tone as CREPE takes it (Kim, Salamon, Li and Bello, CREPE: A
convolutional representation for pitch estimation, 2018): 1024 samples at 16 kHz, of mean 0 and deviation 1.
Its label is one of 360 pitches, of which number b is

    10 * 2 ** ((1997.379 + 20 b) / 1200) hertz

A tone has up to eight harmonics of random strengths and phases, and some noise.
"""

from __future__ import annotations

import numpy as np
import torch
from crepe import FRAME, PITCHES, SAMPLE_RATE
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

CENTS_BETWEEN, LOWEST = 20, 1997.3794084376191
"""Cents above 10 Hz of the first pitch, and between two."""
RANGE = (60.0, 1000.0)
"""Hertz."""
HARMONICS = 8
NOISE = (0.001, 0.1)
"""Deviation, as a part of the tone's."""
NEAR = 4
"""Pitches on each side of the most likely one that the estimate is a mean of."""
CLOSE_ENOUGH = 50
"""Cents."""


def train() -> Dataset:
    """8,000 tones to learn from."""
    return tones(8000, seed=0)


def held_out() -> Dataset:
    """2,000 others that decide how good a network is."""
    return tones(2000, seed=1)


def unseen() -> Dataset:
    """2,000 others that decide nothing."""
    return tones(2000, seed=2)


def accuracy(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return 100 where the estimated pitch is within 50 cents of the true one, and 0 elsewhere.

    Parameters
    ----------
    probabilities : torch.Tensor
        (B, 360).
    labels : torch.Tensor
        (B,), pitches' numbers.
    """
    return 100.0 * ((estimated(probabilities) - labels).abs() * CENTS_BETWEEN <= CLOSE_ENOUGH)


def estimated(probabilities: Tensor) -> Tensor:
    """Return pitches, (B,): the mean around the most likely one, weighted by probability, as CREPE does."""
    number = torch.arange(PITCHES, device=probabilities.device)
    distance = (number - probabilities.argmax(1, keepdim=True)).abs()
    weights = torch.where(distance <= NEAR, probabilities, 0)
    return (weights * number).sum(1) / weights.sum(1)


def tones(count: int, seed: int) -> TensorDataset:
    """Make frames, (count, 1024), and their labels; the same seed makes the same."""
    random = np.random.default_rng(seed)
    first, last = (np.ceil(pitch_of(hertz)).astype(int) for hertz in RANGE)
    labels = random.integers(first, last, count)
    frames = np.stack([frame(hertz_of(label), random) for label in labels])
    return TensorDataset(torch.from_numpy(frames), torch.from_numpy(labels))


def frame(hertz: float, random: np.random.Generator) -> np.ndarray:
    """Make one frame of a tone, float32 (1024,), of mean 0 and deviation 1."""
    harmonics = np.arange(1, min(HARMONICS, SAMPLE_RATE / 2 // hertz) + 1)[:, None]
    strengths = random.uniform(0.2, 1.0, harmonics.shape) / harmonics
    phases = random.uniform(0, 2 * np.pi, harmonics.shape)
    time = np.arange(FRAME) / SAMPLE_RATE
    audio = (strengths * np.sin(2 * np.pi * hertz * harmonics * time + phases)).sum(0)
    audio += np.exp(random.uniform(*np.log(NOISE))) * audio.std() * random.standard_normal(FRAME)
    return ((audio - audio.mean()) / audio.std()).astype(np.float32)


def hertz_of(pitch: float) -> float:
    """Return the frequency of a pitch's number."""
    return 10 * 2 ** ((LOWEST + CENTS_BETWEEN * pitch) / 1200)


def pitch_of(hertz: float) -> float:
    """Return the number, with a fraction, of a frequency's pitch."""
    return (1200 * np.log2(hertz / 10) - LOWEST) / CENTS_BETWEEN
