"""Every vector of tests/vectors: what it holds, the same bytes again, and the right reason for a drop."""

import unittest

from .support import CLUSTER, PYTHON, ROOT, vectors, without_why

import raftgram_wire as wire
from raftgram_bodies import body_fields, decode_body, encode_body
from raftgram_fields import Malformed, Reader, unzigzag, varint, zigzag

# Bytes that stand behind the last field are ignored, and not written again.
NO_ENCODING = {"body-trailing-bytes-are-ignored"}


class Vectors(unittest.TestCase):
    def test_bodies_hold_what_they_should_and_encode_to_the_same_bytes(self) -> None:
        for case in vectors("bodies"):
            with self.subTest(case["name"]):
                body = bytes.fromhex(case["hex"])
                if case["expect"] == "malformed":
                    with self.assertRaises(Malformed):
                        decode_body(body)
                    continue
                self.assertEqual(case["expect"], "accept")
                self.assertEqual(body_fields(body), case["fields"])
                if case["name"] not in NO_ENCODING:
                    self.assertEqual(encode_body(decode_body(body)).hex(), case["hex"])

    def test_datagrams_hold_what_they_should_and_encode_to_the_same_bytes(self) -> None:
        for case in vectors("datagrams", "steps"):
            with self.subTest(case["name"]):
                self.check(case)

    def test_drops_have_the_right_reason(self) -> None:
        for case in vectors("drops"):
            with self.subTest(case["name"]):
                self.check(case)

    def check(self, case) -> None:
        data, cluster = bytes.fromhex(case["hex"]), bytes.fromhex(case["cluster"])
        receiver = None
        if case["kind"] == "exchange-step":
            context = case["context"]
            receiver = wire.Receiver(
                context["node"],
                context["incarnation"],
                context["peer_incarnation"],
                lambda packet: packet <= context["largest_packet"],
                context["datagram_bytes_max"],
                context["credit_bytes"],
            )
        if "fields" in case:
            self.assertEqual(without_why(wire.fields(data)), without_why(case["fields"]))
        try:
            header, frames = wire.judge(data, cluster, receiver)
        except wire.Dropped as dropped:
            self.assertEqual(dropped.reason, case["expect"])
            return
        self.assertEqual("accept", case["expect"])
        self.assertEqual(wire.encode(header, frames, cluster).hex(), case["hex"])

    def test_no_file_of_vectors_is_left_out(self) -> None:
        known = {"bodies", "datagrams", "drops", "sealed", "steps"}
        self.assertEqual({path.stem for path in (ROOT / "tests/vectors").glob("*.jsonl")}, known)

    def test_every_bit_of_an_accepted_datagram_counts(self) -> None:
        """[W-53]"""
        for case in vectors("datagrams"):
            data = bytes.fromhex(case["hex"])
            for bit in range(8 * min(len(data), 160)):
                changed = bytearray(data)
                changed[bit // 8] ^= 0x80 >> bit % 8
                with self.assertRaises(wire.Dropped, msg=f"{case['name']}, bit {bit}"):
                    wire.judge(bytes(changed), CLUSTER)

    def test_the_spec_shows_the_vectors(self) -> None:
        by_name = {case["name"]: case["hex"] for case in vectors()}
        text = (ROOT / "wire-spec.md").read_text()
        shown = [block.split("```")[0].split("\n", 1) for block in text.split("\n```vector ")[1:]]
        self.assertGreater(len(shown), 8)
        for name, digits in shown:
            self.assertEqual("".join(digits.split()), by_name[name], name)


class Numbers(unittest.TestCase):
    def test_varints_are_those_of_the_spec(self) -> None:
        cases = {"25": 37, "7bbd": 15293, "9d7f3e7d": 494878333, "c2197c5eff14e88c": 151288809941952652}
        for digits, value in cases.items():
            self.assertEqual(Reader(bytes.fromhex(digits)).varint(), value)
            self.assertEqual(varint(value).hex(), digits)
        with self.assertRaises(Malformed):
            Reader(bytes.fromhex("4025")).varint()

    def test_zigzag_and_back(self) -> None:
        self.assertEqual([zigzag(n) for n in (0, -1, 1, -2)], [0, 1, 2, 3])
        for number in (0, 1, -1, 12345, -12345):
            self.assertEqual(unzigzag(zigzag(number)), number)

    def test_no_bytes_make_the_decoder_fail_otherwise(self) -> None:
        for case in vectors("bodies", "datagrams"):
            data = bytes.fromhex(case["hex"])
            for at in range(min(len(data), 120)):
                for changed in (data[:at], data[:at] + b"\xff" + data[at + 1 :], data[:at] + b"\0" + data[at + 1 :]):
                    try:
                        if case["kind"] == "body":
                            decode_body(changed)
                        else:
                            wire.decode_frames(changed[wire.HEADER_BYTES :])
                    except (Malformed, wire.Dropped):
                        pass


class Module(unittest.TestCase):
    def test_the_client_needs_the_standard_library_only(self) -> None:
        allowed = {"collections", "contextlib", "dataclasses", "random", "secrets", "socket", "struct", "threading",
                   "time", "typing", "zlib"}  # fmt: skip
        for name in ("raftgram", "raftgram_link", "raftgram_wire", "raftgram_bodies", "raftgram_fields"):
            lines = (PYTHON / f"{name}.py").read_text().splitlines()
            imported = {line.split()[1] for line in lines if line.startswith(("import ", "from "))}
            self.assertEqual({n for n in imported if not n.startswith("raftgram_")} - allowed, set())


if __name__ == "__main__":
    unittest.main()
