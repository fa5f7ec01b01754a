"""The bodies of raftgram's requests, replies and notices (wire-spec.md sections 8 to 10), as a table: `BODIES`.

Written against wire-spec.md alone; `[W-n]` names its rules.
"""

from typing import Callable, Dict, List, Optional, Tuple

from raftgram_fields import (
    ANY, Appended, Bool, Bytes, Drops, Either, Enum, Kind, ListOf, Malformed, Node, RangesKind, Reader, Rest,
    Schema, Text, UInt, Values, Varint, read, show, unzigzag, varint, write, zigzag,
)  # fmt: skip


class Members(Kind):
    """One list of a membership. [W-46]"""

    def read(self, reader: Reader, before: Values) -> List[Values]:
        count = reader.varint()
        if count > 255:
            raise Malformed("more than 255 members")
        fields = (("node", Node()), ("store", Bytes(16)), ("address", Text()))
        found = [read(fields, reader) for _ in range(count)]
        ids = [member["node"] for member in found]
        if ids != sorted(set(ids)) or not all(member["address"] for member in found):
            raise Malformed("ids that do not ascend, or an empty address")
        return found

    def write(self, value: List[Values], values: Values) -> bytes:
        members = (m["node"].to_bytes(2, "big") + m["store"] + Text().write(m["address"], m) for m in value)
        return varint(len(value)) + b"".join(members)

    def show(self, name: str, value: List[Values]) -> Dict[str, str]:
        return {name: " ".join(f"n{m['node']}={m['address']}@{m['store'].hex()}" for m in value)}


class LastMembers(Members):
    """The learners, behind which the whole membership can be judged."""

    def read(self, reader: Reader, before: Values) -> List[Values]:
        learners = super().read(reader, before)
        lists = [before["voters"], before["outgoing"], learners]
        stores: Dict[int, bytes] = {}
        for member in (m for part in lists for m in part):
            if stores.setdefault(member["node"], member["store"]) != member["store"]:
                raise Malformed("two stores of one id")
        voters = {m["node"] for m in before["voters"]}
        if not voters or len(stores) > 255 or voters & {m["node"] for m in learners}:
            raise Malformed("no voter, too many members, or a learner that is a voter")
        return learners


SMALL = 1 << 60
"""Terms, log indexes and session ids are below it. [W-43]"""
TERM = INDEX = Varint(below=SMALL)
SESSION = Varint(lowest=1, below=SMALL)
PPM, FAULT_US = Varint(below=1_000_001), Varint(below=86_400_000_001)
FAULTS: Schema = (
    ("lasting_ms", Varint(lowest=1, below=86_400_001)),
    ("links", Either({0: ("nodes", ()), 1: ("clients", ()), 2: ("node", (("node", Node()),))})),
    ("is_blocked", Bool()), ("mtu", Varint()), ("loss_ppm", PPM),
    ("to_bad_ppm", PPM), ("to_good_ppm", PPM), ("loss_bad_ppm", PPM), ("loss_good_ppm", PPM),
    ("delay_us", FAULT_US), ("jitter_us", FAULT_US), ("duplicate_ppm", PPM), ("reorder_ppm", PPM),
    ("reorder_delay_us", FAULT_US), ("corrupt_ppm", PPM),
)  # fmt: skip
"""[W-110]"""
MEMBERSHIP: Schema = (("voters", Members()), ("outgoing", Members()), ("learners", LastMembers()))
ENTRY_KINDS = {0: "noop", 1: "command", 2: "membership"}


class Entries(Kind):
    """Entries to the end of a body, whose terms are given as what they lie below its term. [W-45]"""

    def __init__(self, are_shown: bool):
        self.are_shown = are_shown

    def read(self, reader: Reader, before: Values) -> List[Values]:
        found = []
        while reader.left():
            below, kind = divmod(reader.varint(), 4)
            content = reader.take(reader.varint())
            if kind > 2 or below > before["term"] or kind == 0 and content:
                raise Malformed("an entry of a kind or term that cannot be")
            entry = {"term": before["term"] - below, "kind": kind, "content": content}
            if kind == 2:
                inner = Reader(content)
                entry.update(read(MEMBERSHIP, inner))
                if inner.left():
                    raise Malformed("bytes behind a membership")
            found.append(entry)
        return found

    def write(self, value: List[Values], values: Values) -> bytes:
        heads = ((varint(4 * (values["term"] - e["term"]) + e["kind"]), e["content"]) for e in value)
        return b"".join(head + varint(len(content)) + content for head, content in heads)

    def show(self, name: str, value: List[Values]) -> Dict[str, str]:
        if not self.are_shown:
            return {name: str(len(value))}
        shown: Dict[str, str] = {}
        for place, entry in enumerate(value):
            at = f"entry{place}."
            shown.update({at + "term": str(entry["term"]), at + "kind": ENTRY_KINDS[entry["kind"]]})
            if entry["kind"] == 1:
                shown[at + "content"] = entry["content"].hex()
            elif entry["kind"] == 2:
                shown.update({at + key: text for key, text in show(MEMBERSHIP, entry).items()})
        return shown


