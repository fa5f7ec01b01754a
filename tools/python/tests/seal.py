"""The seal of wire-spec.md section 11 in plain Python, for the vectors only: slow, and its times tell secrets."""

import hashlib
import hmac
from typing import Dict, Iterator, List, Optional, Tuple

import raftgram_wire as wire
from raftgram_fields import ANY

NAME = b"Noise_NNpsk0_25519_AESGCM_SHA256"
TAG_BYTES = 16
PHASES_TRIED = 3


def mac(key: bytes, *parts: bytes) -> bytes:
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()


# -- AES-GCM (FIPS 197, NIST SP 800-38D), of 128 bits for datagrams and, by Noise's rule, of 256 for its messages ------


def _double(value: int) -> int:
    return (value << 1 ^ (0x1B if value & 0x80 else 0)) & 0xFF


def _sbox() -> List[int]:
    box, p, q = [0x63] * 256, 1, 1
    while True:
        p ^= _double(p)
        for shift in (1, 2, 4):
            q ^= q << shift & 0xFF
        q ^= 0x09 if q & 0x80 else 0
        rotated = q
        for turn in range(1, 5):
            rotated ^= (q << turn | q >> 8 - turn) & 0xFF
        box[p] = rotated ^ 0x63
        if p == 1:
            return box


SBOX = _sbox()


def _round_keys(key: bytes) -> List[bytes]:
    size = len(key) // 4
    words, constant = [key[at : at + 4] for at in range(0, len(key), 4)], 1
    for place in range(size, 4 * (size + 7)):
        word = words[-1]
        if place % size == 0:
            turned = bytes(SBOX[byte] for byte in word[1:] + word[:1])
            word, constant = bytes([turned[0] ^ constant]) + turned[1:], _double(constant)
        elif size == 8 and place % size == 4:
            word = bytes(SBOX[byte] for byte in word)
        words.append(bytes(a ^ b for a, b in zip(word, words[-size])))
    return [b"".join(words[at : at + 4]) for at in range(0, len(words), 4)]


def aes_block(key: bytes, block: bytes) -> bytes:
    keys = _round_keys(key)
    state = bytes(a ^ b for a, b in zip(block, keys[0]))
    for number in range(1, len(keys)):
        state = bytes(SBOX[state[(at + 4 * (at % 4)) % 16]] for at in range(16))
        if number + 1 < len(keys):
            mixed = []
            for at in range(0, 16, 4):
                column = state[at : at + 4]
                for place in range(4):
                    a, b, c, d = (column[(place + turn) % 4] for turn in range(4))
                    mixed.append(_double(a) ^ _double(b) ^ b ^ c ^ d)
            state = bytes(mixed)
        state = bytes(a ^ b for a, b in zip(state, keys[number]))
    return state


def _ghash(key: int, data: bytes) -> int:
    total = 0
    for at in range(0, len(data), 16):
        x, y = total ^ int.from_bytes(data[at : at + 16], "big"), key
        total = 0
        for bit in range(127, -1, -1):
            if x >> bit & 1:
                total ^= y
            y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
    return total


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 16)


def _stream(key: bytes, nonce: bytes, data: bytes) -> bytes:
    out = b""
    for place, at in enumerate(range(0, len(data), 16)):
        pad = aes_block(key, nonce + (place + 2).to_bytes(4, "big"))
        out += bytes(a ^ b for a, b in zip(data[at : at + 16], pad))
    return out


def _tag(key: bytes, nonce: bytes, text: bytes, extra: bytes) -> bytes:
    sizes = (8 * len(extra)).to_bytes(8, "big") + (8 * len(text)).to_bytes(8, "big")
    total = _ghash(int.from_bytes(aes_block(key, bytes(16)), "big"), _padded(extra) + _padded(text) + sizes)
    first = aes_block(key, nonce + b"\0\0\0\1")
    return bytes(a ^ b for a, b in zip(total.to_bytes(16, "big"), first))


def gcm_seal(key: bytes, nonce: bytes, text: bytes, extra: bytes) -> bytes:
    sealed = _stream(key, nonce, text)
    return sealed + _tag(key, nonce, sealed, extra)


