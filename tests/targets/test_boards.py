"""Targets in a user's TOML files: found by path or name, or refused in one line that names the field."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import targets
from targets import boards

FIELDS = {"name": "my-board", "triple": "aarch64-linux-gnu", "cpu": "cortex-a55", "cores": 4}
LINES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]))


def toml(fields: dict[str, object]) -> str:
    """Write strings, numbers and lists of strings as TOML, which spells them as JSON does."""
    return "".join(f"{key} = {json.dumps(of, ensure_ascii=False)}\n" for key, of in fields.items())


def put(folder: Path, fields: dict[str, object], name: str = "Brett für mich.toml") -> Path:
    path = folder / name
    path.write_text(toml(fields), encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(targets.TargetError) as refused:
        targets.find(str(path))
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's own targets."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "Einstellungen hier"))
    boards.folder().mkdir(parents=True)
    return boards.folder()


def test_a_file_with_all_fields(tmp_path: Path) -> None:
    every = FIELDS | {
        "description": "our camera, revision 2",
        "features": ["neon", "dotprod", "i8mm"],
        "clusters": "4 x Cortex-A55",
        "compiler": "tools/my-g++",
        "package": "our SDK",
    }
    assert {*every, "gpu"} == set(boards.Board.model_fields)
    info = targets.find(str(put(tmp_path, every)))
    exported = info.target().export()
    assert (exported["mcpu"], exported["num-cores"]) == ("cortex-a55", 4)
    assert info.features == ("neon", "dotprod", "i8mm")
    assert list(exported["mattr"]) == ["+i8mm"]
    assert info.compiler == str(tmp_path / "tools/my-g++")
    assert info.measured_on() == "our camera, revision 2"
    assert info.verified == targets.Verified.NOT
    with pytest.raises(targets.TargetError, match="install the package our SDK"):
        info.require_compiler()


def test_what_may_be_left_out(tmp_path: Path) -> None:
    info = targets.find(str(put(tmp_path, FIELDS)))
    known = targets.find("raspberry-pi-4")
    assert (info.compiler, info.compiler_package, info.family) == (
        known.compiler,
        known.compiler_package,
        known.family,
    )
    assert info.measured_on() == "my-board"
    assert "mattr" not in info.target().export()


def test_the_users_own_are_found_by_name(own: Path) -> None:
    put(own, FIELDS)
    assert targets.find("my-board") == targets.all_targets()[-1]
    assert "did you mean my-board?" in refusal(Path("my-bord"))


def test_a_broken_file_of_the_users_own_leaves_the_table_usable(own: Path) -> None:
    path = put(own, FIELDS | {"cores": 0})
    assert targets.find("raspberry-pi-4").name == "raspberry-pi-4"
    with pytest.raises(targets.TargetError, match=r"cores: .* not 0") as refused:
        targets.all_targets()
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"name": "My Board"}, "name: String should match pattern"),
        ({"name": "raspberry-pi-4"}, "name: raspberry-pi-4 is in the table already"),
        ({"description": "two\nlines"}, "description: String should match"),
        ({"triple": "vax-dec-ultrix"}, "triple: String should match"),
        ({"triple": "aarch64-linux-gnu\n"}, "triple: String should match"),
        (
            {"triple": "riscv64-linux-gnu", "cpu": "sifive-u74"},
            "compiler: none is known for riscv64-linux-gnu",
        ),
        (
            {"cpu": "cortex-a54"},
            "cpu: LLVM knows no processor 'cortex-a54' for aarch64-linux-gnu: did you mean",
        ),
        ({"cpu": "cortex-a7"}, "cpu: LLVM knows no processor 'cortex-a7'"),
        ({"cpu": "native"}, "cpu: LLVM knows no processor 'native'"),
        ({"cpu": 72}, "cpu: Input should be a valid string, not 72"),
        (
            {"features": ["dotprot"]},
            "features: LLVM knows no feature 'dotprot' for aarch64-linux-gnu: did you",
        ),
        ({"features": ["+neon"]}, "features.0: String should match"),
        ({"features": "neon"}, "features: Input should be a valid list, not 'neon'"),
        ({"cores": 0}, "cores: Input should be greater than or equal to 1, not 0"),
        ({"cores": True}, "cores: Input should be a valid integer, not True"),
        ({"feature": ["neon"]}, "'feature': there is no such field; did you mean features?"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, wrong: dict[str, object], told: str) -> None:
    assert told in refusal(put(tmp_path, FIELDS | wrong))


@pytest.mark.parametrize("missing", FIELDS)
def test_a_missing_field_is_named(tmp_path: Path, missing: str) -> None:
    rest = {key: value for key, value in FIELDS.items() if key != missing}
    assert f"{missing}: this field has to be there" in refusal(put(tmp_path, rest))


def test_what_is_no_file_or_no_toml(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.toml")
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    assert "Is a directory" in refusal(folder)
    path = tmp_path / "board.toml"
    for text in (b"name = \n", b"\xff\xfe", b"a = " + b"[" * 5000):
        path.write_bytes(text)
        assert "is not TOML" in refusal(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,30}", fullmatch=True).filter(lambda text: len(text) > 1),
    description=LINES,
    cores=st.integers(1, 1024),
    features=st.lists(st.sampled_from(["neon", "dotprod", "fullfp16", "i8mm"]), unique=True),
)
def test_a_sound_file_is_read_as_written(
    tmp_path: Path, name: str, description: str, cores: int, features: list[str]
) -> None:
    fields = FIELDS | {"name": name, "description": description, "cores": cores, "features": features}
    if name in {row.name for row in targets.all_targets()}:
        return
    info = targets.find(str(put(tmp_path, fields)))
    assert (info.name, info.description, info.cores) == (name, description or name, cores)
    assert info.features == tuple(features)
    assert info.target().export()["num-cores"] == cores


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=st.dictionaries(
        st.sampled_from([*boards.Board.model_fields, "board"]),
        st.one_of(
            st.integers(), st.booleans(), st.text(st.characters(codec="utf-8")), st.lists(LINES, max_size=2)
        ),
    )
)
def test_any_other_file_is_refused_in_one_line(tmp_path: Path, fields: dict[str, object]) -> None:
    refusal(put(tmp_path, fields | {"cores": -1}))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=80))
def test_bytes_that_are_no_target_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "board.toml"
    path.write_bytes(content)
    refusal(path)


def with_gpu(folder: Path, **gpu: object) -> Path:
    path = put(folder, FIELDS, "Telefon.toml")
    path.write_text(f"{path.read_text(encoding='utf-8')}[gpu]\n{toml(gpu)}", encoding="utf-8")
    return path


def test_a_board_with_a_gpu_of_the_table(tmp_path: Path) -> None:
    info = targets.find(str(with_gpu(tmp_path, name="mali-g57", max_threads=256)))
    known = targets.find("mali-g57").gpu
    assert info.gpu == replace(known, max_threads=256)
    assert (info.name, info.device_type, info.verified) == ("my-board", "opencl", targets.Verified.NOT)
    exported = info.target().export()
    assert (exported["max_num_threads"], exported["host"]["mcpu"]) == (256, "cortex-a55")


def test_a_gpu_that_the_table_lacks(tmp_path: Path) -> None:
    path = with_gpu(
        tmp_path, name="adreno-620", kind="adreno", max_threads=512, local_bytes=32768, float16=True
    )
    gpu = targets.find(str(path)).gpu
    assert gpu == targets.Gpu(
        name="adreno-620",
        description="adreno-620",
        kind="adreno",
        max_threads=512,
        local_bytes=32768,
        float16=True,
    )
    driven = targets.find(f"{path}+host")
    assert (driven.gpu, driven.triple) == (gpu, targets.find("host").triple)
    assert driven.verified == targets.Verified.NOT
    assert targets.find(f"mali-g76+{put(tmp_path, FIELDS)}").cpu == "cortex-a55"


def test_all_fields_of_a_gpu_are_used(tmp_path: Path) -> None:
    every = {field.name: getattr(targets.find("adreno-640").gpu, field.name) for field in fields(targets.Gpu)}
    del every["reported"]
    assert {*every, "textures"} == set(boards.BoardGpu.model_fields)
    every |= {"name": "adreno-641", "description": "a new one", "registers": 24}
    assert targets.find(str(with_gpu(tmp_path, **every))).gpu == targets.Gpu(**every)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"name": "mali-57"}, "gpu.kind: mali-57 is not in the table (did you mean mali-g57?), so this has"),
        ({"name": "x", "kind": "mali", "max_threads": 64}, "gpu.local_bytes: x is not in the table, so this"),
        ({"name": "mali-g57", "kind": "nvidia"}, "gpu.kind: Input should be"),
        (
            {"name": "mali-g57", "max_threads": 0},
            "gpu.max_threads: Input should be greater than or equal to 1",
        ),
        ({"name": "mali-g57", "local": 1}, "'gpu.local': there is no such field; did you mean local_bytes?"),
        ({"name": "adreno-640", "textures": True}, "gpu.textures: textures on Adreno are refused: TVM"),
        ({"kind": "mali"}, "gpu.name: this field has to be there"),
    ],
)
def test_a_wrong_field_of_a_gpu_is_named(tmp_path: Path, wrong: dict[str, object], told: str) -> None:
    assert told in refusal(with_gpu(tmp_path, **wrong))
