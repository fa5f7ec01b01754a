"""The bytes of raftgram datagrams, as wire-spec.md describes them: decoding, encoding, and the reasons for a drop.

Written against wire-spec.md alone; `[W-n]` names its rules. Nothing here does I/O. `raftgram.py` is the client on
top of it, `scapy_raftgram.py` the scapy layer. `judge` says what a receiver makes of a datagram, and `fields` what it
holds, as text by name.
"""

import dataclasses
import struct
from typing import Callable, Dict, FrozenSet, Iterable, List, Optional, Tuple

from raftgram_bodies import HASH32, HASH64, body_fields
from raftgram_fields import (
    ANY, Bytes, Enum, Kind, Malformed, RangesKind, Reader, Rest, RestLength, Schema, UInt, Values, Varint, crc32, read,
    show, varint, write,
)  # fmt: skip

HEADER_BYTES = 32
MAGIC = b"\xa7\x52"
VERSION = 1
PACKET_MAX = (1 << 62) - 1

SEALED, ACK_ELICITING, PROBE, CLIENT, KEY_PHASE = 0x01, 0x02, 0x04, 0x08, 0x10
FLAG_NAMES = ((SEALED, "sealed"), (ACK_ELICITING, "ack-eliciting"), (PROBE, "probe"), (CLIENT, "client"),
              (KEY_PHASE, "key-phase"))  # fmt: skip



