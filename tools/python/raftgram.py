"""A client of raftgram's replicated key-value store, in the standard library alone (Python 3.9 and newer).

    import raftgram

    with raftgram.Client("127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103") as kv:
        kv.put("greeting", "hello")
        kv.get("greeting")                      # b"hello"
        kv.cas("greeting", "hello", "bonjour")  # Compared(done=True, ...), true when it took place
        for row in kv.list("gre"):
            print(row.key, row.value)
        for event in kv.watch("gre"):           # until it is broken off
            print(event.key, event.value)

A write takes effect once, however often it had to be sent and whoever led meanwhile: it has a number within a session
that the nodes keep. When a write's deadline passes after it was sent, nobody here can know whether it took effect, and
`OutcomeUnknown` says so; every other error means that it did not. Keys and values are bytes; `str` is sent as UTF-8.

Nodes that take sealed datagrams only are reached through a proxy on this machine that holds a key; this client holds
none, and names the proxy in the place of all nodes:

    raftgram proxy --key app.key --listen 127.0.0.1:7201 --upstream 10.0.0.1:7101,10.0.0.2:7101,10.0.0.3:7101

    with raftgram.Client("127.0.0.1:7201") as kv: ...

One operation runs at a time; a client may be shared by threads, which then wait for each other. Written against
wire-spec.md alone, with its bytes in `raftgram_wire.py` and its links in `raftgram_link.py`, which must lie beside.
"""

import contextlib
import dataclasses
import random
import socket
import threading
import time
from typing import Dict, Iterator, List, Optional, Sequence, Tuple, Type, Union

from raftgram_bodies import ROLES, decode_body, encode_body
from raftgram_fields import Malformed, Reader, Values, varint
from raftgram_link import CallRefused, Identity, Link, NoAnswer, OtherCluster

KEY_BYTES_MAX = 4096
VALUE_BYTES_MAX = 1 << 20
PAGE_ROWS, PAGE_BYTES = 1024, 1 << 18
HANDSHAKE_S = 1.0
NODES_MAX = 64
OPEN, CLOSE, PROPOSE, READ, STATUS, WATCH = 0x40, 0x41, 0x42, 0x43, 0x44, 0x4A
OPENED, CLOSED, APPLIED, READ_REPLY, STATUS_REPLY = 0x80, 0x81, 0x82, 0x83, 0x84
REDIRECT, BUSY, EXPIRED, SEQUENCE_FINISHED, TOO_LARGE, REFUSED = 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A
WATCHED, COMPACTED_REPLY = 0x91, 0x92
UNAVAILABLE = 3
WATCH_WAIT_S, WATCH_GRACE_S = 1.0, 0.5
LEVELS = {"linearizable": 0, "lease": 1, "local": 2}

Data = Union[str, bytes]


class RaftgramError(Exception):
    """What goes wrong here. Unless it is OutcomeUnknown, a write that raises it did not take effect."""


class Unreachable(RaftgramError):
    """No node answered; each is named with what came of it."""


class Sealed(Unreachable):
    """The nodes take sealed datagrams only: `raftgram proxy --key FILE` lets plain clients of its machine in."""


class NoLeader(RaftgramError):
    """Nodes answered, and none of them led before the deadline."""


class OutcomeUnknown(RaftgramError):
    """A write was sent and not answered: it may have taken effect or not. It is not sent any more, but a copy that is
    still on its way may take effect for a while."""


class SessionExpired(OutcomeUnknown):
    """The nodes no longer know the session that the write was sent in. The next write opens another."""


class WrongCluster(RaftgramError):
    """A node belongs to another cluster than was asked for, or than the nodes before."""


class TooLarge(RaftgramError):
    """The key or the value is larger than the store takes."""


class Refused(RaftgramError):
    """A node did not understand the request, or does not allow it."""


class Unreadable(RaftgramError):
    """The answer to a read is not what the wire's text allows."""


class Compacted(RaftgramError):
    """What a watch should go on with is no longer known: read the keys, and watch from there."""


@dataclasses.dataclass(frozen=True)
class Held:
    """What a key held: the value, and the log index it was written at. `value` is None for a long one that the answer
    to a write did not repeat."""

    index: int
    value: Optional[bytes]


@dataclasses.dataclass(frozen=True)
class Written:
    """A write took effect at this index and term; `previous` is what the key held before."""

    index: int
    term: int
    previous: Optional[Held]


