"""The C++ server on an emulated board: right numbers, and it lives through whatever happens."""

import json
import os
import select
import signal
import socket
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import psutil
import pytest
import tvm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from tvm import rpc
from tvm.rpc.tracker import Tracker

import targets
import tuning
from pipeline.importer import load_network
from targets import DeviceTraits, recognise
from tuning.devices import tracker
from tuning.devices.listening import LOOPBACK, listen
from tuning.devices.protocol import (
    CLIENT,
    RPC_MAGIC,
    RPC_MISMATCH,
    TRACKER_MAGIC,
    as_number,
    number,
    receive,
    text,
)
from tuning.errors import Mistake

SECONDS = 120.0
DOUBLED = 2 * np.arange(16, dtype="float32")
CLOSED = r"RPCCode|[Rr]eset|closed|[Ss]ocket"


def load(lease: tracker.Lease, library) -> tvm.runtime.Module:
    lease.remote.upload(str(library))
    return lease.remote.load_module(library.name)


def doubled(lease: tracker.Lease, library) -> np.ndarray:
    device = lease.remote.cpu()
    values = tvm.runtime.tensor(np.arange(16, dtype="float32"), device)
    result = tvm.runtime.tensor(np.zeros(16, "float32"), device)
    load(lease, library)["doubling"](values, result)
    return result.numpy()


def test_it_computes_right_numbers(board, library) -> None:
    np.testing.assert_array_equal(doubled(board.take(), library), DOUBLED)


def test_it_tells_what_it_is_and_that_it_is_emulated(board) -> None:
    lease = board.take()
    facts = tracker.device_facts(lease)
    assert facts is not None
    assert (facts.cpu, facts.system, facts.threads) == ("Cortex-A72", "Linux aarch64", 2)
    assert facts.emulated
    assert facts.cores >= 1


def test_it_tells_enough_to_find_its_target(board) -> None:
    told = json.loads(str(board.take().remote.get_function("deeprebirth.traits")()))
    told |= {name: tuple(told[name]) for name in ("parts", "features")}
    traits = DeviceTraits(**told)
    assert traits.parts == ("0x41:0xd08",) * traits.cores
    assert recognise(traits).name == "cortex-a72"


def test_a_target_that_is_too_new_for_it_is_told_before_anything_runs(board) -> None:
    config = board.config
    newer = tuning.RemoteSession(config.host, config.port, config.key, target=targets.find("raspberry-pi-5"))
    told = r"has no dotprod and no fullfp16.* raspberry-pi-5 .*: use target cortex-a72$"
    with pytest.raises(Mistake, match=told), newer:
        pass
    own = targets.find("cortex-a72")
    with tuning.RemoteSession(config.host, config.port, config.key, target=own) as session:
        assert session.facts.emulated


def test_a_library_for_a_newer_core_ends_the_session_and_that_is_told(board, newer_library, library) -> None:
    lease = board.take()
    device = lease.remote.cpu()
    values = [tvm.runtime.tensor(np.ones(16, "float16"), device) for _ in range(2)]
    with pytest.raises(Exception, match=CLOSED):
        load(lease, newer_library)["halves"](*values)
    ended = tracker.ending(lease)
    assert ended is not None
    assert (ended.signal, ended.code, ended.late) == ("SIGILL", None, False)
    del values
    following = board.take()
    assert tracker.last_end(following) == ended
    np.testing.assert_array_equal(doubled(following, library), DOUBLED)


def test_a_library_for_another_machine_is_refused_and_that_is_all(board, own_library, library) -> None:
    lease = board.take()
    with pytest.raises(Exception, match=r"own\.so"):
        load(lease, own_library)
    np.testing.assert_array_equal(doubled(lease, library), DOUBLED)


def test_a_full_disk_is_told(board) -> None:
    with pytest.raises(Exception, match="the device cannot write /dev/full: No space left on device"):
        board.take().remote.upload(bytearray(b"library"), "/dev/full")


