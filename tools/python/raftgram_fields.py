"""Fields of the raftgram wire: how numbers, texts, sets and lists are read, written and shown.

Written against wire-spec.md alone; `[W-n]` names its rules. A frame or body is a dict of values by name; what stands
where is a `Schema`, and `read`, `write` and `show` walk it.
"""

import zlib
from typing import Any, Dict, List, Optional, Tuple

ANY = 0xFFFF
RANGES_MAX = 32

Values = Dict[str, Any]
Ranges = List[Tuple[int, int]]
"""A set of numbers as (lowest, highest), the highest range first. [W-12]"""


class Malformed(ValueError):
    """Bytes that do not hold what the spec demands."""


# -- numbers and strings of bytes -------------------------------------------------------------------------------------


class Reader:
    """Bytes from the front."""

    def __init__(self, data: bytes):
        self.data = bytes(data)
        self.at = 0

    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, count: int) -> bytes:
        if count > self.left():
            raise Malformed("bytes end inside a field")
        self.at += count
        return self.data[self.at - count : self.at]

    def uint(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def varint(self) -> int:
        """[W-1]: the shortest form only."""
        first = self.uint(1)
        width = 1 << (first >> 6)
        value = int.from_bytes(bytes([first & 0x3F]) + self.take(width - 1), "big")
        if width > 1 and value < 1 << (8 * (width // 2) - 2):
            raise Malformed("a varint in a longer form")
        return value

    def rest(self) -> bytes:
        return self.take(self.left())


def varint(value: int) -> bytes:
    for width, mark in ((1, 0), (2, 1), (4, 2), (8, 3)):
        if 0 <= value < 1 << (8 * width - 2):
            return (value | mark << (8 * width - 2)).to_bytes(width, "big")
    raise ValueError(f"{value} is no number from 0 to 2^62 - 1")


def zigzag(value: int) -> int:
    return 2 * value if value >= 0 else -2 * value - 1


def unzigzag(value: int) -> int:
    return value // 2 if value % 2 == 0 else -(value + 1) // 2


def crc32(data: bytes) -> int:
    return zlib.crc32(data) & 0xFFFFFFFF


# -- kinds of fields --------------------------------------------------------------------------------------------------


class Kind:
    """How one field is read, written and shown. `before` holds the fields read so far."""

    def read(self, reader: Reader, before: Values) -> Any:
        raise NotImplementedError

    def write(self, value: Any, values: Values) -> bytes:
        raise NotImplementedError

    def show(self, name: str, value: Any) -> Dict[str, str]:
        return {name: str(value)}


class UInt(Kind):
    """A fixed width; shown in hexadecimal when it is a digest or the like."""

    def __init__(self, width: int, hexadecimal: bool = False):
        self.width, self.hexadecimal = width, hexadecimal

    def read(self, reader: Reader, before: Values) -> int:
        return reader.uint(self.width)

    def write(self, value: int, values: Values) -> bytes:
        return value.to_bytes(self.width, "big")

    def show(self, name: str, value: int) -> Dict[str, str]:
        return {name: f"{value:0{2 * self.width}x}" if self.hexadecimal else str(value)}


class Varint(Kind):
    def __init__(self, lowest: int = 0, below: int = 1 << 62):
        self.lowest, self.below = lowest, below

    def read(self, reader: Reader, before: Values) -> int:
        value = reader.varint()
        if not self.lowest <= value < self.below:
            raise Malformed(f"{value} is not from {self.lowest} to below {self.below}")
        return value

    def write(self, value: int, values: Values) -> bytes:
        return varint(value)


class Bool(Kind):
    def read(self, reader: Reader, before: Values) -> bool:
        value = reader.uint(1)
        if value > 1:
            raise Malformed("neither yes nor no")
        return bool(value)

    def write(self, value: bool, values: Values) -> bytes:
        return bytes([value])

    def show(self, name: str, value: bool) -> Dict[str, str]:
        return {name: "true" if value else "false"}


class Enum(Kind):
    """A byte with names; `other` names those of later versions, without it they are malformed."""

    def __init__(self, names: Dict[int, str], other: Optional[str] = None):
        self.names, self.other = names, other

    def read(self, reader: Reader, before: Values) -> int:
        value = reader.uint(1)
        if value not in self.names and self.other is None:
            raise Malformed(f"{value} has no meaning here")
        return value

    def write(self, value: int, values: Values) -> bytes:
        return bytes([value])

    def show(self, name: str, value: int) -> Dict[str, str]:
        return {name: self.names.get(value) or (self.other or "{}").format(value)}


class Bytes(Kind):
    """So many bytes; `None`: a varint tells."""

    def __init__(self, width: Optional[int] = None):
        self.width = width

    def read(self, reader: Reader, before: Values) -> bytes:
        return reader.take(reader.varint() if self.width is None else self.width)

    def write(self, value: bytes, values: Values) -> bytes:
        return value if self.width is not None else varint(len(value)) + value

    def show(self, name: str, value: bytes) -> Dict[str, str]:
        return {name: value.hex()}


class Rest(Bytes):
    def read(self, reader: Reader, before: Values) -> bytes:
        return reader.rest()

    def write(self, value: bytes, values: Values) -> bytes:
        return value


class RestLength(Rest):
    """Bytes without a meaning, of which only the number is shown."""

    def show(self, name: str, value: bytes) -> Dict[str, str]:
        return {name: str(len(value))}


class Text(Kind):
    def read(self, reader: Reader, before: Values) -> str:
        data = reader.take(reader.varint())
        if len(data) > 255:
            raise Malformed("a text of more than 255 bytes")
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise Malformed("a text that is no UTF-8") from None

    def write(self, value: str, values: Values) -> bytes:
        return Bytes().write(value.encode(), values)


class Node(Kind):
    """A node's id; `none` is how 0 is shown, and without it 0 is malformed."""

    def __init__(self, none: Optional[str] = None):
        self.none = none

    def read(self, reader: Reader, before: Values) -> int:
        value = reader.uint(2)
        if value == ANY or value == 0 and self.none is None:
            raise Malformed("no node has this id")
        return value

    def write(self, value: int, values: Values) -> bytes:
        return value.to_bytes(2, "big")

    def show(self, name: str, value: int) -> Dict[str, str]:
        return {name: f"n{value}" if value else str(self.none)}


class RangesKind(Kind):
    """[W-12]"""

    def __init__(self, can_be_empty: bool = False):
        self.can_be_empty = can_be_empty

    def read(self, reader: Reader, before: Values) -> Ranges:
        count = reader.varint()
        if count > RANGES_MAX or count == 0 and not self.can_be_empty:
            raise Malformed(f"{count} ranges")
        found: Ranges = []
        for place in range(count):
            high = found[-1][0] - reader.varint() - 2 if place else reader.varint()
            low = high - reader.varint()
            if low < 0:
                raise Malformed("a range below 0")
            found.append((low, high))
        return found

    def write(self, value: Ranges, values: Values) -> bytes:
        out, below = varint(len(value)), None
        for low, high in value:
            out += varint(high if below is None else below - high - 2) + varint(high - low)
            below = low
        return out

    def show(self, name: str, value: Ranges) -> Dict[str, str]:
        return {name: ",".join(str(low) if low == high else f"{low}-{high}" for low, high in value)}


class ListOf(Kind):
    """A varint count and so many groups of fields; `shown` is the name under which one is shown, with its place."""

    def __init__(self, fields: "Schema", shown: str, most: int = 255):
        self.fields, self.shown, self.most = fields, shown, most

    def read(self, reader: Reader, before: Values) -> List[Values]:
        count = reader.varint()
        if count > self.most:
            raise Malformed(f"a list of {count}")
        return [read(self.fields, reader) for _ in range(count)]

    def write(self, value: List[Values], values: Values) -> bytes:
        return varint(len(value)) + b"".join(write(self.fields, item) for item in value)

    def show(self, name: str, value: List[Values]) -> Dict[str, str]:
        shown: Dict[str, str] = {}
        for place, item in enumerate(value):
            shown.update({f"{self.shown}{place}.{key}": text for key, text in show(self.fields, item).items()})
        return shown


class Drops(ListOf):
    def show(self, name: str, value: List[Values]) -> Dict[str, str]:
        return {f"drops.{item['reason']}": str(item["count"]) for item in value}


class Either(Kind):
    """A byte, and the fields that belong to its value; they stand beside the byte under their own names."""

    def __init__(self, choices: Dict[int, Tuple[str, "Schema"]], is_shown: bool = True):
        self.choices, self.is_shown = choices, is_shown

    def read(self, reader: Reader, before: Values) -> int:
        value = reader.uint(1)
        if value not in self.choices:
            raise Malformed(f"{value} has no meaning here")
        before.update(read(self.choices[value][1], reader, before))
        return value

    def write(self, value: int, values: Values) -> bytes:
        return bytes([value]) + write(self.choices[value][1], values)

    def show(self, name: str, value: int) -> Dict[str, str]:
        return {name: self.choices[value][0]} if self.is_shown else {}


class Appended(Kind):
    """A field of a later version at a body's end: None where the bytes end before."""

    def __init__(self, kind: Kind):
        self.kind = kind

    def read(self, reader: Reader, before: Values) -> Any:
        return self.kind.read(reader, before) if reader.left() else None

    def write(self, value: Any, values: Values) -> bytes:
        return b"" if value is None else self.kind.write(value, values)

    def show(self, name: str, value: Any) -> Dict[str, str]:
        return {} if value is None else self.kind.show(name, value)


Schema = Tuple[Tuple[str, Kind], ...]


def read(schema: Schema, reader: Reader, values: Optional[Values] = None) -> Values:
    values = {} if values is None else values
    for name, kind in schema:
        values[name] = kind.read(reader, values)
    return values


def write(schema: Schema, values: Values) -> bytes:
    return b"".join(kind.write(values[name], values) for name, kind in schema)


def show(schema: Schema, values: Values) -> Dict[str, str]:
    shown: Dict[str, str] = {}
    for name, kind in schema:
        shown.update(kind.show(name, values[name]))
        if isinstance(kind, Either):
            shown.update(show(kind.choices[values[name]][1], values))
    return shown
