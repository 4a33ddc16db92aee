import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.data import open_data
from pipeline.data.idx import read_idx, read_idx_file
from pipeline.errors import UserError

FASHION = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("zipped", [False, True])
def test_every_type_comes_back(tmp_path, write_idx, dtype, zipped):
    array = (np.random.default_rng(0).normal(size=(3, 4, 5)) * 50).astype(dtype)
    path = write_idx(tmp_path / "any name", array, zipped=zipped)
    found = read_idx(str(path))
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


def test_a_directory_serves_both_parts(mnist, network):
    data = open_data(mnist, None, network((1, 1, 8, 8)))
    assert (len(data.training), len(data.validation)) == (12, 5)
    assert data.training.labelled
    assert data.validation.fetch(range(5), None).labels.tolist() == [0, 1, 2, 0, 1]
    pixels = read_idx(str(mnist / "t10k-images-idx3-ubyte"))
    assert np.array_equal(
        data.validation.fetch([3], None).inputs[0][0, 0].numpy(), pixels[3] * np.float32(1 / 255)
    )


def test_the_labels_beside_a_file_are_found_zipped_or_not(mnist):
    assert read_idx_file(str(mnist / "train-images-idx3-ubyte.gz")).labels.tolist()[:4] == [0, 1, 2, 0]
    unzipped = gzip.decompress((mnist / "train-labels-idx1-ubyte.gz").read_bytes())
    (mnist / "train-labels-idx1-ubyte").write_bytes(unzipped)
    (mnist / "train-labels-idx1-ubyte.gz").unlink()
    assert read_idx_file(str(mnist / "train-images-idx3-ubyte.gz")).labels is not None


def test_without_labels_the_samples_are_unlabelled(mnist, network):
    (mnist / "train-labels-idx1-ubyte.gz").unlink()
    data = open_data(mnist, None, network((1, 1, 8, 8)))
    assert not data.training.labelled
    assert data.training.fetch([0], None).labels is None


def test_one_part_alone_needs_validation(mnist, network):
    (mnist / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(UserError, match="no validation data of its own: give some with --validation"):
        open_data(mnist, None, network((1, 1, 8, 8)))
    with pytest.raises(UserError, match="there is no t10k-images-idx3-ubyte"):
        open_data(mnist / "train-images-idx3-ubyte.gz", mnist, network((1, 1, 8, 8)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "begins with nothing"),
        (b"\0\0\x08", "begins with 000008"),
        (b"\1\0\x08\1\0\0\0\1\0", "is not an IDX file"),
        (b"\0\0\x07\1\0\0\0\1\0", "is not an IDX file"),
        (b"\0\0\x08\0\0", "is not an IDX file"),
        (b"\0\0\x08\xff" + bytes(2000), "is not an IDX file"),
        (b"\0\0\x08\3\0\0\0\1\0", "ends within its header"),
        (b"\0\0\x08\1\0\0\0\5\1\2", "in 5 bytes, and holds 2 bytes"),
        (b"\0\0\x08\1\0\0\0\1\1\2", "in 1 bytes, and holds 2 bytes"),
        (b"\0\0\x08\3" + b"\xff" * 12 + b"\1", "and holds 1 bytes"),
        (gzip.compress(b"\0\0\x08\1\0\0\0\1\1", mtime=0)[:-6], "is damaged"),
        (b"\x1f\x8bnonsense", "is damaged"),
    ],
)
def test_damage_is_told_in_one_line(tmp_path, data, reason):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(UserError, match=reason):
        read_idx(str(path))


def test_labels_given_as_images(mnist):
    with pytest.raises(UserError, match="has 1 axes, and images have 3: give the file of the images"):
        read_idx_file(str(mnist / "t10k-labels-idx1-ubyte"))


@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_fashion_mnist(network):
    data = open_data(FASHION, None, network((1, 1, 32, 32), outputs=(1, 10)))
    assert (len(data.training), len(data.validation), data.training.classes) == (60_000, 10_000, 10)
    labels = torch.cat(
        [data.validation.fetch(range(at, at + 2000), None).labels for at in range(0, 10_000, 2000)]
    )
    assert labels.bincount().tolist() == [1000] * 10
    assert data.training.fetch(range(64), None).inputs[0].shape == (64, 1, 32, 32)
    assert data.preprocessing.size == (32, 32)
