"""raftgram's datagrams as a scapy layer: taken apart, built, sent and sniffed (wire-spec.md).

    from scapy.all import *
    import scapy_raftgram as r

    r.bind(7101, 7102, 7103)
    r.set_cluster("000102030405060708090a0b0c0d0e0f")     # checksums cover the cluster's id
    for packet in rdpcap("capture.pcap"):
        if r.Raftgram in packet:
            packet[r.Raftgram].show()

    cancel = r.Raftgram(source=1, destination=2, packet=9, flags="ack-eliciting", frames=[r.frame("cancel", call=70)])

Frames and bodies have the fields of `raftgram_wire.FRAMES` and `raftgram_bodies.BODIES`, whose tables these classes are
made of. What cannot be read stays as Raw. Tag and crc are filled in where they are left out.
"""

import graphlib
from typing import Any, Dict, List, Optional, Tuple, Type

from scapy.fields import (
    ByteField, ConditionalField, Field, FlagsField, IntField, LongField, ShortField, XIntField, XShortField,
)  # fmt: skip
from scapy.layers.inet import UDP
from scapy.packet import Packet, Raw, bind_layers

import raftgram_wire as wire
from raftgram_bodies import BODIES, ChangeRefusal, LeaderAddress, decode_body
from raftgram_fields import (
    ANY, Appended, Either, Enum, Kind, Malformed, Node, RangesKind, Reader, Schema, Text, Varint, varint,
)  # fmt: skip
from raftgram_wire import CLASSES, FRAMES, Body, Greeting

_cluster = bytes(16)


def set_cluster(cluster_id: str) -> None:
    """The cluster whose id checksums cover from now on."""
    global _cluster
    _cluster = bytes.fromhex(cluster_id)


def bind(*ports: int) -> None:
    """Takes UDP datagrams from and to these ports for raftgram's."""
    for port in ports:
        bind_layers(UDP, Raftgram, dport=port)
        bind_layers(UDP, Raftgram, sport=port)


# -- fields -----------------------------------------------------------------------------------------------------------


class WireField(Field):
    """A field that one of `raftgram_fields`' kinds reads, writes and shows."""

    __slots__ = ["kind"]
    # Lists are values here, not sets of values to build a packet of each.
    islist = 1

    def __init__(self, name: str, kind: Kind):
        self.kind = kind
        Field.__init__(self, name, _default(kind), "s")

    def getfield(self, pkt: Packet, s: bytes) -> Tuple[bytes, Any]:
        reader = Reader(s)
        value = self.kind.read(reader, pkt.fields)
        return s[reader.at :], value

    def addfield(self, pkt: Packet, s: bytes, val: Any) -> bytes:
        return s + self.kind.write(val, _Values(pkt))

    def i2repr(self, pkt: Packet, x: Any) -> str:
        shown = self.kind.show(self.name, x)
        return shown.get(self.name) or ", ".join(f"{name}={text}" for name, text in shown.items())

    def i2h(self, pkt: Packet, x: Any) -> Any:
        return x

    def any2i(self, pkt: Packet, x: Any) -> Any:
        return x


class _Values(Dict[str, Any]):
    """A packet's fields with their defaults, as kinds want them."""

    def __init__(self, pkt: Packet):
        super().__init__()
        self.pkt = pkt

    def __missing__(self, name: str) -> Any:
        return self.pkt.getfieldval(name)


def _default(kind: Kind) -> Any:
    if isinstance(kind, Varint):
        return kind.lowest
    if isinstance(kind, Node):
        return 0 if kind.none else 1
    if isinstance(kind, RangesKind):
        return [] if kind.can_be_empty else [(1, 1)]
    if isinstance(kind, Enum):
        return min(kind.names)
    if isinstance(kind, (Appended, Greeting, LeaderAddress)):
        return None
    if isinstance(kind, ChangeRefusal):
        return (1, 0, 0)
    if isinstance(kind, Text):
        return ""
    width = getattr(kind, "width", None)
    if type(kind).__name__ == "Bytes":
        return bytes(width or 0)
    if type(kind).__name__ in ("Rest", "RestLength", "Part"):
        return b""
    is_list = type(kind).__name__ in ("Members", "LastMembers", "Entries", "ListOf", "Drops")
    return [] if is_list else 0


def _ordered(choices: Dict[int, Tuple[str, Schema]]) -> List[Tuple[str, Kind, Dict[int, Kind]]]:
    """The fields of all choices in an order that suits each, with the values that each field is of."""
    order: "graphlib.TopologicalSorter[str]" = graphlib.TopologicalSorter()
    kinds: Dict[str, Dict[int, Kind]] = {}
    for value, (_, schema) in choices.items():
        before = None
        for name, kind in schema:
            order.add(name, *([before] if before else []))
            kinds.setdefault(name, {})[value] = kind
            before = name
    return [(name, next(iter(kinds[name].values())), kinds[name]) for name in order.static_order()]