@dataclasses.dataclass(frozen=True)
class Compared(Written):
    """A compare-and-set was carried out; `done` tells whether the key held what was expected."""

    done: bool

    def __bool__(self) -> bool:
        return self.done


@dataclasses.dataclass(frozen=True)
class Row:
    """A key with its value, and the log index it was written at."""

    key: bytes
    value: bytes
    index: int


@dataclasses.dataclass(frozen=True)
class Change:
    """What became of a key: `value` is None when it was deleted. The index is the entry's, to go on after."""

    key: bytes
    value: Optional[bytes]
    index: int
    term: int


@dataclasses.dataclass(frozen=True)
class NodeStatus:
    """What a node says of itself; `error` is why nothing is known, and then the rest is empty. `fields` has all that
    the wire tells, by the names of `raftgram_bodies.STATUS`."""

    address: str
    error: Optional[str] = None
    node: int = 0
    role: str = ""
    term: int = 0
    commit: int = 0
    applied: int = 0
    leader: int = 0
    fields: Values = dataclasses.field(default_factory=dict)


class Client:
    """A client of one cluster. `nodes` are any of its nodes as `host:port`, in a list or with commas between; a bare
    port is on this machine. `timeout` is each operation's, in seconds, unless it is given one of its own."""

    def __init__(
        self, nodes: Union[str, Sequence[str]], *, timeout: float = 10.0, cluster_id: Optional[str] = None
    ) -> None:
        names = nodes.split(",") if isinstance(nodes, str) else nodes
        self._nodes = [name.strip() for name in names if name.strip()]
        if not self._nodes:
            raise ValueError("no node is named")
        for name in self._nodes:
            _split(name)
        self._timeout = timeout
        cluster = None if cluster_id is None else bytes.fromhex(cluster_id)
        if cluster is not None and (len(cluster) != 16 or not any(cluster)):
            raise ValueError("a cluster id has 32 hexadecimal digits and is not 0")
        self._identity = Identity(cluster)
        self._links: Dict[str, Link] = {}
        self._leader: Optional[str] = None
        self._next = 0
        self._session = self._sequence = 0
        self._lock = threading.RLock()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def cluster_id(self) -> Optional[str]:
        """The cluster's id, once a node has told it."""
        return self._identity.cluster.hex() if self._identity.cluster else None

    def put(self, key: Data, value: Data, *, timeout: Optional[float] = None) -> Written:
        """Sets a key."""
        key, value = _key(key), _value(value)
        written = self._write(b"\0" + varint(len(key)) + key + value, timeout)
        return Written(written.index, written.term, written.previous)

    def delete(self, key: Data, *, timeout: Optional[float] = None) -> Written:
        """Removes a key; `previous` is None when there was none."""
        written = self._write(b"\1" + _key(key), timeout)
        return Written(written.index, written.term, written.previous)

    def cas(
        self, key: Data, old: Optional[Data], new: Data, *, timeout: Optional[float] = None
    ) -> Compared:
        """Sets a key if it holds `old`, or if it is absent where `old` is None. The answer is true when it did."""
        key, new = _key(key), _value(new)
        head = varint(len(key)) + key
        if old is None:
            return self._write(b"\3" + head + new, timeout)
        old = _value(old)
        return self._write(b"\2" + head + varint(len(old)) + old + new, timeout)

    def get(
        self, key: Data, *, level: str = "linearizable", timeout: Optional[float] = None
    ) -> Optional[bytes]:
        """A key's value, or None."""
        held = self.get_held(key, level=level, timeout=timeout)
        return held.value if held else None

    def get_held(
        self, key: Data, *, level: str = "linearizable", timeout: Optional[float] = None
    ) -> Optional[Held]:
        """A key's value with the index it was written at, or None. Level `local` is whatever the node that happens to
        be asked has applied, however old."""
        reader = self._read(b"\0" + _key(key), level, timeout)
        with _readable():
            kind = reader.uint(1)
            if kind == 0:
                return None
            if kind != 1:
                raise _refusal(reader) if kind == 4 else Malformed(f"a get was answered by {kind}")
            return Held(reader.varint(), reader.rest())

    def list(
        self, prefix: Data = b"", *, level: str = "linearizable", timeout: Optional[float] = None
    ) -> Iterator[Row]:
        """All keys that begin with the prefix, in the order of their bytes. They come in pages, each read at a moment
        of its own; the timeout is for one page."""
        prefix = _bytes(prefix)
        last: Optional[bytes] = None
        while True:
            head = bytes([1 if last is None else 2]) + varint(PAGE_ROWS) + varint(PAGE_BYTES)
            reader = self._read(head + varint(len(prefix)) + prefix + (last or b""), level, timeout)
            rows = []
            with _readable():
                kind = reader.uint(1)
                if kind not in (2, 3):
                    raise _refusal(reader) if kind == 4 else Malformed(f"a list was answered by {kind}")
                while reader.left():
                    key, value = reader.take(reader.varint()), reader.take(reader.varint())
                    rows.append(Row(key, value, reader.varint()))
            yield from rows
            if kind == 3 or not rows:
                return
            last = rows[-1].key

    def status(self, *, timeout: float = 1.0) -> List[NodeStatus]:
        """What each node says of itself, those that do not answer in time among them."""
        with self._lock:
            return [self._status(name, timeout) for name in list(self._nodes)]

    def close(self) -> None:
        """Closes the session, if a leader is quick to do so, and the sockets."""
        with self._lock:
            if self._session:
                body = encode_body({"kind": CLOSE, "session": self._session})
                self._session = 0
                try:
                    self._ask(body, True, time.monotonic() + 0.3, CLOSED)
                except (RaftgramError, OSError):
                    # It expires by itself.
                    pass
            for link in self._links.values():
                link.close()
            self._links = {}

    def watch(
        self, prefix: Data = b"", *, after: Optional[int] = None, timeout: Optional[float] = None
    ) -> Iterator[Change]:
        """What becomes of keys that begin with the prefix: from now on, or after the entry `after`. It goes on until it
        is broken off or `timeout` seconds brought no change; then it ends. `Compacted` says that what came after `after`
        is no longer known: read the keys, and watch after the index of that read. An operation of another thread
        waits meanwhile, for a second at most."""
        prefix = _key(prefix)
        if after is None:
            after = self._present(prefix, timeout)
        end = None if timeout is None else time.monotonic() + timeout
        while end is None or time.monotonic() < end:
            changes, after = self._watch_once(prefix, after, end)
            yield from changes
            if changes and timeout is not None:
                end = time.monotonic() + timeout

    # -- one request --

    def _present(self, prefix: bytes, timeout: Optional[float]) -> int:
        with self._lock:
            deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
            body = encode_body({"kind": READ, "level": 0, "query": b"\1\1\1" + varint(len(prefix)) + prefix})
            return int(self._ask(body, False, deadline, READ_REPLY)["index"])

    def _watch_once(self, prefix: bytes, after: int, end: Optional[float]) -> Tuple[List[Change], int]:
        """One question, which waits a second at most. [W-100] to [W-104]"""
        wait = WATCH_WAIT_S if end is None else max(0.0, min(WATCH_WAIT_S, end - time.monotonic()))
        watch = {"kind": WATCH, "after": after, "wait_us": int(wait * 1e6), "filter": prefix}
        with self._lock:
            oldest = 0
            for _ in range(len(self._nodes)):
                # A node that died is given up half a second after it should have answered, and another is asked.
                reply = self._ask_any(encode_body(watch), wait + WATCH_GRACE_S)
                if reply["kind"] == WATCHED:
                    with _readable():
                        return [_change(event) for event in reply["events"]], reply["through"]
                oldest, self._leader = reply["oldest"], None
                self._next += 1
        raise Compacted(f"what came after entry {after} is no longer known; the oldest to watch after is {oldest}")

    def _ask_any(self, body: bytes, patience: float) -> Values:
        """Asks node after node with this patience for each, until the client's timeout."""
        deadline = time.monotonic() + max(self._timeout, patience)
        while True:
            try:
                return self._ask(body, False, min(deadline, time.monotonic() + patience), WATCHED)
            except (Unreachable, NoLeader):
                if time.monotonic() >= deadline:
                    raise


    def _write(self, command: bytes, timeout: Optional[float]) -> Compared:
        """[W-48]"""
        with self._lock:
            deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
            if not self._session:
                opened = self._ask(encode_body({"kind": OPEN}), True, deadline, OPENED)
                self._session, self._sequence = opened["session"], 0
            self._sequence += 1
            propose = {
                "kind": PROPOSE, "session": self._session, "sequence": self._sequence, "command": command,
                "finished": [(1, self._sequence - 1)] if self._sequence > 1 else [],
            }  # fmt: skip
            applied = self._ask(encode_body(propose), True, deadline, APPLIED)
            try:
                return _result(applied)
            except Malformed as error:
                raise OutcomeUnknown(f"outcome unknown: the answer to the write cannot be read: {error}") from None

    def _read(self, query: bytes, level: str, timeout: Optional[float]) -> Reader:
        if level not in LEVELS:
            raise ValueError(f"the levels are {', '.join(LEVELS)}")
        with self._lock:
            deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
            body = encode_body({"kind": READ, "level": LEVELS[level], "query": query})
            return Reader(self._ask(body, False, deadline, READ_REPLY)["result"])

    def _status(self, name: str, timeout: float) -> NodeStatus:
        try:
            link = self._link(name)
            deadline = time.monotonic() + timeout
            link.open(deadline)
            fields = decode_body(link.call(encode_body({"kind": STATUS}), False, deadline))
        except (NoAnswer, CallRefused, OtherCluster, OSError, Malformed) as error:
            return NodeStatus(name, error=str(error))
        if fields["kind"] != STATUS_REPLY:
            return NodeStatus(name, error="it answered something else")
        known = {key: fields[key] for key in ("node", "term", "commit", "applied", "leader")}
        return NodeStatus(name, None, role=ROLES[fields["role"]], fields=fields, **known)

    def _ask(self, body: bytes, is_once: bool, deadline: float, wanted: int) -> Values:
        """Asks one node after another until one answers as wanted. [W-49]"""
        attempt = _Attempt(self._nodes, is_write=body[0] == PROPOSE)
        while True:
            name = self._leader or self._nodes[self._next % len(self._nodes)]
            try:
                link = self._link(name)
                link.open(min(deadline, time.monotonic() + HANDSHAKE_S))
                reply = decode_body(link.call(body, is_once, deadline))
            except OtherCluster as error:
                attempt.raise_if_sent(f"{name}: {error}")
                raise WrongCluster(f"{name}: {error}") from None
            except CallRefused as error:
                if error.reason in (3, 4):
                    raise TooLarge(f"{name} refused the call: {error}") from None
                link.is_open = link.is_open and error.reason != 2
                attempt.note(name, f"the call was refused: {error}", answered=True)
            except Malformed as error:
                attempt.note(name, f"its answer cannot be read: {error}", maybe=True)
            except NoAnswer as error:
                attempt.note(name, str(error), maybe=error.was_sent, sealed=link.seal_refusal == 1)
            except OSError as error:
                attempt.note(name, str(error))
            else:
                if reply["kind"] == wanted or (wanted, reply["kind"]) == (WATCHED, COMPACTED_REPLY):
                    # Whoever answers what only a leader does leads; a local read tells nothing.
                    if wanted not in (READ_REPLY, WATCHED) or self._leader:
                        self._leader = name
                    return reply
                self._other_reply(name, reply, attempt)
                if reply["kind"] == REDIRECT and self._leader not in (None, name):
                    if attempt.follow():
                        continue
            self._try_next(name, attempt, deadline)

    def _other_reply(self, name: str, reply: Values, attempt: "_Attempt") -> None:
        kind = reply["kind"]
        if kind == REDIRECT:
            self._leader = reply["address"]
            if self._leader and self._leader not in self._nodes and len(self._nodes) < NODES_MAX:
                # It may be the only one that is left when those that were given have gone.
                self._nodes.append(self._leader)
            attempt.note(name, "it does not lead", answered=True)
        elif kind == BUSY:
            attempt.wait_s = reply["retry_after_us"] / 1e6
            attempt.note(name, "it is busy", answered=True)
        elif kind == EXPIRED:
            self._session = 0
            raise SessionExpired("the session has expired: whether the write took effect is unknown")
        elif kind == TOO_LARGE:
            attempt.raise_if_sent(f"{name} takes no command of this size")
            raise TooLarge(f"a command has at most {reply['bytes_max']} bytes")
        elif kind == REFUSED and reply["code"] != UNAVAILABLE:
            attempt.raise_if_sent(f"{name} refused: {reply['text'] or reply['code']}")
            raise Refused(f"{name} refused: {reply['text'] or reply['code']}")
        elif kind == REFUSED:
            attempt.note(name, f"unavailable: {reply['text']}", answered=True)
        else:
            attempt.note(name, f"it answered something else ({kind:02x})", maybe=True)

    def _try_next(self, name: str, attempt: "_Attempt", deadline: float) -> None:
        """After an attempt that brought nothing: another node, after a while."""
        if self._leader == name or self._leader is None:
            self._leader = None
            self._next += 1
        left = deadline - time.monotonic()
        if left <= 0:
            raise attempt.error()
        time.sleep(min(left, attempt.pause()))

    def _link(self, name: str) -> Link:
        link = self._links.get(name)
        if link is None:
            host, port = _split(name)
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            link = self._links[name] = Link(address, family, self._identity)
        return link


