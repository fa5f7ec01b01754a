"""The vectors of sealed datagrams, with the cryptography written out from wire-spec.md section 11."""

import unittest

from .seal import Noise, aes_block, frames_in_plain, gcm_seal, mac, x25519
from .support import vectors

import raftgram_wire as wire


class Seal(unittest.TestCase):
    def test_sealed_datagrams_are_opened_or_dropped_as_they_should(self) -> None:
        for case in vectors("sealed"):
            if case["kind"] != "sealed":
                continue
            with self.subTest(case["name"]):
                data, cluster = bytes.fromhex(case["hex"]), bytes.fromhex(case["cluster"])
                with self.assertRaises(wire.Dropped) as dropped:
                    wire.judge(data, cluster)
                self.assertEqual(dropped.exception.reason, "crc_or_seal")
                plain = frames_in_plain(data, cluster, case.get("keys", {}))
                if case["expect"] != "accept":
                    self.assertEqual((plain, case["expect"]), (None, "crc_or_seal"))
                    continue
                assert plain is not None
                shown = {}
                for place, frame in enumerate(wire.decode_frames(plain)):
                    shown.update({f"frame{place}.{name}": text for name, text in wire.frame_fields(frame).items()})
                expected = {name: text for name, text in case["fields"].items() if name.startswith("frame")}
                self.assertEqual(shown, expected)

    def test_the_handshake_comes_to_the_same_messages_and_secrets(self) -> None:
        """[W-75]"""
        cases = [case for case in vectors("sealed") if case["kind"] == "handshake"]
        self.assertTrue(cases)
        for case in cases:
            keys = {name: bytes.fromhex(value) for name, value in case["keys"].items()}
            psk = mac(keys["cluster"], b"raftgram 1 noise")
            noise = Noise(bytes.fromhex(case["hex"]), psk)
            initiator, answerer = x25519(keys["initiator"]), x25519(keys["answerer"])
            first = noise.message(initiator)
            second = noise.message(answerer, x25519(keys["answerer"], initiator))
            found = [first, second, *noise.secrets()]
            names = ["message_1", "message_2", "initiator_secret", "answerer_secret"]
            self.assertEqual(dict(zip(names, (one.hex() for one in found))), case["fields"])


class Primitives(unittest.TestCase):
    """The standards' own examples, so that a fault in the vectors can be told from one in here."""

    def test_aes(self) -> None:
        """FIPS 197, appendices C.1 and C.3."""
        block = aes_block(bytes(range(16)), bytes.fromhex("00112233445566778899aabbccddeeff"))
        self.assertEqual(block.hex(), "69c4e0d86a7b0430d8cdb78070b4c55a")
        block = aes_block(bytes(range(32)), bytes.fromhex("00112233445566778899aabbccddeeff"))
        self.assertEqual(block.hex(), "8ea2b7ca516745bfeafc49904b496089")

    def test_gcm(self) -> None:
        """The first two cases of the authors' paper."""
        self.assertEqual(gcm_seal(bytes(16), bytes(12), b"", b"").hex(), "58e2fccefa7e3061367f1d57a4e7455a")
        sealed = "0388dace60b6a392f328c2b971b2fe78" + "ab6e47d42cec13bdf53a67b21257bddf"
        self.assertEqual(gcm_seal(bytes(16), bytes(12), bytes(16), b"").hex(), sealed)

    def test_x25519(self) -> None:
        """RFC 7748, section 6.1."""
        secret = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
        public = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
        self.assertEqual(x25519(secret).hex(), public)


if __name__ == "__main__":
    unittest.main()