def _fields_of(schema: Schema, made: Optional[List[Any]] = None) -> List[Any]:
    """scapy's fields for a schema: what belongs to a choice is there under its condition."""
    made = [] if made is None else made
    for name, kind in schema:
        if isinstance(kind, Either):
            made.append(WireField(name, Enum({value: label for value, (label, _) in kind.choices.items()})))
            for inner, inner_kind, values in _ordered(kind.choices):
                is_there = lambda pkt, name=name, values=values: pkt.getfieldval(name) in values  # noqa: E731
                # What is chosen may hold a choice itself.
                made.extend(ConditionalField(field, is_there) for field in _fields_of(((inner, inner_kind),)))
        elif isinstance(kind, Body):
            made.append(BodyField(name))
        else:
            made.append(WireField(name, kind))
    return made


class BodyField(Field):
    """The body of a request, reply or notice, to the frame's end."""

    islist = 0
    holds_packets = 1

    def __init__(self, name: str):
        Field.__init__(self, name, None, "s")

    def getfield(self, pkt: Packet, s: bytes) -> Tuple[bytes, Packet]:
        try:
            decode_body(s)
        except Malformed:
            return b"", Raw(s)
        return b"", BODY_CLASSES[s[0]](s)

    def addfield(self, pkt: Packet, s: bytes, val: Optional[Packet]) -> bytes:
        return s + (b"" if val is None else bytes(val))


class FramesField(Field):
    """The frames of a datagram. From the first one that cannot be read on, all is left to the payload."""

    islist = 1
    holds_packets = 1

    def __init__(self, name: str):
        Field.__init__(self, name, [], "s")

    def getfield(self, pkt: Packet, s: bytes) -> Tuple[bytes, List[Packet]]:
        is_sealed = bool(int(pkt.flags) & wire.SEALED)
        if is_sealed and (pkt.crc or 0) >> 31:
            return s, []
        mac, frames = s[-16:] if is_sealed else b"", []
        reader = Reader(s[:-16] if is_sealed else s)
        while reader.left():
            begin = reader.at
            try:
                kind = reader.uint(1)
                frames.append(_read_frame(kind, reader.take(reader.varint())))
            except Malformed:
                return reader.data[begin:] + mac, frames
        return mac, frames

    def addfield(self, pkt: Packet, s: bytes, val: List[Packet]) -> bytes:
        for frame in val or []:
            body = bytes(frame)
            s += bytes([frame.frame_type]) + varint(len(body)) + body
        return s


# -- packets ----------------------------------------------------------------------------------------------------------


class RaftgramFrame(Packet):
    """A frame. Type and length are no fields of it: they are written in front."""

    frame_type = 0x9F
    name = "frame"
    fields_desc: List[Any] = []

    def extract_padding(self, s: bytes) -> Tuple[bytes, Optional[bytes]]:
        return s, None


class UnknownFrame(RaftgramFrame):
    """A frame of a type that version 1 does not have; there is a class for each type."""

    name = "unknown frame"


class RaftgramBody(Packet):
    """A body; `kind` and `group` are its first fields."""

    def extract_padding(self, s: bytes) -> Tuple[bytes, Optional[bytes]]:
        return s, None


def _class_name(prefix: str, name: str) -> str:
    return prefix + "".join(part.capitalize() for part in name.split("-"))


def _frame_classes() -> Dict[int, Type[RaftgramFrame]]:
    made = {}
    for kind, (name, schema) in FRAMES.items():
        shown = f"{name} {CLASSES[kind]}" if kind in CLASSES else name
        body = {"name": shown, "frame_type": kind, "fields_desc": _fields_of(schema)}
        made[kind] = type(_class_name("", shown.replace(" ", "-")), (RaftgramFrame,), body)
    return made


def _body_classes() -> Dict[int, Type[RaftgramBody]]:
    made = {}
    for kind, (name, schema) in BODIES.items():
        head = [ByteField("kind", kind), WireField("group", Varint())]
        family = "reply" if kind >= 0x80 else "request" if kind >= 0x40 else "message"
        body = {"name": name, "fields_desc": head + _fields_of(schema)}
        made[kind] = type(_class_name("", f"{name}-{family}"), (RaftgramBody,), body)
    return made


FRAME_CLASSES = _frame_classes()
FRAME_CLASSES_UNKNOWN: Dict[int, Type[UnknownFrame]] = {}
BODY_CLASSES = _body_classes()
globals().update({made.__name__: made for made in [*FRAME_CLASSES.values(), *BODY_CLASSES.values()]})


