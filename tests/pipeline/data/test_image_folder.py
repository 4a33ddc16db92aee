import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.data import open_data
from pipeline.data.image_folder import read_class_names, read_folder
from pipeline.data.needs import Needs
from pipeline.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from pipeline.errors import UserError


@pytest.fixture
def opened(folder, draw, tmp_path, network):
    for name in ("cat", "dog", "fish"):
        draw(tmp_path / "held out" / name / "0.png", number=100)
    return open_data(folder, tmp_path / "held out", network())


def test_sorted_folders_are_the_classes(opened):
    source = opened.training
    assert (len(source), source.classes, source.labelled) == (9, 3, True)
    assert source.fetch(range(9), None).labels.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2]


def test_images_are_preprocessed_as_imagenets(opened, folder):
    batch = opened.training.fetch([4, 0], None)
    assert batch.labels.tolist() == [1, 0]
    for at, file in enumerate(("dog/1.png", "cat/0.png")):
        image = Image.open(folder / file)
        whole = image.resize((21, 18), Image.BILINEAR)
        left, top = round((21 - 16) / 2), round((18 - 16) / 2)
        pixels = np.asarray(whole.crop((left, top, left + 16, top + 16))) / 255
        theirs = ((pixels - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1)
        assert np.abs(batch.inputs[0][at].numpy() - theirs).max() < 1e-5
    assert opened.preprocessing.resize == 18


def test_suffixes_in_any_case_and_nested_folders_count_and_hidden_files_do_not(tmp_path, draw):
    names = ["a.jpg", "b.JPEG", "c.png", "d.Bmp", "e.webp", "f.ppm", "deep/er/g.png"]
    for name in names:
        draw(tmp_path / "zoo" / "bär" / name)
    for name in ("._a.jpg", "notes.txt", ".thumbs/h.png"):
        (tmp_path / "zoo" / "bär" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "zoo" / "bär" / name).write_bytes(b"no image")
    (tmp_path / "zoo" / ".git").mkdir()
    found = read_folder(str(tmp_path / "zoo"))
    assert found.class_names == ("bär",)
    assert [os.path.relpath(file, "bär") for file in found.files] == sorted(names)


def test_links_lead_to_classes_and_a_circle_ends(tmp_path, draw):
    draw(tmp_path / "store" / "x" / "0.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").symlink_to(tmp_path / "store" / "x")
    (tmp_path / "store" / "x" / "circle").symlink_to(tmp_path / "store")
    assert read_folder(str(tmp_path / "data")).files == ["x/0.png"]


def test_images_without_folders_have_no_labels(tmp_path, draw, network):
    draw(tmp_path / "loose" / "b.png", 1)
    draw(tmp_path / "loose" / "a.png", 0)
    draw(tmp_path / "held" / "c.png", 2)
    data = open_data(tmp_path / "loose", tmp_path / "held", network())
    assert (data.training.classes, data.training.labelled) == (None, False)
    assert data.training.fetch([0, 1], None).labels is None


def test_a_directory_with_both_parts_serves_both(tmp_path, draw, network):
    for at, file in enumerate(
        ("train/a/0.png", "train/b/0.png", "train/c/0.png", "val/b/0.png", "test/a/0.png")
    ):
        draw(tmp_path / "set" / file, at)
    data = open_data(tmp_path / "set", None, network())
    assert data.training.name.endswith("train")
    assert data.validation.name.endswith("val")
    assert data.validation.fetch([0], None).labels.tolist() == [1]
    assert data.validation.classes == 3


def test_a_class_may_be_called_train(tmp_path, draw, network):
    for part in ("mine", "held out"):
        for name in ("bus", "car", "train"):
            draw(tmp_path / part / name / "0.png")
    data = open_data(tmp_path / "mine", tmp_path / "held out", network())
    assert (len(data.training), data.training.classes) == (3, 3)


def test_too_little_memory_is_no_corrupt_image(opened, monkeypatch):
    def photograph(*arguments):
        raise MemoryError

    monkeypatch.setattr("pipeline.data.image_folder.photograph", photograph)
    with pytest.raises(MemoryError):
        opened.training.fetch([0], None)
    assert not opened.training.unreadable


def test_a_file_of_classes_orders_the_outputs(folder, tmp_path, draw, network):
    names = tmp_path / "klassen.txt"
    names.write_text("fish\n\nhorse\ncat\ndog\n", encoding="utf-8-sig")
    draw(tmp_path / "held" / "horse" / "0.png")
    data = open_data(folder, tmp_path / "held", network(outputs=(1, 4, 1, 1)), classes=names)
    assert data.training.fetch(range(9), None).labels.tolist() == [0, 0, 0, 0, 2, 2, 2, 3, 3]
    assert data.validation.fetch([0], None).labels.tolist() == [1]
    assert data.training.classes == 4


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "names no classes"),
        (b"a\nb\na\n", "names a twice"),
        (b"\xff\xfe\x00", "not a text file"),
        (None, "no such file"),
    ],
)
def test_a_bad_file_of_classes(tmp_path, text, reason):
    path = tmp_path / "classes"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(UserError, match=reason):
        read_class_names(path)