def test_a_late_session_is_told_as_late(board, library) -> None:
    lease = board.take(seconds=2)
    with pytest.raises(Exception, match=r"RPCSessionTimeoutError: the session took longer than its 2 s"):
        load(lease, library)["sleeping"](600)
    ended = tracker.ending(lease)
    assert ended is not None
    assert ended.late


def test_a_client_that_is_gone_in_mid_session_leaves_nothing(board) -> None:
    lease = board.take()
    lease.remote.upload(bytearray(b"something"), "left.bin")
    (session,) = psutil.Process(board.process.pid).children()
    folder = str(lease.remote.get_function("tvm.rpc.server.workpath")("left.bin"))
    assert board.session_folders()
    assert folder.endswith("/left.bin")
    del lease
    following = board.take()
    assert not session.is_running()
    assert tracker.last_end(following).code == 0
    assert len(board.session_folders()) == 1


def test_a_stranger_is_in_nobodys_way(board) -> None:
    address = next(each.address for each in tracker.devices(board.config) if each.key == board.config.key)
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), 30),
        socket.create_connection((host, int(port)), 30) as other,
    ):
        other.sendall(number(RPC_MAGIC) + text(f"{CLIENT}{board.config.key}:0.5 -timeout=3"))
        assert as_number(receive(other, 4)) == RPC_MISMATCH
        assert board.take().address == address


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.one_of(
        st.binary(max_size=64),
        st.binary(min_size=1, max_size=32).map(lambda data: number(RPC_MAGIC) + number(len(data)) + data),
        st.integers(-(2**31), 2**31 - 1).map(lambda length: number(RPC_MAGIC) + number(length)),
    )
)
def test_no_words_of_a_stranger_end_the_server(board, words: bytes) -> None:
    address = next(each.address for each in tracker.devices(board.config) if each.key == board.config.key)
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 30) as stranger:
        with suppress(OSError):
            stranger.sendall(words)
            stranger.shutdown(socket.SHUT_WR)
        select.select([stranger], [], [], 30)
    assert board.process.poll() is None
    tracker.wait_for_device(board.config, SECONDS)


def test_it_registers_again_when_the_tracker_is_back(start_board, library) -> None:
    with (
        tuning.LocalSession(targets.find("host"), key="other") as session,
        start_board(session.rpc_config, "wieder") as board,
    ):
        board.says("registered as wieder")
        os.kill(session.process_ids[0], signal.SIGKILL)
        assert "looking for it" in board.says("is not there")
        board.says("registered as wieder")
        np.testing.assert_array_equal(doubled(board.take(), library), DOUBLED)


def test_what_is_no_tracker_is_told(start_board) -> None:
    with listen(LOOPBACK) as listener:
        at = tuning.RpcConfig(LOOPBACK, listener.getsockname()[1], "irgendwo")
        with start_board(at, at.key) as board:
            connection, _ = listener.accept()
            with connection:
                assert as_number(receive(connection, 4)) == TRACKER_MAGIC
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                assert "what answers there is no tracker" in board.says("is not there")


def test_clients_of_tvm_are_served(board, library) -> None:
    stock = rpc.connect_tracker(board.config.host, board.config.port)
    remote = stock.request(board.config.key, session_timeout=600)
    np.testing.assert_array_equal(doubled(tracker.Lease(remote, ""), library), DOUBLED)


def test_the_tracker_of_tvm_is_served(start_board, library) -> None:
    stock = Tracker(LOOPBACK, 9190, 9999, silent=True)
    try:
        with start_board(tuning.RpcConfig(LOOPBACK, stock.port, "fremd"), "fremd") as board:
            board.says("registered as fremd")
            for _ in range(2):
                np.testing.assert_array_equal(doubled(board.take(), library), DOUBLED)
    finally:
        stock.terminate()


def test_sigterm_ends_it_with_its_session_and_folders(a_tracker, start_board) -> None:
    with start_board(a_tracker, "ende") as board:
        board.says("registered as ende")
        lease = board.take()
        assert tracker.device_facts(lease) is not None
        (session,) = psutil.Process(board.process.pid).children()
        board.process.send_signal(signal.SIGTERM)
        assert board.process.wait(SECONDS) == 0
        assert board.process.stderr.read().endswith("ended\n")
        assert not session.is_running()
        assert not list(board.folder.iterdir())