def frame(name: str, **fields: Any) -> RaftgramFrame:
    """A frame by the name that `raftgram wire decode` gives it; requests are `request again` and `request once`."""
    return next(made for made in FRAME_CLASSES.values() if made._name == name)(**fields)


def body(name: str, kind: Optional[int] = None, **fields: Any) -> RaftgramBody:
    """A body by its name, or by its kind where a request and its reply have one name."""
    found = next(made for number, made in BODY_CLASSES.items() if number == kind or kind is None and made._name == name)
    return found(**fields)


def _read_frame(kind: int, data: bytes) -> RaftgramFrame:
    if kind not in FRAME_CLASSES:
        FRAME_CLASSES_UNKNOWN.setdefault(kind, type("UnknownFrame", (UnknownFrame,), {"frame_type": kind}))
        return FRAME_CLASSES_UNKNOWN[kind](data)
    # Whatever cannot be read shows here, and not as half a packet.
    wire.decode_frame(kind, data)
    return FRAME_CLASSES[kind](data)


class Raftgram(Packet):
    """A datagram."""

    name = "raftgram"
    fields_desc = [
        XShortField("magic", 0xA752),
        ByteField("version", wire.VERSION),
        FlagsField("flags", 0, 8, [name for _, name in wire.FLAG_NAMES] + ["20", "40", "80"]),
        XIntField("crc", None),
        XIntField("cluster_tag", None),
        ShortField("source", ANY),
        ShortField("destination", ANY),
        IntField("source_incarnation", 0),
        IntField("destination_incarnation", 0),
        LongField("packet", 1),
        FramesField("frames"),
    ]

    def post_build(self, p: bytes, pay: bytes) -> bytes:
        p += pay
        if self.cluster_tag is None:
            p = p[:8] + wire.cluster_tag(_cluster).to_bytes(4, "big") + p[12:]
        if self.crc is None:
            p = p[:4] + wire.checksum(p, _cluster).to_bytes(4, "big") + p[8:]
        return p

    def drop_reason(self) -> Optional[str]:
        """Why a receiver without state and keys drops it; None if it reads it."""
        try:
            wire.judge(bytes(self.original or bytes(self)), _cluster)
        except wire.Dropped as dropped:
            return dropped.reason
        return None

    def mysummary(self) -> str:
        names = {ANY: "any"}
        ends = " > ".join(names.get(end, f"n{end}") for end in (self.source, self.destination))
        frames = ", ".join(_summary(one) for one in self.frames)
        return f"raftgram {ends} #{self.packet} {frames}"

    def hashret(self) -> bytes:
        return b"raftgram"

    def answers(self, other: Packet) -> bool:
        """A datagram with a reply to one of the other's calls."""
        if not isinstance(other, Raftgram):
            return False
        asked = {one.call for one in other.frames if one.frame_type in CLASSES}
        return any(one.frame_type in (0x14, 0x15, 0x18) and one.call in asked for one in self.frames)


def _summary(one: RaftgramFrame) -> str:
    inner = getattr(one, "body", None)
    return f"{one.name} {inner.name}" if isinstance(inner, RaftgramBody) else str(one.name)


def show_fields(packet: Raftgram) -> Dict[str, str]:
    """What frames and bodies hold, as text by the names of `raftgram wire decode`."""
    shown: Dict[str, str] = {}
    for place, one in enumerate(packet.frames):
        at = f"frame{place}."
        if isinstance(one, UnknownFrame):
            how = "ignorable" if one.frame_type & 0x80 else "critical"
            shown.update({at + "type": f"unknown-{how} {one.frame_type:02x}", at + "body": bytes(one).hex()})
            continue
        shown[at + "type"] = FRAMES[one.frame_type][0]
        if one.frame_type in CLASSES:
            shown[at + "class"] = CLASSES[one.frame_type]
        shown.update({at + name: text for name, text in _shown(one, FRAMES[one.frame_type][1]).items()})
        inner = getattr(one, "body", None)
        if isinstance(inner, RaftgramBody):
            name, schema = BODIES[inner.kind]
            texts = {"kind": name, "group": str(inner.group), **_shown(inner, schema)}
            shown.update({f"{at}body.{name}": text for name, text in texts.items()})
    return shown


def _shown(packet: Packet, schema: Schema) -> Dict[str, str]:
    texts: Dict[str, str] = {}
    for name, kind in schema:
        value = packet.getfieldval(name)
        if not isinstance(kind, Body):
            texts.update(kind.show(name, value))
        if isinstance(kind, Either):
            texts.update(_shown(packet, kind.choices[value][1]))
    return texts