class Dropped(Exception):
    """A datagram that a receiver drops; `reason` is one of section 3."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


# -- frames -----------------------------------------------------------------------------------------------------------


class Greeting(Kind):
    """Plain (`None`), or founding with a digest. [W-25]"""

    def read(self, reader: Reader, before: Values) -> Optional[int]:
        value = reader.uint(1)
        if value > 1:
            raise Malformed("an unknown greeting")
        return reader.uint(8) if value else None

    def write(self, value: Optional[int], values: Values) -> bytes:
        return b"\0" if value is None else b"\1" + value.to_bytes(8, "big")

    def show(self, name: str, value: Optional[int]) -> Dict[str, str]:
        return {name: "plain" if value is None else f"founding {value:016x}"}


class Body(Rest):
    def show(self, name: str, value: bytes) -> Dict[str, str]:
        return {f"{name}.{key}": text for key, text in body_fields(value).items()}


class Part(Rest):
    """[W-13]"""

    def read(self, reader: Reader, before: Values) -> bytes:
        part = reader.rest()
        if not part or before["offset"] + len(part) > before["total_bytes"]:
            raise Malformed("a fragment of nothing, or past its total")
        return part


DESCRIPTION: Schema = (
    ("version_min", UInt(1)), ("version_max", UInt(1)), ("features", HASH64), ("store", Bytes(16)),
    ("boot_nonce", Bytes(16)), ("cluster", Bytes(16)), ("election_timeout_min_us", Varint()),
    ("election_timeout_max_us", Varint()), ("heartbeat_us", Varint()), ("datagram_bytes_max", UInt(2)),
    ("credit_bytes", Varint()), ("greeting", Greeting()),
)  # fmt: skip
NONCES: Schema = (("nonce_a", HASH64), ("nonce_b", HASH64))
REQUEST: Schema = (("call", Varint()), ("body", Body()))
FRAGMENT: Schema = (("call", Varint()), ("total_bytes", Varint()), ("offset", Varint()), ("part", Part()))
CALL_REFUSALS = {1: "busy", 2: "link unknown", 3: "too large", 4: "reply too large"}
SEAL_REFUSALS = {1: "seal required", 2: "key unknown", 3: "no seal"}
FRAMES: Dict[int, Tuple[str, Schema]] = {
    0x00: ("padding", (("bytes", RestLength()),)),
    0x01: ("hello", (("nonce_a", HASH64),) + DESCRIPTION),
    0x02: ("hello-ack", NONCES + DESCRIPTION),
    0x03: ("confirm", NONCES),
    0x04: ("welcome", (("nonce_a", HASH64), ("incarnation", UInt(4)))),
    0x05: ("version", (("min", UInt(1)), ("max", UInt(1)))),
    0x06: ("stale-incarnation", (("current", UInt(4)),)),
    0x07: ("ack", (("delay_us", Varint()), ("packets", RangesKind()))),
    0x08: ("credit", (("bytes_total", Varint()),)),
    0x09: ("mtu-probe", (("bytes", RestLength()),)),
    0x0A: ("seal", (("session", HASH32), ("message", Bytes(48)))),
    0x0B: ("seal-refused", (("reason", Enum(SEAL_REFUSALS, "refusal {}")),)),
    0x10: ("request", REQUEST),
    0x11: ("request", REQUEST),
    0x12: ("request-fragment", FRAGMENT),
    0x13: ("request-fragment", FRAGMENT),
    0x14: ("reply", REQUEST),
    0x15: ("reply-fragment", FRAGMENT),
    0x16: ("cancel", (("call", Varint()),)),
    0x17: ("finished", (("calls", RangesKind()),)),
    0x18: ("call-refused", (("call", Varint()), ("reason", Enum(CALL_REFUSALS, "refusal {}")))),
    0x19: ("notice", (("body", Body()),)),
}
CLASSES = {0x10: "again", 0x11: "once", 0x12: "again", 0x13: "once"}
ELICITING = frozenset([0x08, 0x09, *range(0x10, 0x19)])
"""Frames that make a datagram ACK_ELICITING. [W-30]"""
HANDSHAKE = frozenset([0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0A, 0x0B])
"""What is read where no link is open. [W-15]"""
TAG_0 = frozenset([0x00, 0x01, 0x02, 0x05, 0x0B])
"""What a founded end takes under no cluster. [W-14]"""


@dataclasses.dataclass
class Frame:
    type: int
    values: Values
    trailing: bytes = b""
    """What later versions put behind the last field. [W-10]"""


def split_frames(data: bytes) -> Iterable[Tuple[int, bytes]]:
    """[W-7]"""
    reader = Reader(data)
    while reader.left():
        kind = reader.uint(1)
        yield kind, reader.take(reader.varint())


def decode_frame(kind: int, body: bytes) -> Frame:
    if kind not in FRAMES:
        return Frame(kind, {"body": body})
    reader = Reader(body)
    values = read(FRAMES[kind][1], reader)
    return Frame(kind, values, reader.rest())


def encode_frame(frame: Frame) -> bytes:
    schema = FRAMES[frame.type][1] if frame.type in FRAMES else (("body", Rest()),)
    body = write(schema, frame.values) + frame.trailing
    return bytes([frame.type]) + varint(len(body)) + body


def decode_frames(data: bytes) -> List[Frame]:
    """All of them, or the reason for which the datagram is dropped. [W-8]"""
    try:
        frames = [decode_frame(kind, body) for kind, body in split_frames(data)]
    except Malformed:
        raise Dropped("malformed_frame") from None
    if any(frame.type not in FRAMES and frame.type < 0x80 for frame in frames):
        raise Dropped("unknown_critical_frame")
    return frames


def frame_fields(frame: Frame) -> Dict[str, str]:
    if frame.type not in FRAMES:
        how = "ignorable" if frame.type & 0x80 else "critical"
        return {"type": f"unknown-{how} {frame.type:02x}", "body": frame.values["body"].hex()}
    name, schema = FRAMES[frame.type]
    kind = {"class": CLASSES[frame.type]} if frame.type in CLASSES else {}
    return {"type": name, **kind, **show(schema, frame.values)}


# -- datagrams --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Header:
    """Section 2. `crc` is computed when a datagram is encoded."""

    source: int
    destination: int
    source_incarnation: int
    destination_incarnation: int
    packet: int
    flags: int = 0
    cluster_tag: int = 0
    crc: int = 0
    version: int = VERSION


LAYOUT = struct.Struct(">2sBBIIHHIIQ")


def cluster_tag(cluster: bytes) -> int:
    """What stands in the header; 0 where no cluster is known."""
    return crc32(cluster) if any(cluster) else 0


def checksum(data: bytes, cluster: bytes) -> int:
    """[W-4]"""
    known = cluster if any(data[8:12]) else bytes(16)
    return crc32(known + data[:4] + data[8:] + len(data).to_bytes(4, "big"))


def encode(header: Header, frames: Iterable[Frame], cluster: bytes) -> bytes:
    """A datagram in plain; its tag is the header's, its crc that of the cluster."""
    h = header
    head = (MAGIC, h.version, h.flags, 0, h.cluster_tag, h.source, h.destination, h.source_incarnation,
            h.destination_incarnation, h.packet)  # fmt: skip
    data = LAYOUT.pack(*head) + b"".join(map(encode_frame, frames))
    return data[:4] + checksum(data, cluster).to_bytes(4, "big") + data[8:]


