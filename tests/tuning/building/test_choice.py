"""Where to build is said in one word or by an address; anything else is refused in one line."""

import pytest

import targets
from tuning.building.choice import check_place, make_builder
from tuning.building.local import LocalBuilder
from tuning.errors import TuningError


@pytest.mark.parametrize("where", [None, "local"])
def test_local_is_the_default(host: targets.TargetInfo, where: str | None) -> None:
    builder = make_builder(host, where)
    assert isinstance(builder, LocalBuilder)
    builder.close()


@pytest.mark.parametrize("where", ["tcp://scheduler:8786", "tls://10.0.0.1:8786", "tcp://[::1]:8786"])
def test_an_address_of_a_scheduler_passes(where: str) -> None:
    check_place(where)


@pytest.mark.parametrize(
    "where",
    [
        "",
        "here",
        "http://scheduler:8786",
        "tcp://scheduler",
        "tcp://:8786",
        "tcp://scheduler:port",
        "scheduler:8786",
        "tcp://scheduler:99999",
        "tcp://[::1:8786",
        "tcp://a\nb:1",
    ],
)
def test_anything_else_is_refused(host: targets.TargetInfo, where: str) -> None:
    with pytest.raises(TuningError, match=r"give local, or a Dask scheduler's address") as refused:
        make_builder(host, where)
    assert "\n" not in str(refused.value)