class PrevTerm(Kind):
    """What the previous entry's term lies below the append's."""

    def read(self, reader: Reader, before: Values) -> int:
        value = before["term"] - reader.varint()
        if value < 0:
            raise Malformed("a term below 0")
        return value

    def write(self, value: int, values: Values) -> bytes:
        return varint(values["term"] - value)


class Commit(Kind):
    """The commit index against the previous one."""

    def read(self, reader: Reader, before: Values) -> int:
        value = before["prev_index"] + unzigzag(reader.varint())
        if not 0 <= value < SMALL:
            raise Malformed("a commit index that cannot be")
        return value

    def write(self, value: int, values: Values) -> bytes:
        return varint(zigzag(value - values["prev_index"]))


class LeaderCommit(Kind):
    """`leads u8 ‖ index`, the latter 0 for who does not lead. [W-62], [W-91]"""

    def read(self, reader: Reader, before: Values) -> Optional[int]:
        leads, commit = Bool().read(reader, before), INDEX.read(reader, before)
        if commit and not leads:
            raise Malformed("a commit index of no leader")
        return commit if leads else None

    def write(self, value: Optional[int], values: Values) -> bytes:
        return bytes([value is not None]) + varint(value or 0)

    def show(self, name: str, value: Optional[int]) -> Dict[str, str]:
        return {} if value is None else {name: str(value)}


HASH32, HASH64 = UInt(4, hexadecimal=True), UInt(8, hexadecimal=True)
SNAPSHOT: Schema = (
    ("index", Varint(1, SMALL)), ("index_term", Varint(1, SMALL)), ("chain", HASH32), ("bytes", Varint(1)),
    ("digest", HASH64),
)  # fmt: skip
VOTE: Schema = (
    ("term", TERM), ("campaign_term", TERM), ("campaign", Varint()), ("last_index", INDEX), ("last_term", TERM),
    ("is_transfer", Bool()),
)  # fmt: skip
VOTE_REPLY: Schema = (("term", TERM), ("campaign_term", TERM), ("campaign", Varint()), ("is_granted", Bool()))
ROUND: Schema = (("term", TERM), ("round", Varint()))
OUTCOME: Schema = (("index", INDEX), ("term", TERM), ("result", Rest()))
ROLES = {0: "blank", 1: "follower", 2: "pre-candidate", 3: "candidate", 4: "leader", 5: "learner"}
REFUSALS = {1: "unknown-body", 2: "malformed-body", 3: "unavailable", 4: "not-allowed"}
STANDINGS = {0: "member", 1: "joining", 2: "removed", 3: "replaced"}
CHANGE_OUTCOMES = {0: "not-asked", 1: "pending", 2: "settled", 3: "superseded"}
LEVELS = {0: "linearizable", 1: "lease", 2: "local", 3: "any-node"}
DIVERGENCE: Schema = (
    ("node", Node()), ("kind", Enum({0: "results", 1: "snapshot"})), ("after", INDEX), ("through", INDEX),
)  # fmt: skip


class Divergences(ListOf):
    """Differences found between replicas. [W-94]"""

    def __init__(self) -> None:
        super().__init__(DIVERGENCE, "")

    def read(self, reader: Reader, before: Values) -> List[Values]:
        found = super().read(reader, before)
        if any(one["through"] <= one["after"] for one in found):
            raise Malformed("a difference that shows nowhere")
        return found

    def show(self, name: str, value: List[Values]) -> Dict[str, str]:
        texts = [
            f"snapshot {one['through']} differs from n{one['node']}" if one["kind"]
            else f"results of entries {one['after'] + 1} to {one['through']} differ from n{one['node']}"
            for one in value
        ]  # fmt: skip
        return {name: "; ".join(texts)} if texts else {}


