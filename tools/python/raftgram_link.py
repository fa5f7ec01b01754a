"""One client's link to one raftgram node over UDP: handshake, packet numbers, acknowledgements, calls.

Written against wire-spec.md alone; `[W-n]` names its rules. A link does nothing by itself: it lives while `open` or
`call` runs. Between them its socket keeps what arrives.
"""

import collections
import random
import secrets
import socket
import time
from typing import Deque, Dict, List, NamedTuple, Optional, Set, Tuple

import raftgram_wire as wire
from raftgram_fields import ANY, RANGES_MAX, Ranges, Values
from raftgram_wire import Dropped, Frame, Header

DATAGRAM_BYTES = 1200
PART_BYTES = 1120
"""The largest part of a body that fits a datagram whatever the ids."""
RECEIVE_BYTES = 65507
CREDIT_BYTES = 16 << 20
FLIGHT_MAX = 64
"""Datagrams under way at once."""
HELLO_BYTES = 256
WINDOW = 2048
HELLO, HELLO_ACK, CONFIRM, WELCOME, VERSIONS, STALE, ACK, CREDIT, PROBE = 1, 2, 3, 4, 5, 6, 7, 8, 9
SEAL_REFUSED, FINISHED, REPLY, REPLY_PART, CALL_REFUSED = 0x0B, 0x17, 0x14, 0x15, 0x18
TIMER_S = 0.002
"""By how much timers may be late."""
SILENCE_S = 1.0
"""A node that is asked and says nothing for so long is taken for dead."""
PATIENCE_S = 2.0
"""A node that lives and gets no further with a call for so long is taken for one that cannot."""


class NoAnswer(Exception):
    """The node did not answer. `was_sent` tells whether it may have got the question."""

    def __init__(self, why: str, was_sent: bool):
        super().__init__(why)
        self.was_sent = was_sent


class CallRefused(Exception):
    """The node refused to carry the call out."""

    def __init__(self, reason: int):
        super().__init__(wire.CALL_REFUSALS.get(reason, f"refusal {reason}"))
        self.reason = reason


class OtherCluster(Exception):
    """The node belongs to another cluster than the client. [W-26]"""


class Identity:
    """What all links of a client share."""

    def __init__(self, cluster: Optional[bytes]):
        self.cluster = cluster
        self.expected = cluster or bytes(16)
        self.boot_nonce = secrets.token_bytes(16)
        self.calls = 0

    def next_call(self) -> int:
        """[W-35]"""
        self.calls += 1
        return self.calls


class Seen:
    """The packet numbers that were accepted. [W-28]"""

    def __init__(self) -> None:
        self.ranges: Ranges = []

    def __contains__(self, number: int) -> bool:
        highest = self.ranges[0][1] if self.ranges else 0
        return number <= highest - WINDOW or any(low <= number <= high for low, high in self.ranges)

    def add(self, number: int) -> None:
        merged: Ranges = []
        low = high = number
        for a, b in self.ranges:
            if b + 1 < low or high + 1 < a:
                merged.append((a, b))
            else:
                low, high = min(a, low), max(b, high)
        floor = max(high, merged[0][1] if merged else 0) - WINDOW
        self.ranges = sorted((r for r in [*merged, (low, high)] if r[1] > floor), reverse=True)


class Flight(NamedTuple):
    sent_at: float
    frames: List[Frame]


class Reply:
    """A reply that arrives whole or in parts. [W-40]"""

    def __init__(self) -> None:
        self.body: Optional[bytes] = None
        self.refusal: Optional[int] = None
        self.data = bytearray()
        self.there: Ranges = []
        self.bytes = 0

    def part(self, values: Values) -> None:
        total, offset, part = values["total_bytes"], values["offset"], values["part"]
        if self.body is not None or self.data and len(self.data) != total:
            return
        if not self.data:
            self.data = bytearray(total)
        self.data[offset : offset + len(part)] = part
        self.there.append((offset, offset + len(part)))
        self.bytes += len(part)
        if self.bytes >= total:
            self._join()

    def _join(self) -> None:
        joined: Ranges = []
        for low, high in sorted(self.there):
            if joined and low <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
            else:
                joined.append((low, high))
        self.there, self.bytes = joined, sum(high - low for low, high in joined)
        if joined == [(0, len(self.data))]:
            self.body = bytes(self.data)


