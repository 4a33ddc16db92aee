"""T1: no device serves the key: told within the time given, with the keys that are there.

apache/tvm#12330, #11058: TVM's client waits without bound.
"""

import pytest

import tuning
from tuning.devices import tracker


@pytest.fixture
def nobody(session: tuning.LocalSession) -> tuning.RpcConfig:
    return tuning.RpcConfig(session.rpc_config.host, session.rpc_config.port, "phone")


@pytest.mark.timeout(60)
def test_asking_for_a_device(nobody: tuning.RpcConfig) -> None:
    with pytest.raises(tuning.TuningError, match=r"no device serves the key 'phone'.*: local$") as error:
        tracker.request(nobody, wait_seconds=600, session_seconds=600)
    assert "\n" not in str(error.value)
    with pytest.raises(tuning.TuningError, match=r"no device serves the key 'phone'.*: local$"):
        tracker.wait_for_device(nobody, 0.3)
    with pytest.raises(tuning.TuningError, match=r"no device serves the key 'phone'.*: local$"):
        tracker.request(nobody, wait_seconds=600, session_seconds=600, away_seconds=0.3)


@pytest.mark.timeout(60)
def test_entering_a_session(nobody: tuning.RpcConfig) -> None:
    with (
        pytest.raises(tuning.TuningError, match=r"no device serves the key 'phone'.*: local$"),
        tuning.RemoteSession(nobody.host, nobody.port, nobody.key, threads=2),
    ):
        pass


@pytest.mark.timeout(120)
def test_a_device_that_leaves_while_it_is_waited_for(
    nobody: tuning.RpcConfig, session: tuning.LocalSession
) -> None:
    held = tracker.request(session.rpc_config, 60, 60)
    with pytest.raises(tuning.TuningError, match=r"'local' was not free within 1\.5 s"):
        tracker.request(session.rpc_config, wait_seconds=1.5, session_seconds=60)
    del held
    assert tracker.request(session.rpc_config, 60, 60).remote.cpu(0).exist