STATUS: Schema = (
    ("node", Node("none")), ("address", Text()), ("role", Enum(ROLES)), ("term", TERM), ("commit", INDEX),
    ("applied", INDEX), ("last", INDEX), ("incarnation", UInt(4)), ("cluster", Bytes(16)), ("store", Bytes(16)),
    ("leader", Node("unknown")), ("has_membership", Either({0: ("", ()), 1: ("", MEMBERSHIP)}, is_shown=False)),
    ("peers", ListOf((
        ("node", Node()), ("rtt_us", Varint()), ("retransmits", Varint()), ("loss_ppm", UInt(4)),
    ), "peer")),
    ("received", Varint()), ("accepted", Varint()), ("retransmits", Varint()), ("duplicates", Varint()),
    ("drops", Drops((("reason", Text()), ("count", Varint())), "")), ("snapshot", INDEX),
    ("transfers", ListOf((
        ("to", Node()), ("index", INDEX), ("bytes", Varint()), ("bytes_total", Varint()), ("is_transferred", Bool()),
    ), "transfer")),
    ("damage", Varint()), ("has_hole", Either({0: ("", ()), 1: ("", (
        ("hole_first", INDEX), ("hole_last", INDEX), ("hole_fetched", Varint()), ("hole_from", Node("none")),
    ))}, is_shown=False)),
    ("version", Appended(INDEX)), ("standing", Appended(Enum(STANDINGS))), ("agreed", Appended(INDEX)),
    ("divergences", Appended(Divergences())), ("sent", Appended(Varint())), ("sent_bytes", Appended(Varint())),
)  # fmt: skip


class NotZero(Varint):
    """A number below 2^60 of which 0 says that there is none, and is not shown."""

    def show(self, name: str, value: int) -> Dict[str, str]:
        return super().show(name, value) if value else {}


class Expected(NotZero):
    """A membership's version and one, or 0. [W-79]"""

    def show(self, name: str, value: int) -> Dict[str, str]:
        return {name: str(value - 1)} if value else {}


class Address(Text):
    def read(self, reader: Reader, before: Values) -> str:
        address = super().read(reader, before)
        if not address:
            raise Malformed("an empty address")
        return address


CHANGE_REFUSALS: Dict[int, Tuple[str, Tuple[str, ...]]] = {
    1: ("running", ("index",)), 2: ("version", ("expected", "actual")), 3: ("unknown", ("node",)),
    4: ("taken", ("node",)), 5: ("store-in-use", ("node",)), 6: ("not-caught-up", ("node", "lag")),
    7: ("quorum-at-risk", ("alive", "needed")), 8: ("last-voter", ()), 9: ("too-many", ()), 10: ("address", ()),
    11: ("silent", ()), 12: ("other-node", ("node",)), 13: ("other-cluster", ()), 14: ("other-store", ()),
    15: ("no-target", ()), 16: ("unheard", ("node",)),
}  # fmt: skip
"""Why a change was refused, and what its two numbers are. [W-80]"""


class ChangeRefusal(Kind):
    """The reason and two numbers."""

    def read(self, reader: Reader, before: Values) -> Tuple[int, int, int]:
        reason, first, second = reader.uint(1), reader.varint(), reader.varint()
        names = CHANGE_REFUSALS.get(reason, ("", ()))[1]
        bounds = {"node": ANY, "index": SMALL, "expected": SMALL, "actual": SMALL}
        is_good = all(number < bounds.get(name, number + 1) for name, number in zip(names, (first, second)))
        if not reason or not is_good or names[:1] == ("node",) and not first:
            raise Malformed("a refusal that cannot be")
        return reason, first, second

    def write(self, value: Tuple[int, int, int], values: Values) -> bytes:
        return bytes([value[0]]) + varint(value[1]) + varint(value[2])

    def show(self, name: str, value: Tuple[int, int, int]) -> Dict[str, str]:
        reason, names = CHANGE_REFUSALS.get(value[0], (str(value[0]), ()))
        numbers = {inner: f"n{number}" if inner == "node" else str(number) for inner, number in zip(names, value[1:])}
        return {name: reason, **numbers}


def check_pull(v: Values) -> None:
    """[W-55]"""
    if not 1 <= v["length"] <= 1 << 20 or v["offset"] + v["length"] > v["bytes"]:
        raise Malformed("a range that is not in the file")


def check_range(v: Values) -> None:
    """[W-61]"""
    if not 1 <= v["damaged_from"] <= v["first"] or 0 < v["last"] < v["first"]:
        raise Malformed("a range of entries that cannot be")


