"""The scapy layer against the vectors: the same values, and the same bytes again."""

import unittest

from .support import CLUSTER, vectors

try:
    import scapy_raftgram as layer
    from scapy.layers.inet import IP, UDP
    from scapy.packet import Raw
except ImportError:
    layer = None

import raftgram_wire as wire

ADDED = ("why", "malformed", "opaque")


@unittest.skipUnless(layer, "there is no scapy: install Debian's python3-scapy and run its Python")
class Scapy(unittest.TestCase):
    def setUp(self) -> None:
        layer.set_cluster(CLUSTER.hex())

    def test_datagrams_hold_what_they_should_and_build_to_the_same_bytes(self) -> None:
        for case in vectors("datagrams", "steps"):
            if "fields" not in case:
                continue
            with self.subTest(case["name"]):
                data = bytes.fromhex(case["hex"])
                packet = layer.Raftgram(data)
                packet.clear_cache()
                self.assertEqual(bytes(packet).hex(), case["hex"])
                self.check_header(packet, case["fields"])
                found, expected = layer.show_fields(packet), case["fields"]
                frames = {name: text for name, text in expected.items() if name.startswith("frame")}
                readable = {name for name in frames if name.rpartition(".")[2] not in ADDED}
                self.assertEqual({name: found.get(name) for name in readable}, {n: frames[n] for n in readable})
                self.assertEqual(set(found) - set(frames), set())
                if case["expect"] == "accept":
                    self.assertIsNone(packet.drop_reason())
                # Left out, it is computed; the id that it covers is zeros under tag 0.
                packet.crc = None
                self.assertEqual(bytes(packet).hex(), case["hex"])

    def check_header(self, packet, fields) -> None:
        def node(number: int) -> str:
            return "any" if number == 0xFFFF else f"n{number}"

        self.assertEqual(f"{packet.crc:08x}", fields["crc"])
        self.assertEqual(f"{packet.cluster_tag:08x}", fields["cluster_tag"])
        self.assertEqual(f"{int(packet.flags):02x}", fields["flags"].split()[0])
        self.assertEqual([node(packet.source), node(packet.destination)], [fields["source"], fields["destination"]])
        numbers = ("version", "source_incarnation", "destination_incarnation", "packet")
        self.assertEqual([str(getattr(packet, name)) for name in numbers], [fields[name] for name in numbers])

    def test_bodies_hold_what_they_should_and_build_to_the_same_bytes(self) -> None:
        for case in vectors("bodies"):
            with self.subTest(case["name"]):
                body = bytes.fromhex(case["hex"])
                notice = wire.encode_frame(wire.Frame(0x19, {"body": body}))
                header = wire.encode(wire.Header(1, 2, 7, 7, 5), [], CLUSTER)
                packet = layer.Raftgram(header + notice)
                held = packet.frames[0].body
                self.assertEqual(bytes(packet), header + notice)
                if case["expect"] == "malformed":
                    self.assertIsInstance(held, (Raw, type(None)))
                    continue
                found = {name[len("frame0.body.") :]: text for name, text in layer.show_fields(packet).items()
                         if name.startswith("frame0.body.")}  # fmt: skip
                self.assertEqual(found, case["fields"])
                held.clear_cache()
                self.assertEqual(bytes(held).hex(), case["hex"])

    def test_drops_have_their_reason_and_stay_whole(self) -> None:
        for case in vectors("drops"):
            with self.subTest(case["name"]):
                data = bytes.fromhex(case["hex"])
                if len(data) < wire.HEADER_BYTES:
                    continue
                packet = layer.Raftgram(data)
                self.assertEqual(packet.drop_reason(), case["expect"])
                packet.clear_cache()
                self.assertEqual(bytes(packet).hex(), case["hex"])

    def test_sealed_datagrams_stay_whole(self) -> None:
        for case in vectors("sealed"):
            if case["kind"] == "sealed":
                packet = layer.Raftgram(bytes.fromhex(case["hex"]))
                packet.clear_cache()
                self.assertEqual(bytes(packet).hex(), case["hex"])

    def test_a_datagram_is_built_from_names(self) -> None:
        data = bytes.fromhex(next(case["hex"] for case in vectors("datagrams") if case["name"] == "client-propose"))
        propose = layer.body(
            "propose", session=1000000, sequence=7, finished=[(1, 6)], command=b"hello"
        )
        built = layer.Raftgram(
            flags=wire.CLIENT | wire.ACK_ELICITING, destination=1, source_incarnation=3, destination_incarnation=7,
            packet=4, frames=[layer.frame("request once", call=3, body=propose)],
        )  # fmt: skip
        self.assertEqual(bytes(built), data)
        reply = layer.Raftgram(source=1, frames=[layer.frame("reply", call=3, body=layer.body("applied"))])
        self.assertTrue(reply.answers(built))
        self.assertFalse(built.answers(reply))
        self.assertIn("request once propose", built.summary())

    def test_ports_are_bound(self) -> None:
        layer.bind(47101)
        data = bytes.fromhex(next(case["hex"] for case in vectors("datagrams") if case["name"] == "heartbeat"))
        whole = bytes(IP(src="127.0.0.1", dst="127.0.0.1") / UDP(sport=9, dport=47101) / data)
        self.assertEqual(IP(whole)[layer.Raftgram].frames[0].body.name, "heartbeat")


if __name__ == "__main__":
    unittest.main()