class Link:
    """A link to the node at one address."""

    def __init__(self, address: Tuple, family: int, identity: Identity):
        self.identity = identity
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.connect(address)
        self.packet = 0
        self.node = ANY
        self.incarnation = 0
        self.node_boot: Tuple[int, bytes] = (0, b"")
        self.is_open = False
        self.seen = Seen()
        self.flights: Dict[int, Flight] = {}
        self.largest_acked = 0
        self.srtt: Optional[float] = None
        self.rttvar = 0.0
        self.given_up: Set[int] = set()
        self.answer: Optional[Values] = None
        self.is_welcome = False
        self.is_doubted = False
        self.nonce_a: Optional[int] = None
        self.call_id = self.first_packet = 0
        self.reply = Reply()
        self.heard_at = self.progress_at = 0.0
        self.highest_at = 0.0
        self.is_ack_due = False
        self.is_refused = False
        self.is_blank = False
        self.credit = 0
        self.seal_refusal: Optional[int] = None
        self.drops: Dict[str, int] = collections.Counter()

    def close(self) -> None:
        self.socket.close()

    # -- handshake --

    def open(self, until: float) -> None:
        """Opens the link unless it is open. [W-16], [W-17], [W-19]"""
        while not self.is_open:
            if time.monotonic() >= until:
                raise NoAnswer(self._silence(), was_sent=False)
            self._greet(min(until, time.monotonic() + 2.0))

    def _greet(self, until: float) -> None:
        self.nonce_a = secrets.randbits(64)
        self.answer, self.is_welcome, self.is_refused = None, False, False
        hello = Frame(HELLO, {"nonce_a": self.nonce_a, **self._description()})
        # A copy is due after a wait; the first confirm at once.
        wait, due, was_answered = 0.05, 0.0, False
        while not self.is_welcome:
            now = time.monotonic()
            if now >= until:
                return
            if self.answer and not was_answered:
                was_answered, wait, due = True, 0.05, now
                boot = (self.answer["incarnation"], self.answer["boot_nonce"])
                if self.incarnation and boot != self.node_boot:
                    self._forget_pair()
                    return
            if now >= due:
                self._send_greeting(hello)
                due, wait = now + wait, min(1.5 * wait, 1.0)
            self._turn(min(until, due))
            if self.is_refused:
                raise NoAnswer("connection refused", was_sent=False)
        assert self.answer is not None
        self.node_boot = (self.answer["incarnation"], self.answer["boot_nonce"])
        self.is_open, self.nonce_a, self.credit = True, None, self.answer["credit_bytes"]

    def _description(self) -> Values:
        return {
            "version_min": 1, "version_max": 1, "features": 0, "store": bytes(16),
            "boot_nonce": self.identity.boot_nonce, "cluster": self.identity.expected, "election_timeout_min_us": 0,
            "election_timeout_max_us": 0, "heartbeat_us": 0, "datagram_bytes_max": RECEIVE_BYTES,
            "credit_bytes": CREDIT_BYTES, "greeting": None,
        }  # fmt: skip

    def _send_greeting(self, hello: Frame) -> None:
        """A hello under tag 0, or hello and confirm under the cluster's. [W-14]"""
        if self.answer is None:
            return self._send([hello], tag=0, pad=True, to=(ANY, 0))
        confirm = Frame(CONFIRM, {"nonce_a": self.nonce_a, "nonce_b": self.answer["nonce_b"]})
        self._send([hello, confirm], pad=True, to=(self.answer["node"], self.answer["incarnation"]))

    def _forget_pair(self) -> None:
        """The node is another boot: the client starts again from incarnation 0. [W-19]"""
        self.incarnation, self.is_open, self.seen = 0, False, Seen()
        self.node_boot = (0, b"")
        self.flights, self.largest_acked, self.given_up = {}, self.packet, set()

    # -- calls --

    def call(self, body: bytes, is_once: bool, until: float) -> bytes:
        """Asks, and returns the reply's body. Raises NoAnswer or CallRefused. [W-36]"""
        if len(body) > max(self.credit, PART_BYTES):
            # [W-40]: the node would refuse it.
            raise CallRefused(3)
        self.call_id, self.reply = self.identity.next_call(), Reply()
        self.flights, boot, self.is_refused, self.first_packet = {}, self.node_boot, False, self.packet + 1
        queue: Deque[List[Frame]] = collections.deque([f] for f in self._cut(body, is_once))
        if self.given_up:
            queue.appendleft([Frame(FINISHED, {"calls": _as_ranges(self.given_up)})])
        probes = 0
        self.heard_at = self.progress_at = time.monotonic()
        while self.reply.body is None and self.reply.refusal is None:
            now = time.monotonic()
            self._give_up_when(now, until, boot)
            while queue and len(self.flights) < FLIGHT_MAX:
                self._send(queue.popleft())
            due = self._probe_due(probes)
            heard_at = self.heard_at
            self._turn(min(until, due, self.heard_at + SILENCE_S, self.progress_at + PATIENCE_S))
            queue.extend(self._lost())
            if self.heard_at != heard_at:
                probes = 0
            elif time.monotonic() >= due:
                probes += 1
                oldest = [self.flights.pop(number).frames for number in sorted(self.flights)[:2]]
                queue.extendleft(reversed(oldest or [[Frame(PROBE, {"bytes": b""})]]))
        self.flights = {}
        if self.reply.refusal is not None:
            raise CallRefused(self.reply.refusal)
        assert self.reply.body is not None
        return self.reply.body

    def _give_up_when(self, now: float, until: float, boot: Tuple[int, bytes]) -> None:
        """Ends the call when there is no use in waiting for it. [W-23], [W-39]"""
        if self.is_doubted:
            self.is_doubted, self.is_open = False, False
            try:
                self.open(min(until, now + SILENCE_S))
            except NoAnswer as error:
                raise NoAnswer(str(error), was_sent=True) from None
        why = None
        if self.node_boot != boot:
            raise NoAnswer("the node was started again", was_sent=True)
        if self.is_refused:
            why = "connection refused"
        elif now >= until or now >= self.heard_at + SILENCE_S:
            why = self._silence()
        elif now >= self.progress_at + PATIENCE_S:
            why = "the node is there and does not answer the call"
        if why:
            self.given_up = set(sorted({*self.given_up, self.call_id})[-RANGES_MAX:])
            self.is_open = self.is_open and now < self.heard_at + SILENCE_S and not self.is_refused
            raise NoAnswer(why, was_sent=self.packet >= self.first_packet)

    def _cut(self, body: bytes, is_once: bool) -> List[Frame]:
        """[W-11], [W-40]"""
        if len(body) <= PART_BYTES:
            return [Frame(0x11 if is_once else 0x10, {"call": self.call_id, "body": body})]
        kind = 0x13 if is_once else 0x12
        part = {"call": self.call_id, "total_bytes": len(body)}
        return [
            Frame(kind, {**part, "offset": at, "part": body[at : at + PART_BYTES]})
            for at in range(0, len(body), PART_BYTES)
        ]

    def _probe_due(self, probes: int) -> float:
        """When the probe timeout passes; with nothing under way, when the node is asked whether it lives. [W-31]"""
        if not self.flights:
            return self.heard_at + SILENCE_S / 4 * (1 + probes)
        srtt = 0.01 if self.srtt is None else self.srtt
        var = srtt / 2 if self.srtt is None else self.rttvar
        base = (srtt + max(4 * var, TIMER_S)) * random.uniform(0.75, 1.25)
        last = max(flight.sent_at for flight in self.flights.values())
        return last + min(base * 1.5 ** max(0, probes - 1), 1.0)

    def _lost(self) -> List[List[Frame]]:
        """Takes what is lost out of the flights. [W-31]"""
        late = time.monotonic() - (9 / 8 * (self.srtt or 0.01) + TIMER_S)
        lost = [
            number for number, flight in sorted(self.flights.items())
            if number + 3 <= self.largest_acked or number < self.largest_acked and flight.sent_at < late
        ]  # fmt: skip
        # Probes are not sent again.
        again = (self.flights.pop(number).frames for number in lost)
        return [frames for frames in again if frames[0].type != PROBE]

    # -- datagrams --

    def _send(self, frames: List[Frame], tag: Optional[int] = None, pad: bool = False,
              to: Optional[Tuple[int, int]] = None) -> None:  # fmt: skip
        self.packet += 1
        cluster = self.identity.cluster or bytes(16)
        is_eliciting = any(frame.type in wire.ELICITING for frame in frames)
        flags = wire.CLIENT | (wire.ACK_ELICITING if is_eliciting else 0)
        flags |= wire.PROBE if any(frame.type == PROBE for frame in frames) else 0
        node, boot = to or (self.node, self.node_boot[0])
        tag = wire.cluster_tag(cluster) if tag is None else tag
        header = Header(ANY, node, self.incarnation, boot, self.packet, flags, tag)
        datagram = wire.encode(header, frames, cluster)
        if pad and len(datagram) < HELLO_BYTES:
            # Padding's own head is 2 bytes, or 3 when it is longer than 63.
            missing = max(HELLO_BYTES - len(datagram) - 2, 0)
            padding = Frame(0, {"bytes": bytes(missing - 1 if missing > 64 else missing)})
            datagram = wire.encode(header, [*frames, padding], cluster)
        if is_eliciting:
            self.flights[self.packet] = Flight(time.monotonic(), frames)
        # The first attempt may report what an earlier datagram met, and then sends nothing.
        for _ in range(2):
            try:
                self.socket.send(datagram)
                break
            except OSError:
                # Full buffers and the like: as good as lost on the way.
                continue

    def _turn(self, until: float) -> None:
        """Waits for datagrams, reads those that are there, and acknowledges them. [W-29]"""
        self.socket.settimeout(max(until - time.monotonic(), 0.0))
        for _ in range(FLIGHT_MAX):
            try:
                data = self.socket.recv(65536)
            except ConnectionRefusedError:
                self.is_refused = True
                break
            except OSError:
                break
            finally:
                self.socket.setblocking(False)
            try:
                self._read(data)
            except Dropped as dropped:
                self.drops[dropped.reason] += 1
        if self.is_ack_due:
            self.is_ack_due = False
            delay_us = int((time.monotonic() - self.highest_at) * 1e6)
            self._send([Frame(ACK, {"delay_us": delay_us, "packets": self.seen.ranges[:RANGES_MAX]})])

    def _read(self, data: bytes) -> None:
        receiver = wire.Receiver(
            ANY, self.incarnation, self.node_boot[0], self.seen.__contains__, RECEIVE_BYTES, CREDIT_BYTES
        )
        header, frames = wire.judge(data, self.identity.cluster or bytes(16), receiver)
        now = time.monotonic()
        sender = (header.source, header.source_incarnation)
        is_of_link = self.incarnation != 0 and sender == (self.node, self.node_boot[0])
        if is_of_link:
            if not self.seen.ranges or header.packet > self.seen.ranges[0][1]:
                self.highest_at = now
            self.seen.add(header.packet)
            self.heard_at = now
            self.is_ack_due = self.is_ack_due or bool(header.flags & wire.ACK_ELICITING)
        for frame in frames:
            self._handle(frame, header, now)

    def _handle(self, frame: Frame, header: Header, now: float) -> None:
        values = frame.values
        if frame.type == HELLO_ACK and values["nonce_a"] == self.nonce_a and self.answer is None:
            if self._is_of_cluster(values["cluster"]):
                self.answer = {**values, "node": header.source, "incarnation": header.source_incarnation}
        elif frame.type == WELCOME and values["nonce_a"] == self.nonce_a and self.answer and not self.is_welcome:
            if header.source_incarnation == self.answer["incarnation"]:
                self.is_welcome, self.node, self.incarnation = True, header.source, values["incarnation"]
        elif frame.type == STALE:
            self.is_doubted = self.is_open and header.source == self.node
        elif frame.type == SEAL_REFUSED:
            self.seal_refusal = values["reason"]
        elif frame.type == VERSIONS:
            self.drops[f"it speaks versions {values['min']} to {values['max']}, not 1"] += 1
        elif frame.type == CREDIT:
            self.credit = max(self.credit, values["bytes_total"])
        elif frame.type == ACK:
            self._acked(values, now)
        elif frame.type in (REPLY, REPLY_PART, CALL_REFUSED) and values["call"] == self.call_id:
            if frame.type == REPLY:
                self.reply.body = values["body"]
            elif frame.type == REPLY_PART:
                self.reply.part(values)
                self.progress_at = now
            else:
                self.reply.refusal = values["reason"]

    def _is_of_cluster(self, cluster: bytes) -> bool:
        """[W-26]"""
        self.is_blank = not any(cluster)
        if self.is_blank:
            return False
        self.identity.cluster = self.identity.cluster or cluster
        if cluster != self.identity.cluster:
            raise OtherCluster(f"the node is of cluster {cluster.hex()}, not {self.identity.cluster.hex()}")
        return True

    def _acked(self, values: Values, now: float) -> None:
        largest = values["packets"][0][1]
        flight = self.flights.get(largest)
        if flight:
            sample = max(now - flight.sent_at - values["delay_us"] / 1e6, 1e-6)
            if self.srtt is None:
                self.srtt, self.rttvar = sample, sample / 2
            else:
                self.rttvar += (abs(self.srtt - sample) - self.rttvar) / 4
                self.srtt += (sample - self.srtt) / 8
        self.largest_acked = max(self.largest_acked, largest)
        for low, high in values["packets"]:
            for number in [n for n in self.flights if low <= n <= high]:
                for frame in self.flights.pop(number).frames:
                    if frame.type != PROBE:
                        self.progress_at = now
                    if frame.type == FINISHED:
                        self.given_up -= {n for a, b in frame.values["calls"] for n in range(a, b + 1)}

    def _silence(self) -> str:
        """What can be said of a node that did not answer."""
        if self.is_blank:
            return "it belongs to no cluster yet"
        if self.seal_refusal is not None:
            return {1: "it takes sealed datagrams only", 3: "it takes no sealed datagrams"}.get(
                self.seal_refusal, "it refused the seal"
            )
        garbage = ", ".join(f"{count} {reason}" for reason, count in sorted(self.drops.items()))
        return f"no answer but datagrams that were dropped ({garbage})" if garbage else "no answer"


def _as_ranges(numbers: Set[int]) -> Ranges:
    found: Ranges = []
    for number in sorted(numbers, reverse=True):
        if found and found[-1][0] == number + 1:
            found[-1] = (number, found[-1][1])
        else:
            found.append((number, number))
    return found
