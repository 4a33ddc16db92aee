"""Sessions: real trackers and servers on loopback, bounded waits, nothing left behind."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import targets
import tuning
from tuning.devices import tracker


def test_the_servers_are_registered_under_their_key(session: tuning.LocalSession) -> None:
    assert tracker.served_keys(session.rpc_config) == {"local": 1}
    assert session.threads == targets.find("host").threads
    assert session.shares_machine


def test_a_remote_session_finds_the_device_and_its_threads(session: tuning.LocalSession) -> None:
    config = session.rpc_config
    with tuning.RemoteSession(config.host, config.port, config.key) as remote:
        assert remote.rpc_config == config
        assert remote.threads == session.threads
        assert remote.facts is not None
        assert not remote.facts.emulated


@pytest.mark.parametrize(
    ("host", "given", "shared"),
    [("127.0.0.1", None, True), ("localhost", None, True), ("192.0.2.1", None, False), ("::1", False, False)],
)
def test_a_device_behind_loopback_is_this_machine(host: str, given: bool | None, shared: bool) -> None:
    assert tuning.RemoteSession(host, 1, "any", threads=1, shares_machine=given).shares_machine is shared


def test_a_pool_is_handed_out_whole(host: targets.TargetInfo) -> None:
    with tuning.LocalSession(host, devices=2, shares_machine=False) as local:
        assert not local.shares_machine
        leases = [tracker.request(local.rpc_config, 30, 60) for _ in range(2)]
        assert len({lease.address for lease in leases}) == 2
        assert [device.free for device in tracker.devices(local.rpc_config)] == [False, False]


def test_tracker_and_servers_that_are_killed_come_back_on_their_ports(host: targets.TargetInfo) -> None:
    with tuning.LocalSession(host) as local:
        config, before = local.rpc_config, local.process_ids
        (device,) = tracker.devices(config)
        folder = tracker.request(config, 60, 60).remote.get_function("tvm.rpc.server.workpath")(".")
        assert Path(folder).is_dir()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_for_others(local, before)
        lease = tracker.request(config, 60, 60, away_seconds=60)
        assert lease.address == device.address
        assert local.rpc_config == config
        assert lease.remote.cpu(0).exist
        assert not Path(folder).exists()


def wait_for_others(local: tuning.LocalSession, before: tuple[int, ...]) -> None:
    """Wait until each process was replaced; pytest's time-out is the bound."""
    for pid in before:
        while pid in local.process_ids:
            select.select([], [], [], 0.01)


def test_a_port_in_use_is_told(session: tuning.LocalSession, host: targets.TargetInfo) -> None:
    port = session.rpc_config.port
    with (
        pytest.raises(tuning.TuningError, match=rf"port {port} of 127\.0\.0\.1 is in use: .* another port"),
        tuning.LocalSession(host, tracker_port=port),
    ):
        pass


def test_leaving_by_an_exception_ends_the_processes(host: targets.TargetInfo) -> None:
    started: set[int] = set()

    def interrupted() -> None:
        with tuning.LocalSession(host, threads=1, key="own") as local:
            started.update(local.process_ids)
            assert all(os.getsid(pid) != os.getsid(0) for pid in started)
            assert local.threads == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(started) == 2
    assert not any(psutil.pid_exists(pid) for pid in started)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_processes_end_when_their_parent_is_killed(number: signal.Signals) -> None:
    program = (
        "import os, sys\n"
        "sys.modules['torch'] = None\n"
        "import targets, tuning\n"
        "from tuning.devices import tracker\n"
        "with tuning.LocalSession(targets.find('host')) as local:\n"
        "    lease = tracker.request(local.rpc_config, 60, 600)\n"
        "    print(*local.process_ids, flush=True)\n"
        "    sys.stdin.readline()\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        children = [int(pid) for pid in parent.stdout.readline().split()]
        sessions = [child.pid for pid in children for child in psutil.Process(pid).children()]
        watched = [os.pidfd_open(pid) for pid in (*children, *sessions)]
        parent.stdin.write(b"\n")
        parent.stdin.flush()
        assert parent.wait(60) == -number
    assert (len(children), len(sessions)) == (2, 1)
    for descriptor in watched:
        assert select.select([descriptor], [], [], 20)[0]
        os.close(descriptor)