def gcm_open(key: bytes, nonce: bytes, sealed: bytes, extra: bytes) -> Optional[bytes]:
    text, tag = sealed[:-TAG_BYTES], sealed[-TAG_BYTES:]
    return _stream(key, nonce, text) if tag == _tag(key, nonce, text, extra) else None


# -- X25519 (RFC 7748) and Noise --------------------------------------------------------------------------------------

PRIME = 2**255 - 19


def x25519(scalar: bytes, point: bytes = (9).to_bytes(32, "little")) -> bytes:
    k = int.from_bytes(scalar, "little") & ~7 & (1 << 255) - 1 & ~(1 << 255) | 1 << 254
    x1 = int.from_bytes(point, "little") & (1 << 255) - 1
    x2, z2, x3, z3, swap = 1, 0, x1, 1, 0
    for bit in range(254, -1, -1):
        if (k >> bit & 1) ^ swap:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = k >> bit & 1
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a, b * b, d * a, c * b
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % PRIME, x1 * (da - cb) ** 2 % PRIME
        x2, z2 = aa * bb % PRIME, e * (aa + 121665 * e) % PRIME
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, PRIME - 2, PRIME) % PRIME).to_bytes(32, "little")


def _hkdf(chain: bytes, material: bytes, count: int) -> Iterator[bytes]:
    secret, last = mac(chain, material), b""
    for number in range(1, count + 1):
        last = mac(secret, last, bytes([number]))
        yield last


class Noise:
    """NNpsk0: `-> psk, e`, then `<- e, ee`, both without payload. [W-75]"""

    def __init__(self, prologue: bytes, psk: bytes):
        self.hash = self.chain = NAME
        self.mix_hash(prologue)
        self.chain, more, self.key = _hkdf(self.chain, psk, 3)
        self.mix_hash(more)

    def mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.sha256(self.hash + data).digest()

    def mix_key(self, data: bytes) -> None:
        self.chain, self.key = _hkdf(self.chain, data, 2)

    def message(self, public: bytes, shared: Optional[bytes] = None) -> bytes:
        self.mix_hash(public)
        self.mix_key(public)
        if shared is not None:
            self.mix_key(shared)
        tag = gcm_seal(self.key, bytes(12), b"", self.hash)
        self.mix_hash(tag)
        return public + tag

    def secrets(self) -> Tuple[bytes, bytes]:
        first, second = _hkdf(self.chain, b"", 2)
        return first, second


# -- datagrams --------------------------------------------------------------------------------------------------------


def key_id(key: bytes) -> int:
    """[W-71]"""
    return int.from_bytes(mac(key, b"raftgram 1 id")[:4], "big") & 0x7FFFFFFF


def frames_in_plain(data: bytes, cluster: bytes, keys: Dict[str, str]) -> Optional[bytes]:
    """The frames of a sealed datagram for who has these keys; None where it is dropped. [W-72] to [W-76]"""
    header = wire.parse_header(data)
    known = cluster if header.cluster_tag else bytes(16)
    if not header.flags & wire.SEALED or len(data) < wire.HEADER_BYTES + TAG_BYTES:
        return None
    if header.crc >> 31 == 0:
        return _under_a_key(data, header, known, keys)
    if f"{header.crc:08x}" != keys.get("session"):
        return None
    secret = bytes.fromhex(keys["secret"])
    nonce = bytes(4) + header.packet.to_bytes(8, "big")
    for phase in range(PHASES_TRIED):
        if phase % 2 == bool(header.flags & wire.KEY_PHASE):
            key = mac(secret, b"raftgram 1 key")[:16]
            opened = gcm_open(key, nonce, data[wire.HEADER_BYTES :], known + data[: wire.HEADER_BYTES])
            if opened is not None:
                return opened
        secret = mac(secret, b"raftgram 1 next")
    return None


def _under_a_key(data: bytes, header: wire.Header, known: bytes, keys: Dict[str, str]) -> Optional[bytes]:
    role = "cluster" if "cluster" in keys else "client"
    key = bytes.fromhex(keys.get(role, ""))
    is_client_as_node = role == "client" and header.source != ANY
    if not key or header.crc != key_id(key) or is_client_as_node:
        return None
    covered = data[:-TAG_BYTES]
    if mac(mac(key, b"raftgram 1 greeting"), known, covered)[:TAG_BYTES] != data[-TAG_BYTES:]:
        return None
    return covered[wire.HEADER_BYTES :]
