"""Sessions: real trackers and servers on loopback, bounded waits, nothing left behind."""

import os
import select
import signal
import socket
import subprocess
import sys
import threading

import psutil
import pytest

import targets
import tuning
from tuning.devices import tracker


def serving() -> set[int]:
    """The processes of local trackers and servers that this process started."""
    children = psutil.Process().children(recursive=True)
    return {child.pid for child in children if "tuning.devices.serve" in child.cmdline()}


def test_the_server_is_registered_under_its_key(session: tuning.LocalSession) -> None:
    assert tracker.served_keys(session.rpc_config) == {"local": 1}
    assert session.threads == targets.find("host").threads


def test_a_key_nobody_serves_is_told_with_the_keys_there_are(session: tuning.LocalSession) -> None:
    config = session.rpc_config
    with (
        pytest.raises(tuning.TuningError, match=r"no device serves the key 'phone'.*: local$") as error,
        tuning.RemoteSession(config.host, config.port, "phone", threads=2),
    ):
        pass
    assert "\n" not in str(error.value)
    with pytest.raises(tuning.TuningError, match="no device serves the key 'phone'"):
        tracker.request(tuning.RpcConfig(config.host, config.port, "phone"), 5, 5)


def test_a_remote_session_finds_the_device(session: tuning.LocalSession) -> None:
    config = session.rpc_config
    with tuning.RemoteSession(config.host, config.port, config.key, threads=1) as remote:
        assert remote.rpc_config == config


def test_a_device_in_use_is_told_in_time(session: tuning.LocalSession) -> None:
    held = tracker.request(session.rpc_config, 30, 60).remote
    with pytest.raises(tuning.TuningError, match=r"'local' was not free within 0\.2 s"):
        tracker.request(session.rpc_config, 0.2, 5)
    del held


def test_no_tracker_and_no_tvm_tracker_are_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        config = tuning.RpcConfig("127.0.0.1", other.getsockname()[1], "any")
        greeter = threading.Thread(target=lambda: other.accept()[0].sendall(b"SSH-2.0"))
        greeter.start()
        with pytest.raises(tuning.TuningError, match="not a TVM RPC tracker"):
            tracker.served_keys(config)
        greeter.join(10)
    with pytest.raises(tuning.TuningError, match=r"no tracker answers at 127\.0\.0\.1"):
        tracker.served_keys(config)


def test_leaving_by_an_exception_ends_both_processes(host: targets.TargetInfo) -> None:
    started: set[int] = set()

    def interrupted() -> None:
        before = serving()
        with tuning.LocalSession(host, threads=1, key="own") as local:
            started.update(serving() - before)
            assert all(os.getsid(pid) != os.getsid(0) for pid in started)
            assert local.threads == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(started) == 2
    assert not any(psutil.pid_exists(pid) for pid in started)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_both_processes_end_when_their_parent_is_killed(number: signal.Signals) -> None:
    program = (
        "import os, psutil, sys, targets, tuning\n"
        "with tuning.LocalSession(targets.find('host')) as local:\n"
        "    print(*[child.pid for child in psutil.Process().children()], flush=True)\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        children = [int(pid) for pid in parent.stdout.readline().split()]
        watched = [os.pidfd_open(pid) for pid in children]
        assert parent.wait(60) == -number
    assert len(children) == 2
    for descriptor in watched:
        assert select.select([descriptor], [], [], 20)[0]
        os.close(descriptor)
