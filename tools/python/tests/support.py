"""What the tests share: the vectors, free ports, processes that end with the test, and a node that is none."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

PYTHON = pathlib.Path(__file__).resolve().parent.parent
ROOT = PYTHON.parent.parent
sys.path.insert(0, str(PYTHON))

import raftgram_wire as wire  # noqa: E402
from raftgram_fields import ANY  # noqa: E402

CLUSTER = bytes(range(16))


def vectors(*names: str) -> Iterator[Dict[str, Any]]:
    """The cases of some files of tests/vectors, or of all."""
    for path in sorted((ROOT / "tests" / "vectors").glob("*.jsonl")):
        if not names or path.stem in names:
            for line in path.read_text().splitlines():
                yield json.loads(line)


def without_why(fields: Dict[str, str]) -> Dict[str, str]:
    """How a decoder words a fault is its own affair."""
    return {name: value for name, value in fields.items() if name.rpartition(".")[2] != "why"}


def binary() -> str:
    """The raftgram to test against: $RAFTGRAM, or what was built in this repository."""
    places = [os.environ.get("RAFTGRAM", ""), ROOT / "target/release/raftgram", ROOT / "target/debug/raftgram"]
    for place in places:
        if place and pathlib.Path(place).is_file():
            return str(place)
    raise unittest.SkipTest("there is no raftgram binary: `cargo build --release`, or set RAFTGRAM")


def free_ports(count: int) -> int:
    """The first of so many UDP ports in a row that nobody uses just now."""
    for _ in range(100):
        sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM)]
        try:
            sockets[0].bind(("127.0.0.1", 0))
            first = sockets[0].getsockname()[1]
            for port in range(first + 1, first + count):
                sockets.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                sockets[-1].bind(("127.0.0.1", port))
            return first
        except (OSError, OverflowError):
            continue
        finally:
            for one in sockets:
                one.close()
    raise RuntimeError(f"no {count} free ports in a row")


def wait_for(what: str, condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """The condition's first true value, within a deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {seconds} s")


class Processes(unittest.TestCase):
    """A test that starts processes; they end with it, and their folder goes."""

    def setUp(self) -> None:
        self.raftgram = binary()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="raftgram-python-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.started: List[subprocess.Popen] = []

    def start(self, name: str, *arguments: str) -> subprocess.Popen:
        log = open(self.folder / f"{name}.log", "ab")
        self.addCleanup(log.close)
        process = subprocess.Popen(
            [self.raftgram, *arguments], stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL
        )
        self.addCleanup(self.stop, process)
        self.started.append(process)
        return process

    @staticmethod
    def stop(process: subprocess.Popen) -> None:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdout:
            process.stdout.close()

    def cluster_up(self, *arguments: str) -> List[str]:
        """Starts a cluster; the addresses of its nodes."""
        port = str(free_ports(3))
        process = self.start("cluster", "--json-stream", "cluster", "up", "--temp", "--port", port, *arguments)
        assert process.stdout is not None
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        try:
            for line in process.stdout:
                event = json.loads(line)
                if event.get("event") == "ready":
                    return [node["addr"] for node in event["nodes"]]
        finally:
            watchdog.cancel()
        raise AssertionError(f"the cluster did not come up: {(self.folder / 'cluster.log').read_text()}")


class FakeNode:
    """A socket that answers as it is told to: `answer` gets a datagram's bytes and returns what is sent back."""

    def __init__(self, answer: Callable[["FakeNode", bytes], List[bytes]]):
        self.answer = answer
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.packet = 0
        self.incarnation = 7
        self.cluster = CLUSTER
        self.credit_bytes = 1 << 24
        self.seen: List[Tuple[wire.Header, List[wire.Frame]]] = []
        self.is_over = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def __enter__(self) -> "FakeNode":
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over = True
        self.socket.sendto(b"", self.socket.getsockname())
        self.thread.join(5)
        self.socket.close()

    def _run(self) -> None:
        while True:
            data, sender = self.socket.recvfrom(65536)
            if self.is_over:
                return
            for datagram in self.answer(self, data):
                self.socket.sendto(datagram, sender)

    def read(self, data: bytes) -> Tuple[wire.Header, List[wire.Frame]]:
        seen = wire.judge(data, self.cluster)
        self.seen.append(seen)
        return seen

    def datagram(self, frames: List[wire.Frame], to: int = 0, tag: Optional[int] = None) -> bytes:
        """From this node to the client of incarnation `to`."""
        self.packet += 1
        flags = wire.ACK_ELICITING if any(f.type in wire.ELICITING for f in frames) else 0
        tag = wire.cluster_tag(self.cluster) if tag is None else tag
        header = wire.Header(1, ANY, self.incarnation, to, self.packet, flags, tag)
        return wire.encode(header, frames, self.cluster)

    def greet(self, data: bytes) -> Optional[List[bytes]]:
        """The answers of a handshake; None when the datagram is of an open link. [W-14], [W-17]"""
        header, frames = self.read(data)
        by_type = {frame.type: frame.values for frame in frames}
        if 3 in by_type:
            welcome = {"nonce_a": by_type[3]["nonce_a"], "incarnation": 3}
            return [self.datagram([wire.Frame(4, welcome)])]
        if 1 in by_type:
            ack = {
                **by_type[1], "nonce_b": 5, "store": bytes(16), "boot_nonce": bytes(16), "cluster": self.cluster,
                "datagram_bytes_max": 1200, "credit_bytes": self.credit_bytes,
            }  # fmt: skip
            return [self.datagram([wire.Frame(2, ack)], tag=0)]
        return None

    def requests(self) -> List[wire.Frame]:
        return [frame for _, frames in self.seen for frame in frames if frame.type in (0x10, 0x11)]
