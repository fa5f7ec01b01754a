"""The Wireshark dissector under tshark, against the vectors and made-up and recorded traffic, field by field."""

import pathlib
import random
import shutil
import tempfile
import unittest
from typing import List

from .captures import PORT, Sent, dissect, tshark, write_pcap
from .support import CLUSTER, vectors

import raftgram_wire as wire
from raftgram_bodies import encode_body
from raftgram_fields import ANY

NODE, CLIENT = f"127.0.0.1:{PORT}", "127.0.0.2:9000"
KNOWN = ("-o", f"raftgram.cluster_id:{CLUSTER.hex()}")


def mangle(rng: random.Random, data: bytes) -> bytes:
    """Some bytes changed, put in or cut off behind the header; under a good checksum."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        if len(changed) <= wire.HEADER_BYTES:
            break
        at, how = rng.randrange(wire.HEADER_BYTES, len(changed)), rng.random()
        if how < 0.6:
            changed[at] = rng.choice([0, 1, 2, 3, 0x3F, 0x40, 0x7F, 0x80, 0xC0, 0xFF, rng.randrange(256)])
        elif how < 0.75:
            del changed[at:]
        else:
            changed.insert(at, rng.randrange(256))
    crc = wire.checksum(bytes(changed), CLUSTER).to_bytes(4, "big")
    return bytes(changed[:4]) + crc + bytes(changed[8:])


class Wireshark(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="raftgram-wireshark-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.file = self.folder / "capture.pcap"

    def dissect(self, datagrams: List[bytes], *arguments: str):
        write_pcap(self.file, [(1.0 + n, CLIENT, NODE, one) for n, one in enumerate(datagrams)])
        packets = dissect(self.file, *arguments)
        self.assertEqual(len(packets), len(datagrams))
        return packets

    def test_every_datagram_of_the_vectors_field_by_field(self) -> None:
        cases = [case for case in vectors("datagrams", "steps") if "fields" in case]
        packets = self.dissect([bytes.fromhex(case["hex"]) for case in cases], *KNOWN)
        for case, packet in zip(cases, packets):
            with self.subTest(case["name"]):
                self.assertEqual(packet.differences(case["fields"]), [])
                self.assertEqual(packet.strangers(case["fields"]), [])
                self.assertEqual(packet.fields["crc_status"], "good")
                self.assertNotIn("drop", packet.fields)

    def test_every_body_of_the_vectors_field_by_field(self) -> None:
        cases = list(vectors("bodies"))
        notice = [wire.Frame(0x19, {"body": bytes.fromhex(case["hex"])}) for case in cases]
        tag = wire.cluster_tag(CLUSTER)
        datagrams = [
            wire.encode(wire.Header(1, 2, 7, 7, 1 + n, 0, tag), [frame], CLUSTER) for n, frame in enumerate(notice)
        ]
        for case, packet in zip(cases, self.dissect(datagrams, *KNOWN)):
            with self.subTest(case["name"]):
                is_read = not {"frame0.body.malformed", "frame0.body.opaque"} & set(packet.fields)
                if case["expect"] == "malformed":
                    # An empty body has no place to show.
                    self.assertFalse(is_read and case["hex"], packet.fields)
                    continue
                fields = {f"frame0.body.{name}": value for name, value in case["fields"].items()}
                self.assertTrue(is_read)
                self.assertEqual(packet.differences(fields), [])
                self.assertEqual(packet.strangers({**fields, "frame0.type": ""}), [])

    def test_drops_are_flagged_with_their_reason(self) -> None:
        cases = [case for case in vectors("drops") if case["hex"]]
        packets = self.dissect(
            [bytes.fromhex(case["hex"]) for case in cases], *KNOWN, "-d", f"udp.port=={PORT},raftgram"
        )
        for case, packet in zip(cases, packets):
            with self.subTest(case["name"]):
                if case["name"] == "sealed":
                    # The dissector has no keys, and cannot know whether the receiver has.
                    self.assertEqual(packet.fields["crc_status"], "sealed")
                else:
                    self.assertEqual(packet.fields["drop"], case["expect"])

    def test_any_flipped_bit_is_flagged(self) -> None:
        data = bytes.fromhex(next(case["hex"] for case in vectors("datagrams") if case["name"] == "three-frames"))
        flipped = []
        for bit in range(8 * len(data)):
            changed = bytearray(data)
            changed[bit // 8] ^= 0x80 >> bit % 8
            flipped.append(bytes(changed))
        packets = self.dissect([data, *flipped], *KNOWN, "-d", f"udp.port=={PORT},raftgram")
        self.assertNotIn("drop", packets[0].fields)
        quiet = [bit for bit, packet in enumerate(packets[1:]) if "drop" not in packet.fields]
        # The flag that says "sealed" takes the checksum away, and only a key could tell.
        self.assertEqual(quiet, [31])
        shown = tshark(self.file, *KNOWN, "-d", f"udp.port=={PORT},raftgram", "-Y", "_ws.expert.group == \"Checksum\"")
        self.assertGreater(len(shown.splitlines()), 300)

    def test_mangled_datagrams_are_judged_as_the_python_decoder_judges_them(self) -> None:
        seed = 20_260_101
        rng = random.Random(seed)
        whole = [bytes.fromhex(case["hex"]) for case in vectors("datagrams")]
        notices = (wire.Frame(0x19, {"body": bytes.fromhex(case["hex"])}) for case in vectors("bodies"))
        header = wire.Header(1, 2, 7, 7, 5, 0, wire.cluster_tag(CLUSTER))
        whole += [wire.encode(header, [notice], CLUSTER) for notice in notices]
        mangled = [mangle(rng, rng.choice(whole)) for _ in range(800)]
        for number, (data, packet) in enumerate(zip(mangled, self.dissect(mangled, *KNOWN))):
            try:
                wire.judge(data, CLUSTER)
                reason = None
            except wire.Dropped as dropped:
                reason = dropped.reason
            where = f"seed {seed}, {number}: {data.hex()}"
            self.assertEqual(packet.fields.get("drop"), reason, where)
            if reason is None:
                # Control characters are shown in ways of their own.
                found = [one for one in packet.differences(wire.fields(data)) if "\\" not in one]
                self.assertEqual(found, [], where)

    def test_checksums_are_judged_as_soon_as_a_handshake_tells_the_cluster(self) -> None:
        by_name = {case["name"]: bytes.fromhex(case["hex"]) for case in vectors("datagrams")}
        names = ["heartbeat", "node-hello", "heartbeat", "client-hello"]
        packets = self.dissect([by_name[name] for name in names])
        # Read twice, by which time all is known.
        self.assertEqual([p.fields["crc_status"] for p in packets], ["good"] * 4)
        write_pcap(self.file, [(1.0, CLIENT, NODE, by_name["heartbeat"])])
        self.assertIn("unverified", dissect(self.file)[0].fields["crc_status"])

    def test_sealed_datagrams_show_what_is_in_plain(self) -> None:
        cases = [case for case in vectors("sealed") if "fields" in case and case["kind"] == "sealed"]
        for case, packet in zip(cases, self.dissect([bytes.fromhex(case["hex"]) for case in cases])):
            with self.subTest(case["name"]):
                is_session = case["fields"]["sealed_under"].startswith("session")
                fields = {
                    name: value for name, value in case["fields"].items()
                    if name != "sealed_under" and not (is_session and name.startswith("frame"))
                }  # fmt: skip
                self.assertEqual(packet.differences(fields), [])
                self.assertEqual("sealed" in packet.fields, is_session)

    def test_requests_and_replies_are_linked_and_what_is_sent_again_is_marked(self) -> None:
        tag = wire.cluster_tag(CLUSTER)
        status, answer = encode_body({"kind": 0x44}), encode_body({"kind": 0x81})

        def to_node(packet: int, frame: wire.Frame) -> bytes:
            header = wire.Header(ANY, 1, 3, 7, packet, wire.CLIENT | wire.ACK_ELICITING, tag)
            return wire.encode(header, [frame], CLUSTER)

        def to_client(packet: int, frame: wire.Frame) -> bytes:
            return wire.encode(wire.Header(1, ANY, 7, 3, packet, wire.ACK_ELICITING, tag), [frame], CLUSTER)

        request = wire.Frame(0x10, {"call": 9, "body": status})
        reply = wire.Frame(0x14, {"call": 9, "body": answer})
        body = encode_body({"kind": 0x42, "session": 5, "sequence": 1, "finished": [], "command": bytes(90)})
        halves = [
            wire.Frame(0x13, {"call": 10, "total_bytes": len(body), "offset": at, "part": body[at : at + 50]})
            for at in (50, 0)
        ]
        sent: List[Sent] = [
            (1.0, CLIENT, NODE, to_node(1, request)),
            (1.05, CLIENT, NODE, to_node(2, request)),
            (1.06, CLIENT, NODE, to_node(2, request)),
            (1.25, NODE, CLIENT, to_client(1, reply)),
            (1.5, NODE, CLIENT, to_client(2, reply)),
            (2.0, CLIENT, NODE, to_node(3, halves[0])),
            (2.1, CLIENT, NODE, to_node(4, halves[1])),
            (2.2, CLIENT, NODE, to_node(5, wire.Frame(0x10, {"call": 11, "body": status}))),
        ]
        write_pcap(self.file, sent)
        packets = [packet.fields for packet in dissect(self.file, *KNOWN)]
        self.assertEqual([p.get("frame0.reply_in") for p in packets], ["4", "4", "4"] + [None] * 5)
        self.assertEqual([p.get("frame0.request_in") for p in packets], [None] * 3 + ["1", "1"] + [None] * 3)
        again = [p.get("frame0.retransmission_of") for p in packets]
        self.assertEqual(again, [None, "1", None, None, "4"] + [None] * 3)
        self.assertEqual([p.get("copy_of") for p in packets], [None, None, "2"] + [None] * 5)
        self.assertEqual([p.get("frame0.response_time") for p in packets][3:5], ["0.250000000", None])
        # The whole body stands where its last part came.
        self.assertEqual(packets[6]["frame0.body.command"].replace(":", ""), bytes(90).hex())
        self.assertNotIn("frame0.body.command", packets[5])
        shown = tshark(self.file, *KNOWN, "-Y", "raftgram.retransmission_of", "-T", "fields", "-e", "frame.number")
        self.assertEqual(shown.split(), ["2", "5"])


if __name__ == "__main__":
    unittest.main()