@pytest.mark.parametrize(("outputs", "number"), [((1, 2), "2 outputs"), ((1, 1000), "1000 outputs")])
def test_other_classes_than_outputs(folder, network, outputs, number):
    with pytest.raises(UserError) as caught:
        read_folder(str(folder)).source(Needs.of(network(outputs=outputs)), None)
    assert "3 classes" in str(caught.value)
    assert number in str(caught.value)
    assert "--classes" in str(caught.value)


def test_a_folder_without_images_keeps_its_number_and_is_named(folder, network):
    (folder / "bird").mkdir()
    found = read_folder(str(folder))
    assert found.labels.min() == 1
    with pytest.raises(UserError, match=r"4 classes .*3 outputs; without images: bird"):
        found.source(Needs.of(network()), None)


def test_a_folder_that_is_no_class(folder, draw, tmp_path, network):
    draw(tmp_path / "held" / "wolf" / "0.png")
    with pytest.raises(UserError, match="the folder wolf, which is none of the 3 classes"):
        open_data(folder, tmp_path / "held", network())


def test_an_output_that_is_not_scores(folder, network):
    with pytest.raises(UserError, match=r"\(1, 3, 16, 16\) is not one score a class"):
        read_folder(str(folder)).source(Needs.of(network(outputs=(1, 3, 16, 16))), None)


def test_corrupt_images_are_skipped_and_named_once(opened, folder):
    (folder / "cat" / "1.png").write_bytes(b"this is not an image")
    whole = (folder / "fish" / "0.png").read_bytes()
    (folder / "fish" / "0.png").write_bytes(whole[: len(whole) // 2])
    (folder / "fish" / "3.png").unlink()
    source = opened.training
    for _ in range(2):
        batch = source.fetch(range(9), None)
        assert batch.labels.tolist() == [0, 0, 1, 1, 2, 2]
        assert len(batch) == 6
    assert list(source.unreadable) == ["cat/1.png", "fish/0.png", "fish/3.png"]
    assert all(source.unreadable.values())


def test_the_same_numbers_give_the_same_windows(opened):
    def fetch(seed: int) -> torch.Tensor:
        return opened.training.fetch([3, 1, 4, 1], torch.Generator().manual_seed(seed)).inputs[0]

    assert torch.equal(fetch(1), fetch(1))
    assert not torch.equal(fetch(1), fetch(2))
    assert not torch.equal(fetch(1)[1], fetch(1)[3])


def test_a_corrupt_image_does_not_change_the_windows_of_others(opened, folder):
    def fetch() -> torch.Tensor:
        return opened.training.fetch([0, 1, 2], torch.Generator().manual_seed(0)).inputs[0]

    before = fetch()
    (folder / "cat" / "1.png").write_bytes(b"")
    assert torch.equal(fetch(), before[[0, 2]])


def test_channels_last_and_grey_networks(folder, network):
    found = read_folder(str(folder))
    last = found.source(Needs.of(network((1, 12, 16, 3))), None).fetch([0], None).inputs[0]
    first = found.source(Needs.of(network((1, 3, 12, 16))), None).fetch([0], None).inputs[0]
    assert torch.equal(last.permute(0, 3, 1, 2), first)
    assert last.is_contiguous()
    grey = found.source(Needs.of(network((1, 1, 12, 16))), None).fetch([0], None).inputs[0]
    assert grey.shape == (1, 1, 12, 16)
    assert 0 <= grey.min() <= grey.max() <= 1


def test_nothing_is_decoded_when_a_folder_is_opened(tmp_path, network, monkeypatch):
    for name in ("a", "b", "c"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for at in range(700):
            (tmp_path / "data" / name / f"{at}.jpg").touch()
    monkeypatch.setattr("pipeline.data.image_folder.Image", SimpleNamespace())
    source = read_folder(str(tmp_path / "data")).source(Needs.of(network()), None)
    assert len(source) == 2100


def test_names_that_are_not_utf8(tmp_path, draw, network):
    good = draw(tmp_path / "data" / "a" / "0.png")
    good.rename(os.fsdecode(os.fsencode(good.parent) + b"/\xff\xfe.png"))
    source = read_folder(str(tmp_path / "data")).source(Needs.of(network(outputs=(1, 1))), None)
    assert len(source.fetch([0], None)) == 1