class _Attempt:
    """What came of an operation so far."""

    def __init__(self, nodes: List[str], is_write: bool) -> None:
        self.notes: Dict[str, str] = dict.fromkeys(nodes, "not asked")
        self.is_write = is_write
        self.began = time.monotonic()
        self.maybe = self.answered = False
        self.sealed = 0
        self.tries = self.followed = 0
        self.wait_s = 0.0

    def note(self, name: str, what: str, answered: bool = False, maybe: bool = False, sealed: bool = False) -> None:
        # The last attempt before a deadline has little time, and then little to tell.
        if what != "no answer" or self.notes.get(name) in (None, "not asked"):
            self.notes[name] = what
        self.answered, self.maybe = self.answered or answered, self.maybe or maybe
        self.sealed += sealed

    def follow(self) -> bool:
        """True while it is worth going on to the leader at once: two nodes may send a client to and fro."""
        self.followed += 1
        return self.followed % 3 != 0

    def pause(self) -> float:
        self.tries += 1
        pause = max(self.wait_s, min(0.005 * 1.5**self.tries, 0.2))
        self.wait_s = 0.0
        return pause * random.uniform(0.75, 1.25)

    def raise_if_sent(self, why: str) -> None:
        if self.is_write and self.maybe:
            raise OutcomeUnknown(f"outcome unknown: {why}, and an earlier attempt was not answered")

    def error(self) -> RaftgramError:
        spent = f"after {time.monotonic() - self.began:.1f} s"
        said = "; ".join(f"{name}: {what}" for name, what in self.notes.items())
        kind: Type[RaftgramError] = NoLeader if self.answered else Unreachable
        if self.is_write and self.maybe:
            return OutcomeUnknown(f"outcome unknown {spent}: the write was sent and not answered ({said})")
        if self.sealed and not self.answered:
            return Sealed(
                f"no answer {spent}: the cluster is sealed, and this client holds no key; it can be reached through a "
                f"proxy that does ({said})"
            )
        return kind(f"{'no leader answered' if self.answered else 'no node answered'} {spent} ({said})")


