"""The tracker, from both sides: requests, bounds, what strangers say, and TVM's own programs."""

import socket
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, ExitStack, suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tvm import rpc
from tvm.rpc.tracker import Tracker

import tuning
from tuning.devices import tracker
from tuning.devices.listening import LOOPBACK, listen
from tuning.devices.protocol import (
    SERVER,
    TRACKER_MAGIC,
    TrackerCode,
    frame,
    number,
    receive,
    receive_frame,
)
from tuning.devices.server import DeviceServer
from tuning.devices.tracker import Device, DeviceAway
from tuning.devices.tracker_server import TrackerServer

Background = Callable[[Coroutine[None, None, None]], AbstractContextManager[None]]
Serving = Callable[[tuning.RpcConfig], AbstractContextManager[None]]


def connect(config: tuning.RpcConfig) -> socket.socket:
    connection = socket.create_connection((config.host, config.port), 30)
    connection.sendall(number(TRACKER_MAGIC))
    assert receive(connection, 4) == number(TRACKER_MAGIC)
    return connection


def ask(connection: socket.socket, *message: object) -> object:
    connection.sendall(frame(list(message)))
    return receive_frame(connection)


def register(connection: socket.socket, key: str, port: int = 7, match_key: str = "k:1") -> None:
    facts = {"key": f"{SERVER}{key}", "addr": [None, port]}
    assert ask(connection, TrackerCode.UPDATE_INFO, facts) == TrackerCode.SUCCESS
    assert ask(connection, TrackerCode.PUT, key, [port, match_key], None) == TrackerCode.SUCCESS


def queue(config: tuning.RpcConfig, key: str) -> object:
    with connect(config) as connection:
        return ask(connection, TrackerCode.SUMMARY)[1]["queue_info"].get(key)


@pytest.fixture
def serving(in_background: Background) -> Serving:
    """Run a server in this process, which is for registering only."""

    def run(config: tuning.RpcConfig) -> AbstractContextManager[None]:
        address = (config.host, config.port)
        server = DeviceServer(listen(LOOPBACK), address, config.key, LOOPBACK, check_seconds=0.05)
        return in_background(server.run())

    return run


def test_a_device_is_handed_out_once(own_tracker: tuning.RpcConfig) -> None:
    with connect(own_tracker) as device, connect(own_tracker) as first, connect(own_tracker) as second:
        register(device, "any")
        assert tracker.devices(own_tracker) == (Device(f"{LOOPBACK}:7", "any", free=True),)
        assert ask(device, TrackerCode.GET_PENDING_MATCHKEYS) == ["k:1"]
        offer = ask(first, TrackerCode.REQUEST, "any", "", 1)
        assert offer == [TrackerCode.SUCCESS, [LOOPBACK, 7, "k:1"]]
        assert tracker.devices(own_tracker) == (Device(f"{LOOPBACK}:7", "any", free=False),)
        second.sendall(frame([TrackerCode.REQUEST, "any", "", 1]))
        register(device, "any", match_key="k:2")
        assert receive_frame(second)[1][2] == "k:2"
    wait_until_gone(own_tracker)


def wait_until_gone(config: tuning.RpcConfig) -> None:
    """Wait until the tracker noticed that its devices are gone; pytest's time-out is the bound."""
    while tracker.devices(config):
        pass


def test_a_request_that_is_given_up_is_forgotten(own_tracker: tuning.RpcConfig) -> None:
    with connect(own_tracker) as device:
        register(device, "any")
        with connect(own_tracker) as client:
            ask(client, TrackerCode.REQUEST, "any", "", 1)
        with pytest.raises(tuning.TuningError, match=r"'any' was not free within 0\.2 s"):
            tracker.request(own_tracker, 0.2, 5)
        while queue(own_tracker, "any")["pending"]:
            pass
        assert ask(device, TrackerCode.PUT, "any", [7, "k:2"], None) == TrackerCode.SUCCESS
        assert queue(own_tracker, "any") == {"free": 1, "pending": 0}


def test_a_device_that_does_not_answer_is_told_in_time(own_tracker: tuning.RpcConfig) -> None:
    with connect(own_tracker) as device:
        register(device, "any", port=1)
        with pytest.raises(DeviceAway, match=r"'any' at 127\.0\.0\.1:1 does not answer .*: check that"):
            tracker.request(own_tracker, 0.5, 5)