def check_watch(v: Values) -> None:
    """[W-103]"""
    if v["wait_us"] > 60_000_000 or len(v["filter"]) > 4096:
        raise Malformed("a watch that waits too long, or for too much")


def check_watched(v: Values) -> None:
    """[W-101]"""
    indexes = [event["index"] for event in v["events"]] + [v["through"] + 1]
    if any(index >= later for index, later in zip(indexes, indexes[1:])):
        raise Malformed("events out of order")


def check_digests(v: Values) -> None:
    """[W-92]"""
    if any(window["last"] % window["span"] for window in v["windows"]):
        raise Malformed("a window that does not end where windows end")


class LeaderAddress(Text):
    """Stands there where the leader is known."""

    def read(self, reader: Reader, before: Values) -> Optional[str]:  # type: ignore[override]
        return super().read(reader, before) if before["leader"] else None

    def write(self, value: Optional[str], values: Values) -> bytes:  # type: ignore[override]
        return b"" if value is None else super().write(value, values)

    def show(self, name: str, value: Optional[str]) -> Dict[str, str]:
        return {} if value is None else {name: value}


BODIES: Dict[int, Tuple[str, Schema]] = {
    0x01: ("pre-vote", VOTE),
    0x02: ("pre-vote-reply", VOTE_REPLY),
    0x03: ("vote", VOTE),
    0x04: ("vote-reply", VOTE_REPLY),
    0x05: ("append", (
        ("term", TERM), ("attempt", Varint()), ("prev_index", INDEX), ("prev_term", PrevTerm()), ("commit", Commit()),
        ("chain", HASH32), ("entries", Entries(are_shown=True)),
    )),
    0x06: ("append-reply", (("term", TERM), ("attempt", Varint()), ("outcome", Either({
        0: ("accepted", (("match_index", INDEX),)),
        1: ("refused", (
            ("prev_index", INDEX), ("conflict_term", TERM), ("conflict_index", INDEX), ("last_index", INDEX),
        )),
        2: ("evicted", (("prev_index", INDEX),)),
    })))),
    0x07: ("heartbeat", ROUND + (("commit", INDEX),)),
    0x08: ("heartbeat-reply", ROUND),
    0x09: ("read-probe", ROUND),
    0x0A: ("read-probe-reply", ROUND),
    0x0B: ("transfer", (("term", TERM), ("incarnation", UInt(4)), ("last_index", INDEX))),
    0x0C: ("transfer-reply", (("term", TERM), ("is_taken", Bool()))),
    0x10: ("snapshot-offer", (("term", TERM),) + SNAPSHOT),
    0x11: ("snapshot-offer-reply", (("term", TERM), ("index", INDEX), ("match_index", INDEX), ("outcome", Either({
        0: ("pulling", (("bytes", Varint()),)), 1: ("transferred", ()), 2: ("installed", ()),
    })))),
    0x12: ("snapshot-pull", SNAPSHOT + (("offset", Varint()), ("length", Varint()))),
    0x13: ("snapshot-data", (("outcome", Either({
        0: ("data", (("digest", HASH64), ("offset", Varint()), ("content", Rest()))), 1: ("not-here", ()),
    })),)),
    0x14: ("range", (
        ("term", TERM), ("question", Varint()), ("damaged_from", INDEX), ("first", INDEX), ("last", INDEX),
    )),
    0x15: ("range-reply", (("term", TERM), ("question", Varint()), ("commit", LeaderCommit()), ("outcome", Either({
        0: ("entries", (("chain", HASH32), ("entries", Entries(are_shown=False)))), 1: ("covered", SNAPSHOT),
        2: ("nothing", ()),
    })))),
    0x16: ("read-index", (("term", TERM), ("question", Varint()))),
    0x17: ("read-index-reply", (("term", TERM), ("question", Varint()), ("index", LeaderCommit()))),
    0x18: ("state-digests", (
        ("layout", Varint()),
        ("windows", ListOf((("span", Varint(lowest=1)), ("last", Varint(1, SMALL)), ("digest", HASH32)), "window", 32)),
        ("has_snapshot", Either({0: ("", ()), 1: ("", (
            ("snapshot_format", Varint()), ("snapshot_index", INDEX), ("snapshot_digest", HASH64),
        ))}, is_shown=False)),
    )),
    0x40: ("open-session", ()),
    0x41: ("close-session", (("session", SESSION),)),
    0x42: ("propose", (
        ("session", SESSION), ("sequence", Varint(lowest=1)), ("finished", RangesKind(can_be_empty=True)),
        ("command", Rest()),
    )),
    0x43: ("read", (("level", Enum(LEVELS)), ("query", Rest()))),
    0x44: ("status", ()),
    0x45: ("founding", ()),
    0x46: ("take-snapshot", (("through", INDEX),)),
    0x47: ("change-membership", (("expected", Expected(below=SMALL)), ("change", Either({
        0: ("add", (("node", Node()), ("store", Bytes(16)), ("address", Address()))),
        1: ("promote", (("node", Node()),)), 2: ("remove", (("node", Node()),)),
        3: ("move", (("node", Node()), ("address", Address()))),
    })))),
    0x48: ("members", (("index", NotZero(below=SMALL)), ("term", NotZero(below=SMALL)))),
    0x49: ("transfer-leadership", (("to", Node("any")),)),
    0x4A: ("watch", (("after", INDEX), ("wait_us", Varint()), ("filter", Rest()))),
    0x4C: ("set-faults", (("faults", Either({0: ("clear", ()), 1: ("set", FAULTS)})),)),
    0x80: ("session-opened", (("session", SESSION),)),
    0x81: ("session-closed", ()),
    0x82: ("applied", OUTCOME),
    0x83: ("read", OUTCOME),
    0x84: ("status", STATUS),
    0x85: ("redirect", (("leader", Node("unknown")), ("address", LeaderAddress()))),
    0x86: ("busy", (("retry_after_us", Varint()),)),
    0x87: ("session-expired", ()),
    0x88: ("sequence-finished", ()),
    0x89: ("too-large", (("bytes_max", Varint()),)),
    0x8A: ("refused", (("code", Enum(REFUSALS, "{}")), ("text", Text()))),
    0x8B: ("founded", (("cluster", Bytes(16)),) + MEMBERSHIP),
    0x8C: ("snapshot-state", (
        ("taken", INDEX), ("in_force", Either({0: ("", ()), 1: ("", SNAPSHOT)}, is_shown=False)),
    )),
    0x8D: ("changed", (("index", INDEX), ("term", NotZero(below=SMALL)))),
    0x8E: ("membership-state", (
        ("leader", Node()), ("term", TERM), ("commit", INDEX), ("version", INDEX), ("is_settled", Bool()),
        ("outcome", Enum(CHANGE_OUTCOMES)), ("transferring", Node("none")),
        *MEMBERSHIP,
        ("members", ListOf((
            ("node", Node()), ("match_index", INDEX), ("lag", Varint()), ("is_heard", Bool()), ("is_caught_up", Bool()),
        ), "member")),
    )),
    0x8F: ("change-refused", (("reason", ChangeRefusal()), ("text", Text()))),
    0x90: ("transferring", (("to", Node()), ("term", TERM))),
    0x91: ("watched", (
        ("through", INDEX), ("events", ListOf((("index", INDEX), ("term", TERM), ("event", Bytes())), "event", 4096)),
    )),
    0x92: ("compacted", (("oldest", INDEX),)),
    0x93: ("faults-set", ()),
}  # fmt: skip
CHECKS: Dict[int, Callable[[Values], None]] = {
    0x12: check_pull, 0x14: check_range, 0x18: check_digests, 0x4A: check_watch, 0x91: check_watched,
}  # fmt: skip


def decode_body(body: bytes) -> Values:
    """The fields of a body, `kind` its number among them. [W-42], [W-44]"""
    reader = Reader(body)
    kind = reader.uint(1)
    if kind not in BODIES:
        raise Malformed(f"a body of unknown kind {kind:02x}")
    values: Values = {"kind": kind, "group": reader.varint()}
    if values["group"]:
        raise Malformed("a group other than 0")
    read(BODIES[kind][1], reader, values)
    CHECKS.get(kind, lambda _: None)(values)
    return values


def encode_body(values: Values) -> bytes:
    kind = values["kind"]
    return bytes([kind]) + varint(values.get("group", 0)) + write(BODIES[kind][1], values)


def body_fields(body: bytes) -> Dict[str, str]:
    """What a body holds, as text by name."""
    if not body or body[0] == 0 or body[0] >= 0xC0:
        return {"opaque": body.hex()}
    try:
        values = decode_body(body)
    except Malformed as why:
        return {"malformed": body.hex(), "why": str(why)}
    name, schema = BODIES[values["kind"]]
    return {"kind": name, "group": str(values["group"]), **show(schema, values)}
