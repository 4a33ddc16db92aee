"""Which targets compute in float16, and what is said to those that do not."""

from dataclasses import replace

import pytest

import targets
from pipeline.errors import UserError
from pipeline.precision import check_supported


@pytest.mark.parametrize("name", ["raspberry-pi-5", "cortex-a76", "cortex-a55", "jetson-xavier-nx", "rk3588"])
def test_cores_with_float16_are_taken(name: str) -> None:
    check_supported(targets.find(name))


@pytest.mark.parametrize("name", ["raspberry-pi-4", "cortex-a53", "aarch64", "armv7", "android-arm64"])
def test_others_are_refused_in_one_line_that_names_some_that_have_it(name: str) -> None:
    with pytest.raises(UserError) as refused:
        check_supported(targets.find(name))
    message = str(refused.value)
    assert message.startswith(f"{name} (")
    assert "use float32" in message
    assert "raspberry-pi-5" in message
    assert "raspberry-pi-4," not in message
    assert "\n" not in message


def test_llvm_knows_what_the_row_does_not_say() -> None:
    check_supported(replace(targets.find("cortex-a76"), features=()))


@pytest.mark.parametrize(("cpu", "supported"), [("sapphirerapids", True), ("icelake-server", False)])
def test_x86_needs_avx512fp16(cpu: str, supported: bool) -> None:
    info = replace(targets.find("host"), triple="x86_64-linux-gnu", cpu=cpu)
    if supported:
        check_supported(info)
    else:
        with pytest.raises(UserError, match="has no float16 arithmetic"):
            check_supported(info)


def test_gpus_are_not_asked_yet() -> None:
    with pytest.raises(UserError, match="on a GPU"):
        check_supported(targets.find("mali-g76"))
