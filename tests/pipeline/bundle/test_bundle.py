import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.bundle import Bundle, MeasuredAccuracy, read_bundle
from pipeline.data import Preprocessing
from pipeline.data.preprocessing import IMAGENET_MEAN
from pipeline.errors import UserError
from pipeline.report.model import FOR_TIMING_ONLY, Samples, Verification

FILES = [
    "CMakeLists.txt",
    "README.txt",
    "golden.npz",
    "golden.params",
    "library.so",
    "load_and_run.py",
    "manifest.h",
    "manifest.json",
    "run.cpp",
    "weights.params",
]
LISTED = [name for name in FILES if name != "manifest.json"]


@pytest.fixture
def bundle(write: Callable[..., Bundle], tmp_path: Path) -> Bundle:
    return write(tmp_path / "bundle")


def change_manifest(bundle: Bundle, **changes: object):
    path = bundle.directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_reads_back_what_was_written(bundle: Bundle, arrays: dict):
    assert sorted(each.name for each in bundle.directory.iterdir()) == FILES
    again = read_bundle(bundle.directory)
    assert again.manifest == bundle.manifest
    assert list(again.weights()) == ["weight_00000", "weight_00001"]
    for kind in ("weights", "golden_inputs", "golden_outputs"):
        read = getattr(again, kind)()
        assert list(read) == list(arrays[kind])
        for name, array in arrays[kind].items():
            np.testing.assert_array_equal(read[name], array)


def test_manifest_describes_the_call(bundle: Bundle):
    manifest = bundle.manifest
    assert [(each.name, each.shape, each.dtype) for each in manifest.inputs] == [
        ("data", (1, 3, 8, 8), "float32")
    ]
    assert [each.name for each in manifest.outputs] == ["relu", "conv"]
    assert manifest.weights[0].shape == (4, 3, 3, 3)
    assert manifest.preprocessing is None
    assert manifest.accuracy is None
    assert sorted([*manifest.files, "manifest.json"]) == FILES


def test_notice_is_in_manifest_and_readme(write: Callable[..., Bundle], tmp_path: Path):
    bundle = write(tmp_path / "bundle", structure_only=True, notices=[FOR_TIMING_ONLY])
    assert bundle.manifest.structure_only
    assert f"NOTICE: {FOR_TIMING_ONLY}" in (bundle.directory / "README.txt").read_text(encoding="utf-8")


def test_preprocessing_and_accuracy_are_in_manifest_and_readme(write: Callable[..., Bundle], tmp_path: Path):
    preprocessing = Preprocessing(resize=9, size=(8, 6), channels="BGR", mean=IMAGENET_MEAN, std=(0.5,))
    accuracy = MeasuredAccuracy(metric="top-1", value=90.994, data=Samples(name="digits\n", samples=1000))
    written = write(tmp_path / "bundle", preprocessing=preprocessing, accuracy=accuracy)
    manifest = read_bundle(written.directory).manifest
    assert (manifest.preprocessing, manifest.accuracy) == (preprocessing, accuracy)
    text = (written.directory / "README.txt").read_text(encoding="utf-8")
    for said in (
        "1. Resize its shorter side to 9 pixels, bilinear, then crop the middle: 8 rows of 6 pixels.",
        "2. Order the channels: blue, green, red",
        "3. value = (pixel * 0.00392156863 - mean) / std, with mean 0.485, 0.456, 0.406 and std 0.5.",
        "Accuracy before compiling: top-1 90.99 on 1,000 validation samples of digits .",
    ):
        assert said in text


def test_what_is_not_known_of_inputs_is_said_so(bundle: Bundle):
    assert "prepare them as in its training" in (bundle.directory / "README.txt").read_text(encoding="utf-8")


def test_resizing_without_cropping(write: Callable[..., Bundle], tmp_path: Path):
    written = write(tmp_path / "bundle", preprocessing=Preprocessing(size=(8, 6), channels="L"))
    text = (written.directory / "README.txt").read_text(encoding="utf-8")
    assert "1. Resize it to 8 rows of 6 pixels, bilinear." in text
    assert "grey" in text


def test_structure_only_needs_the_notice(write: Callable[..., Bundle], tmp_path: Path):
    with pytest.raises(ValidationError, match=FOR_TIMING_ONLY):
        write(tmp_path / "bundle", structure_only=True)
    assert not (tmp_path / "bundle" / "manifest.json").exists()


def test_a_failed_verification_is_not_handed_over(write: Callable[..., Bundle], tmp_path: Path):
    failed = Verification(what="tuned", against="untuned", max_abs_diff=1.0, tolerance=1e-4, passed=False)
    with pytest.raises(ValidationError, match="verification failed"):
        write(tmp_path / "bundle", verification=[failed])


def test_hostile_names_stay_on_their_line(write: Callable[..., Bundle], arrays: dict, tmp_path: Path):
    inputs = {"x\nNOTICE: all is well\x1b[31m": arrays["golden_inputs"]["data"]}
    bundle = write(tmp_path / "bundle", name="a\nb", golden_inputs=inputs)
    lines = (bundle.directory / "README.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("a b, compiled by deeprebirth")
    assert not any(line.startswith("NOTICE") for line in lines)
    assert list(read_bundle(bundle.directory).golden_inputs()) == list(inputs)


@pytest.mark.parametrize("name", LISTED)
def test_damaged_file(bundle: Bundle, name: str):
    data = bytearray((bundle.directory / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle.directory / name).write_bytes(data)
    with pytest.raises(UserError, match=f"{name} in the bundle .* is not the file that was written"):
        read_bundle(bundle.directory)


def test_cut_file(bundle: Bundle):
    data = bundle.library.read_bytes()
    bundle.library.write_bytes(data[:-100])
    with pytest.raises(UserError, match=r"library\.so in the bundle"):
        read_bundle(bundle.directory)


@pytest.mark.parametrize("name", ["library.so", "weights.params"])
def test_missing_file(bundle: Bundle, name: str):
    (bundle.directory / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing from the bundle"):
        read_bundle(bundle.directory)


def test_not_a_bundle(tmp_path: Path):
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match="is not a bundle"):
            read_bundle(place)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"schema_version": 1}', "\xff"])
def test_damaged_manifest(bundle: Bundle, text: str):
    (bundle.directory / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match="is damaged") as error:
        read_bundle(bundle.directory)
    assert "\n" not in str(error.value)


def test_manifest_of_a_newer_version(bundle: Bundle):
    change_manifest(bundle, schema_version=2, surprise=1)
    with pytest.raises(UserError, match="newer deeprebirth"):
        read_bundle(bundle.directory)


def test_manifest_that_names_files_elsewhere(bundle: Bundle):
    files = json.loads((bundle.directory / "manifest.json").read_text())["files"]
    change_manifest(bundle, files=files | {"../../etc/passwd": files["library.so"]})
    with pytest.raises(UserError, match="is damaged"):
        read_bundle(bundle.directory)


def test_manifest_without_the_library(bundle: Bundle):
    files = json.loads((bundle.directory / "manifest.json").read_text())["files"]
    del files["library.so"]
    change_manifest(bundle, files=files)
    with pytest.raises(UserError, match=r"does not name library\.so"):
        read_bundle(bundle.directory)