def test_what_a_killed_server_left_is_removed_by_the_next(a_tracker, start_board) -> None:
    with start_board(a_tracker, "erst") as first:
        first.says("registered as erst")
        lease = first.take()
        assert tracker.device_facts(lease) is not None
        (session,) = psutil.Process(first.process.pid).children()
        first.process.kill()
        psutil.wait_procs([session], SECONDS)
        (left,) = first.folder.iterdir()
        with start_board(a_tracker, "dann", first.folder) as second:
            second.says("registered as dann")
            assert not left.exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "give --tracker HOST:PORT"),
        (["--tracker", "here"], "--tracker here: write it as HOST:PORT"),
        (["--tracker", "here:99999"], "--tracker's port 99999: give a number from 1 to 65535"),
        (["--tracker", "here:9190"], "give --key KEY"),
        (["--tracker", "here:9190", "--key", "a b"], "--key 'a b': write it without spaces"),
        (["--tracker"], "--tracker needs a value"),
        (["--threads", "no"], "--threads no: give a number"),
        (["--colour", "blue"], "unknown option --colour"),
    ],
)
def test_what_is_misspelt_is_told_in_one_line(run_server, words: list[str], says: str) -> None:
    run = run_server(*words)
    assert run.returncode == 2
    assert run.stderr.startswith(f"deeprebirth-server: {says}")
    assert run.stderr.count("\n") == 1


def test_an_address_that_is_not_the_boards_is_told(run_server) -> None:
    run = run_server("--tracker", "here:9190", "--key", "k", "--host", "192.0.2.1", "--port", "9")
    assert (run.returncode, run.stderr.count("\n")) == (1, 1)
    assert "cannot listen on 192.0.2.1" in run.stderr


def test_help_is_printed(run_server) -> None:
    run = run_server("--help")
    assert (run.returncode, run.stderr) == (0, "")
    assert "--tracker HOST:PORT" in run.stdout


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Convolution, ReLU, pooling, and a dense layer."""
    rng = np.random.default_rng(0)
    shapes = {"w": (8, 3, 3, 3), "b": (8,), "d": (8 * 36, 10)}
    weights = [
        numpy_helper.from_array((0.2 * rng.standard_normal(shape)).astype("float32"), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        make_node("Conv", ["image", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        make_node("Relu", ["c"], ["r"]),
        make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        make_node("Flatten", ["p"], ["f"]),
        make_node("MatMul", ["f", "d"], ["scores"]),
    ]
    places = {"image": [1, 3, 12, 12], "scores": [1, 10]}
    image, scores = (make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in places.items())
    graph = make_graph(nodes, "small", [image], [scores], weights)
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    onnx.save(make_model(graph, opset_imports=[make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.mark.timeout(600)
def test_a_network_is_tuned_on_it_and_computes_as_onnxruntime_does(
    board, board_target, model: Path, tmp_path: Path
) -> None:
    network = load_network(model)
    config = board.config
    with tuning.RemoteSession(config.host, config.port, config.key) as session:
        assert session.emulated(board_target)
        assert session.threads == 2
        result = tuning.tune(network.module, board_target, session, tmp_path / "db", tuning.Budget(trials=6))
        assert result.trials_measured == 6
        assert (result.failures, result.wrong) == ({}, ())
        compiled = tuning.compile_module(network.module, board_target, tmp_path / "db")
        assert compiled.records_applied >= 1
        image = np.random.default_rng(1).standard_normal((1, 3, 12, 12)).astype("float32")
        library = tuning.Library(compiled.library, compiled.weights)
        (scores,) = tuning.run_remote(session, library, [image])
    (wanted,) = onnxruntime.InferenceSession(model).run(None, {"image": image})
    np.testing.assert_allclose(scores, wanted, atol=1e-4, rtol=0)
