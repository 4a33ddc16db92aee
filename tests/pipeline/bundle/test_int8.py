"""Weights stored as int8 numbers and scales come back bit for bit, whatever compiling made of their axes."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.bundle import (
    Bundle,
    BundleNotVerified,
    pack,
    read_bundle,
    unpack,
    verify_bundle,
    verify_bundle_elsewhere,
)
from pipeline.bundle.int8 import factors
from relay_passes.round_weights import rounded

TYPES = ["float32", "float16"]


def loader() -> Callable[[dict[str, np.ndarray]], list[np.ndarray]]:
    """What the bundle's own example does, which imports nothing of ours."""
    path = Path(importlib.util.find_spec("pipeline.bundle").origin).with_name("load_and_run.py")
    spec = importlib.util.spec_from_file_location("load_and_run", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.multiplied


def same(first: np.ndarray, second: np.ndarray) -> bool:
    return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()


def weights_of(dtype: str, channels: int = 16, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    size = np.exp(generator.normal(0, 2, (channels, 1, 1, 1)))
    return rounded((generator.standard_normal((channels, 8, 3, 3)) * size).astype(dtype), 0)


@settings(deadline=None)
@given(
    blocks=st.tuples(st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4])),
    order=st.permutations(range(6)),
    axis=st.sampled_from([0, 1]),
    dtype=st.sampled_from(TYPES),
    size=st.floats(-8, 3),
    seed=st.integers(0, 2**16),
)
def test_split_and_reordered_axes(blocks, order, axis, dtype, size, seed) -> None:
    generator = np.random.default_rng(seed)
    weight = (generator.standard_normal((16, 8, 3, 3)) * 2.0**size).astype(dtype)
    first, second = blocks
    packed = rounded(weight, axis).reshape(16 // first, first, 8 // second, second, 3, 3).transpose(order)
    found = factors(packed)
    assert found is not None
    numbers, scales = found
    assert (numbers.dtype, numbers.shape, scales.dtype) == ("int8", packed.shape, "float32")
    assert scales.size <= (16, 8)[axis]
    stored = pack({"w": packed})
    assert same(unpack(stored)["w"], packed)
    assert same(*loader()(stored), packed)


@settings(deadline=None)
@given(
    shape=st.lists(st.integers(0, 6), max_size=4),
    dtype=st.sampled_from([*TYPES, "float64", "int32", "int8"]),
    seed=st.integers(0, 2**16),
)
def test_anything_else_comes_back_too(shape, dtype, seed) -> None:
    generator = np.random.default_rng(seed)
    factor = generator.choice([1, 0.1, 1e-7, 1e-40] if "float" in dtype else [1, 7])
    weight = (generator.integers(-3, 4, shape) * factor).astype(dtype)
    with_others = {"b": weight, "a": np.ones(3, "float32")}
    stored = pack(with_others)
    assert sum(each.nbytes for each in stored.values()) <= sum(each.nbytes for each in with_others.values())
    back = unpack(stored)
    assert list(back) == ["a", "b"]
    assert same(back["b"], weight)
    assert same(loader()(stored)[1], weight)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("change", ["one", "all", "zero", "nan"])
def test_weights_that_are_no_products_are_stored_as_they_are(dtype: str, change: str) -> None:
    weight = weights_of(dtype)
    if change == "one":
        weight[3, 2, 1, 0] = np.nextafter(weight[3, 2, 1, 0], weight.dtype.type(np.inf))
    if change == "all":
        weight = np.random.default_rng(1).standard_normal(weight.shape).astype(dtype)
    if change == "zero":
        weight[np.unravel_index(np.abs(weight).argmin(), weight.shape)] = -0.0
    if change == "nan":
        weight[3, 2, 1, 0] = np.nan
    assert list(pack({"w": weight})) == ["w"]


def test_a_quarter_of_the_size_and_half_of_it() -> None:
    for dtype, most in (("float32", 0.27), ("float16", 0.53)):
        weight = weights_of(dtype)
        assert sum(each.nbytes for each in pack({"w": weight}).values()) <= most * weight.nbytes


def run_here(library: Path, weights: Path, inputs: list[np.ndarray]) -> list[np.ndarray]:
    machine = tvm.relax.VirtualMachine(tvm.runtime.load_module(str(library)), tvm.cpu())
    arrays = tvm.runtime.load_param_dict(weights.read_bytes())
    arguments = [*map(tvm.runtime.tensor, inputs), *(arrays[name] for name in sorted(arrays))]
    return [each.numpy() for each in machine["main"](*arguments)]


@pytest.fixture
def int8_facts(arrays: dict, library: Path, save_weights: Callable[..., Path], tmp_path: Path) -> dict:
    """What to write a bundle of rounded weights from; its golden outputs are computed without packing."""
    kernel, bias = arrays["weights"].items()
    weights = {kernel[0]: rounded(kernel[1], 0), bias[0]: bias[1]}
    path = save_weights(weights)
    outputs = run_here(library, path, list(arrays["golden_inputs"].values()))
    golden = dict(zip(arrays["golden_outputs"], outputs, strict=True))
    return {"weights": path, "stored": pack(weights), "golden_outputs": golden, "tolerance": 1e-30}


def test_a_bundle_computes_the_very_same(
    write: Callable[..., Bundle], int8_facts: dict, tmp_path: Path
) -> None:
    bundle = write(tmp_path / "bundle", **int8_facts)
    assert bundle.manifest.int8_weights == ("weight_00000",)
    assert [each.shape for each in bundle.manifest.weights] == [(4, 3, 3, 3), (1, 4, 1, 1)]
    assert verify_bundle(bundle.directory) == 0
    assert verify_bundle_elsewhere(bundle.directory, run_here) == 0
    weights = unpack({name: each.numpy() for name, each in _loaded(int8_facts["weights"]).items()})
    for name, array in read_bundle(bundle.directory).weights().items():
        assert same(array, weights[name])
    text = (bundle.directory / "README.txt").read_text("utf-8")
    assert "1 of them are stored as int8" in text


def test_other_numbers_do_not_verify(write: Callable[..., Bundle], int8_facts: dict, tmp_path: Path) -> None:
    int8_facts["stored"]["weight_00000.scales"] *= np.float32(1.01)
    bundle = write(tmp_path / "bundle", **int8_facts)
    with pytest.raises(BundleNotVerified):
        verify_bundle(bundle.directory)
    with pytest.raises(BundleNotVerified):
        verify_bundle_elsewhere(bundle.directory, run_here)


def _loaded(path: Path) -> dict[str, tvm.runtime.Tensor]:
    return {str(name): each for name, each in tvm.runtime.load_param_dict(path.read_bytes()).items()}
