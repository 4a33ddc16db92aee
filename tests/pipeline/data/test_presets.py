import json

import pytest

from pipeline.data.needs import ImageInput
from pipeline.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from pipeline.data.presets import PRESETS, choose_preprocessing, for_arrays, for_photographs
from pipeline.errors import UserError

COLOUR, GREY = ImageInput(3, 224, 224, False), ImageInput(1, 28, 28, False)


def values(record: Preprocessing, pixel: float) -> list[float]:
    return [
        (pixel * record.scale - mean) / std
        for mean, std in zip(
            record.mean * (3 // len(record.mean)), record.std * (3 // len(record.std)), strict=True
        )
    ]


def test_photographs_get_imagenets_preprocessing():
    record = for_photographs(COLOUR)
    assert (record.resize, record.size) == (256, (224, 224))
    assert (record.channels, record.mean, record.std) == ("RGB", IMAGENET_MEAN, IMAGENET_STD)
    assert for_photographs(ImageInput(3, 96, 128, False)).resize == 146
    assert for_photographs(GREY).channels == "L"


def test_names_stand_for_values_and_take_the_geometry_of_the_data():
    photographs, arrays = for_photographs(COLOUR), for_arrays(COLOUR, of_bytes=True)
    unit = choose_preprocessing("unit", photographs, COLOUR)
    assert values(unit, 255) == pytest.approx([1, 1, 1])
    assert unit.resize == 256
    signed = choose_preprocessing("signed", arrays, COLOUR)
    assert values(signed, 0) == pytest.approx([-1, -1, -1])
    assert values(signed, 255) == pytest.approx([1, 1, 1])
    assert signed.resize is None
    caffe = choose_preprocessing("caffe", arrays, COLOUR)
    assert values(caffe, 255) == [151, 138, 132]
    assert caffe.channels == "BGR"
    assert choose_preprocessing("imagenet", photographs, COLOUR) == photographs


def test_the_network_fills_the_gaps_of_a_file(tmp_path):
    path = tmp_path / "vorbehandlung ä.json"
    path.write_text(json.dumps({"scale": 0.5, "mean": [3.0]}))
    chosen = choose_preprocessing(path, for_arrays(GREY, of_bytes=True), GREY)
    assert chosen == Preprocessing(size=(28, 28), channels="L", scale=0.5, mean=(3.0,))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is not a preprocessing file"),
        ("[1]", "is not a preprocessing file"),
        ('{"colour": 1}', "at colour: Extra inputs"),
        ('{"scale": "much"}', "at scale: Input should be a valid number"),
        ('{"mean": [1, 2]}', "one number, or one for each channel"),
        ('{"size": [20, 20]}', "the network takes (28, 28)"),
        ('{"channels": "BGR"}', "the network takes 1 channel"),
    ],
)
def test_a_bad_file_is_told_in_one_line(tmp_path, text, reason):
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        choose_preprocessing(path, for_arrays(GREY, of_bytes=True), GREY)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_those_that_are_known(tmp_path):
    with pytest.raises(UserError, match="there is no preprocessing imagnet: choose imagenet, unit"):
        choose_preprocessing("imagnet", for_photographs(COLOUR), COLOUR)


@pytest.mark.parametrize("name", PRESETS)
def test_names_fit_a_grey_network_or_say_that_they_do_not(name):
    usual = for_arrays(GREY, of_bytes=True)
    if name in ("unit", "signed"):
        assert choose_preprocessing(name, usual, GREY).channels == "L"
    else:
        with pytest.raises(UserError, match="takes 1 channel"):
            choose_preprocessing(name, usual, GREY)


def test_a_record_for_another_size_is_refused():
    with pytest.raises(UserError, match=r"makes images of \(8, 8\), and the network takes \(224, 224\)"):
        choose_preprocessing(Preprocessing(size=(8, 8)), for_photographs(COLOUR), COLOUR)