def test_a_key_is_waited_for_as_long_as_the_caller_says(own_tracker: tuning.RpcConfig) -> None:
    with connect(own_tracker) as device:
        late = threading.Timer(0.3, register, (device, "any"))
        late.start()
        tracker.require_device(own_tracker, away_seconds=60)
        late.join()
    with pytest.raises(DeviceAway, match="no device serves the key 'none'"):
        tracker.require_device(tuning.RpcConfig(own_tracker.host, own_tracker.port, "none"), 0.2)


def test_a_tracker_is_waited_for_as_long_as_the_caller_says(
    free_port: int, in_background: Background
) -> None:
    config = tuning.RpcConfig(LOOPBACK, free_port, "any")
    with pytest.raises(DeviceAway, match=r"no tracker answers at 127\.0\.0\.1"):
        tracker.devices(config, away_seconds=0.2)
    with ExitStack() as stack:

        def start() -> None:
            stack.enter_context(in_background(TrackerServer(listen(LOOPBACK, free_port)).run()))

        late = threading.Timer(0.2, start)
        late.start()
        assert tracker.devices(config, away_seconds=60) == ()
        late.join()


def test_what_is_no_tracker_is_told() -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        config = tuning.RpcConfig(LOOPBACK, other.getsockname()[1], "any")
        greeter = threading.Thread(target=lambda: other.accept()[0].sendall(b"SSH-2.0"))
        greeter.start()
        with pytest.raises(tuning.TuningError, match="not a TVM RPC tracker"):
            tracker.served_keys(config)
        greeter.join(10)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.one_of(
        st.binary(max_size=64),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
            ),
            max_leaves=8,
        ).map(frame),
        st.tuples(st.sampled_from(TrackerCode), st.integers() | st.text(max_size=4)).map(frame),
    )
)
def test_no_words_of_a_stranger_end_the_tracker(own_tracker: tuning.RpcConfig, words: bytes) -> None:
    with connect(own_tracker) as stranger, suppress(OSError):
        stranger.sendall(words)
        stranger.shutdown(socket.SHUT_WR)
        while stranger.recv(4096):
            pass
    assert tracker.devices(own_tracker) == ()


def test_a_server_of_tvm_is_handed_out_and_does_not_tell(own_tracker: tuning.RpcConfig) -> None:
    address = (own_tracker.host, own_tracker.port)
    stock = rpc.Server(LOOPBACK, 20_000, 30_000, tracker_addr=address, key="any", silent=True)
    try:
        tracker.wait_for_device(own_tracker, 60)
        lease = tracker.request(own_tracker, 30, 30)
        assert lease.address == f"{LOOPBACK}:{stock.port}"
        assert tracker.last_end(lease) is None
        assert tracker.device_facts(lease) is None
        del lease
        with (
            pytest.raises(tuning.TuningError, match=r"does not say how many threads .*: give the number"),
            tuning.RemoteSession(own_tracker.host, own_tracker.port, "any"),
        ):
            pass
    finally:
        stock.terminate()


def test_our_server_at_a_tracker_of_tvm(free_port: int, serving: Serving) -> None:
    stock = Tracker(LOOPBACK, free_port, free_port + 1, silent=True)
    config = tuning.RpcConfig(LOOPBACK, free_port, "any")
    try:
        with serving(config):
            tracker.wait_for_device(config, 60)
            (device,) = tracker.devices(config)
            assert (device.key, device.free) == ("any", None)
            assert tracker.served_keys(config) == {"any": 1}
    finally:
        stock.terminate()


def test_an_offer_that_nobody_uses_is_made_anew(own_tracker: tuning.RpcConfig, serving: Serving) -> None:
    with serving(own_tracker), connect(own_tracker) as client:
        tracker.wait_for_device(own_tracker, 60)
        _, (*_, first) = ask(client, TrackerCode.REQUEST, "any", "", 1)
        _, (*_, second) = ask(client, TrackerCode.REQUEST, "any", "", 1)
        assert first != second


def test_a_device_in_use_is_told_in_time(session: tuning.LocalSession) -> None:
    held = tracker.request(session.rpc_config, 30, 60)
    started = time.monotonic()
    with pytest.raises(tuning.TuningError, match=r"'local' was not free within 0\.2 s"):
        tracker.request(session.rpc_config, 0.2, 5)
    assert time.monotonic() - started < 30
    del held