def _split(name: str) -> Tuple[str, int]:
    host, colon, port = name.rpartition(":")
    if not port.isdigit() or not 0 < int(port) < 65536 or colon and not host:
        raise ValueError(f"`{name}` is no address: host:port, [IPv6]:port or a port")
    return host.strip("[]") or "127.0.0.1", int(port)


def _bytes(data: Data) -> bytes:
    return data.encode() if isinstance(data, str) else bytes(data)


def _key(data: Data) -> bytes:
    key = _bytes(data)
    if len(key) > KEY_BYTES_MAX:
        raise TooLarge(f"a key has at most {KEY_BYTES_MAX} bytes, not {len(key)}")
    return key


def _value(data: Data) -> bytes:
    value = _bytes(data)
    if len(value) > VALUE_BYTES_MAX:
        raise TooLarge(f"a value has at most {VALUE_BYTES_MAX} bytes, not {len(value)}")
    return value


def _change(event: Values) -> Change:
    """[W-104]"""
    reader = Reader(event["event"])
    verb = reader.uint(1)
    if verb == 0:
        key = reader.take(reader.varint())
        return Change(key, reader.rest(), event["index"], event["term"])
    if verb == 1:
        return Change(reader.rest(), None, event["index"], event["term"])
    raise Malformed(f"an event of kind {verb}")


def _result(applied: Values) -> Compared:
    """Section 12."""
    reader = Reader(applied["result"])
    outcome = reader.uint(1)
    if outcome == 2:
        raise _refusal(reader)
    held = reader.uint(1)
    previous: Optional[Held] = None
    if held:
        index = reader.varint()
        previous = Held(index, reader.take(reader.varint()) if held == 2 else None)
    return Compared(applied["index"], applied["term"], previous, outcome == 0)


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except Malformed as error:
        raise Unreadable(f"the answer cannot be read: {error}") from None


def _refusal(reader: Reader) -> RaftgramError:
    why = reader.uint(1)
    if why in (1, 2):
        return TooLarge(f"the store takes no {'key' if why == 1 else 'value'} of {reader.varint()} bytes")
    return Refused("the store did not understand the command")