def parse_header(data: bytes) -> Header:
    """[W-2], the first rows."""
    if len(data) < HEADER_BYTES:
        raise Dropped("short")
    magic, version, flags, crc, tag, source, destination, from_boot, to_boot, packet = LAYOUT.unpack_from(data)
    if magic != MAGIC:
        raise Dropped("magic")
    if version != VERSION:
        raise Dropped("version")
    if source == 0 or destination == 0:
        raise Dropped("destination")
    return Header(source, destination, from_boot, to_boot, packet, flags, tag, crc, version)


@dataclasses.dataclass
class Receiver:
    """What a receiver is and has seen on its link to the source. `node` is ANY for a client."""

    node: int
    incarnation: int
    peer_incarnation: int
    is_seen: Callable[[int], bool]
    datagram_bytes_max: int
    credit_bytes: int


def judge(data: bytes, cluster: bytes, receiver: Optional[Receiver] = None) -> Tuple[Header, List[Frame]]:
    """Section 3, for who holds no key: the datagram, or the first reason that applies."""
    header = parse_header(data)
    if header.cluster_tag not in (0, cluster_tag(cluster)):
        raise Dropped("cluster_tag")
    if receiver and header.cluster_tag == 0 and any(cluster) and not _has_only(data, TAG_0):
        raise Dropped("cluster_tag")
    if receiver and header.destination not in (ANY, receiver.node):
        raise Dropped("destination")
    if header.flags & SEALED or header.crc != checksum(data, cluster):
        raise Dropped("crc_or_seal")
    is_adopted = receiver is not None and _check_boots(data, header, receiver)
    if not 1 <= header.packet <= PACKET_MAX or receiver and is_adopted and receiver.is_seen(header.packet):
        raise Dropped("replay")
    frames = decode_frames(data[HEADER_BYTES:])
    if receiver:
        totals = (frame.values["total_bytes"] for frame in frames if "total_bytes" in frame.values)
        if len(data) > receiver.datagram_bytes_max or any(total > receiver.credit_bytes for total in totals):
            raise Dropped("over_limit")
    return header, frames


def _check_boots(data: bytes, header: Header, receiver: Receiver) -> bool:
    """True when it is of the link; what opens links is read from others too. [W-15], [W-21]"""
    is_handshake = _has_only(data, HANDSHAKE)
    if header.destination_incarnation != receiver.incarnation:
        if header.destination_incarnation or not is_handshake:
            raise Dropped("stale_destination_incarnation")
    is_adopted = header.source != ANY and header.source_incarnation == receiver.peer_incarnation
    if not is_adopted and not is_handshake:
        raise Dropped("stale_source_incarnation")
    return is_adopted


def _has_only(data: bytes, types: FrozenSet[int]) -> bool:
    try:
        return all(kind in types for kind, _ in split_frames(data[HEADER_BYTES:]))
    except Malformed:
        return False


def fields(data: bytes) -> Dict[str, str]:
    """What a datagram with a good header and good frames holds, as text by name."""
    header = parse_header(data)
    names = "".join(f" {name}" for bit, name in FLAG_NAMES if header.flags & bit)
    is_sealed = bool(header.flags & SEALED)

    def node(number: int) -> str:
        return "any" if number == ANY else f"n{number}"

    shown = {
        "bytes": str(len(data)),
        "version": str(header.version),
        "flags": f"{header.flags:02x}{names}",
        "seal_id" if is_sealed else "crc": f"{header.crc:08x}",
        "cluster_tag": f"{header.cluster_tag:08x}",
        "source": node(header.source),
        "destination": node(header.destination),
        "source_incarnation": str(header.source_incarnation),
        "destination_incarnation": str(header.destination_incarnation),
        "packet": str(header.packet),
    }
    if is_sealed:
        return shown
    if header.cluster_tag == 0:
        shown["crc_expected"] = f"{checksum(data, bytes(16)):08x}"
    for place, frame in enumerate(decode_frames(data[HEADER_BYTES:])):
        shown.update({f"frame{place}.{key}": text for key, text in frame_fields(frame).items()})
    return shown
