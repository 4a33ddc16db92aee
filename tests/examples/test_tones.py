"""Tones as CREPE takes them, and what its trained network makes of them."""

import numpy as np
import pytest
import tones
import torch
from crepe import PITCHES, trained_crepe


def test_the_trained_network_hears_nearly_all_of_them():
    try:
        network = trained_crepe()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    frames, labels = tones.tones(500, seed=7).tensors
    with torch.inference_mode():
        assert tones.accuracy(network(frames), labels).mean() > 97


def test_parts_are_the_same_in_every_call_and_differ():
    parts = [make() for make in (tones.train, tones.held_out, tones.unseen)]
    assert [len(part) for part in parts] == [8000, 2000, 2000]
    again = tones.held_out()
    assert all(torch.equal(a, b) for a, b in zip(parts[1].tensors, again.tensors, strict=True))
    first = {tuple(part[0][0].tolist()) for part in parts}
    assert len(first) == 3
    frame, label = parts[0][5]
    assert frame.shape == (1024,)
    assert frame.dtype == torch.float32
    assert label.dtype == torch.int64
    assert frame.mean().abs() < 1e-5
    assert frame.std() == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize(("pitch", "hertz"), [(0, 31.70), (228, 440.0), (359, 2005.5)])
def test_pitches_are_those_of_crepe(pitch, hertz):
    assert tones.hertz_of(pitch) == pytest.approx(hertz, rel=0.012)
    assert tones.pitch_of(tones.hertz_of(pitch)) == pytest.approx(pitch)


def test_the_strongest_frequency_of_a_tone_is_its_pitch_or_a_harmonic():
    for hertz in (100.0, 440.0, 900.0):
        frame = tones.frame(hertz, np.random.default_rng(0))
        strongest = np.abs(np.fft.rfft(frame * np.hanning(len(frame)))).argmax() * 16000 / 1024
        harmonic = max(1, round(strongest / hertz))
        assert strongest == pytest.approx(harmonic * hertz, abs=16)


def test_accuracy_allows_50_cents():
    labels = torch.tensor([100, 100, 100, 0, PITCHES - 1])
    found = torch.tensor([102, 103, 98, 0, PITCHES - 1])
    probabilities = torch.nn.functional.one_hot(found, PITCHES).float()
    assert tones.accuracy(probabilities, labels).tolist() == [100, 0, 100, 100, 100]


def test_the_estimate_lies_between_likely_pitches():
    probabilities = torch.zeros(1, PITCHES)
    probabilities[0, [50, 51, 200]] = torch.tensor([0.6, 0.4, 0.5])
    assert tones.estimated(probabilities).item() == pytest.approx(50.4)
