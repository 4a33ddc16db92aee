"""What OpenCL devices are called, and which of them stand in for a phone's GPU."""

import pytest

import targets
import tuning
from targets.runtime.opencl import OpenCLDevice, listing
from tuning.devices.opencl import OpenClDevice, require_here
from tuning.errors import Mistake

POCL = OpenClDevice("cpu-znver5-AMD EPYC", "OpenCL 3.0 PoCL HSTR: cpu-x86_64-pc-linux-gnu-znver5", "AMD EPYC")
MALI = OpenClDevice("Mali-G76", "OpenCL 2.0 v1.r16p0-01rel0.3f4c", "Cortex-A76")
ADRENO = OpenClDevice("QUALCOMM Adreno(TM)", "OpenCL 2.0 Adreno(TM) 640")


@pytest.fixture(scope="module")
def opencl() -> OpenCLDevice:
    try:
        return listing().chosen
    except targets.TargetError as error:
        pytest.skip(f"no OpenCL here: {error}")


def test_names() -> None:
    assert POCL.in_words() == "PoCL on AMD EPYC, OpenCL 3.0"
    assert MALI.in_words() == "Mali-G76, OpenCL 2.0"
    assert ADRENO.in_words() == "QUALCOMM Adreno(TM), OpenCL 2.0"


@pytest.mark.parametrize(
    ("target", "of_its_kind"),
    [("mali-g76", {MALI}), ("adreno-640", {ADRENO}), ("opencl", {POCL, MALI, ADRENO})],
)
def test_another_maker_s_device_is_not_the_gpu(target: str, of_its_kind: set[OpenClDevice]) -> None:
    gpu = targets.find(target).gpu
    assert {device for device in (POCL, MALI, ADRENO) if device.is_of_kind(gpu)} == of_its_kind


def test_pocl_stands_in_for_a_phone_and_is_itself_for_opencl(opencl: OpenCLDevice) -> None:
    if "pocl" not in opencl.version.lower():
        pytest.skip(f"{opencl.name} is no PoCL")
    phone, generic = targets.find("mali-g76+host"), targets.find("opencl")
    with tuning.LocalSession(phone) as local:
        config = local.rpc_config
        with tuning.RemoteSession(config.host, config.port, config.key, target=phone) as remote:
            for session in (local, remote):
                assert session.emulated(phone)
                assert session.measured_on(phone).startswith("PoCL on ")
                assert session.measured_on(phone).endswith("in place of Mali-G76")
                assert not session.emulated(generic)
                assert "in place of" not in session.measured_on(generic)


def test_a_device_that_is_not_there_is_told(opencl: OpenCLDevice, monkeypatch, tmp_path) -> None:
    with pytest.raises(Mistake, match="no OpenCL device is voodoo") as told:
        require_here("voodoo")
    assert opencl.name in str(told.value)
    require_here(opencl.name[:4])
    monkeypatch.setenv("OCL_ICD_VENDORS", str(tmp_path))
    with pytest.raises(Mistake, match="doctor"):
        require_here()
    with (
        pytest.raises(Mistake, match="no OpenCL device that its server can use"),
        tuning.LocalSession(targets.find("opencl")),
    ):
        pass
