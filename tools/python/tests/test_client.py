"""The client against nodes that are dead, deaf, strange or wrong: a defined error by the deadline, and no flood."""

import socket
import time
import unittest
from typing import List

from .support import CLUSTER, FakeNode

import raftgram
import raftgram_wire as wire
from raftgram_bodies import decode_body, encode_body
from raftgram_link import Seen

OTHER_CLUSTER = bytes(range(1, 17))


def replying(*bodies: bytes, then_silent: bool = False):
    """A node that answers requests by these bodies, the last one again and again."""
    left = list(bodies)

    def answer(node: FakeNode, data: bytes) -> List[bytes]:
        greeting = node.greet(data)
        if greeting is not None:
            return greeting
        header, frames = node.seen[-1]
        sent = [wire.Frame(7, {"delay_us": 0, "packets": [(header.packet, header.packet)]})]
        for frame in frames:
            if frame.type in (0x10, 0x11) and left:
                body = left[0]
                if len(left) > 1 or then_silent:
                    left.pop(0)
                sent.append(wire.Frame(0x14, {"call": frame.values["call"], "body": body}))
        if not header.flags & wire.ACK_ELICITING:
            return []
        return [node.datagram(sent, to=header.source_incarnation)]

    return answer


OPENED = encode_body({"kind": 0x80, "session": 9})
APPLIED = encode_body({"kind": 0x82, "index": 5, "term": 2, "result": bytes([0, 0])})


class Errors(unittest.TestCase):
    def expect(self, error, node_or_address, seconds: float, words: str = "", operation=None, **options):
        address = getattr(node_or_address, "address", node_or_address)
        began = time.monotonic()
        with raftgram.Client(address, timeout=seconds, **options) as client:
            with self.assertRaises(error) as caught:
                (operation or (lambda kv: kv.put("k", "v")))(client)
            self.assertLess(time.monotonic() - began, seconds + 0.5)
        self.assertIs(type(caught.exception), error)
        self.assertIn(words, str(caught.exception))
        self.assertIn("", str(caught.exception))
        return str(caught.exception)

    def test_a_dead_address_is_said_to_refuse(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        said = self.expect(raftgram.Unreachable, str(port), 0.6, "connection refused")
        self.assertIn(f"{port}: connection refused", said)

    def test_a_name_that_does_not_resolve_is_named(self) -> None:
        self.expect(raftgram.Unreachable, "no-such-host.invalid:7101", 0.3, "no-such-host.invalid:7101")

    def test_an_address_that_cannot_be_is_refused_at_once(self) -> None:
        for name in ("", "host", "host:0", "host:70000", ":7101", "host:port"):
            with self.assertRaises(ValueError):
                raftgram.Client(name)

    def test_a_silent_node_is_given_up_and_not_flooded(self) -> None:
        count: List[bytes] = []
        with FakeNode(lambda node, data: count.append(data) or []) as node:
            self.expect(raftgram.Unreachable, node, 1.5, "no answer")
        self.assertLessEqual(len(count), 14)
        self.assertTrue(all(len(data) >= 256 for data in count))

    def test_garbage_is_counted_by_reason(self) -> None:
        with FakeNode(lambda node, data: [b"no raftgram", b"x" * 40, data[:-1]]) as node:
            said = self.expect(raftgram.Unreachable, node, 0.8, "dropped")
        for reason in ("short", "magic", "crc_or_seal"):
            self.assertIn(reason, said)

    def test_an_echo_is_no_node(self) -> None:
        with FakeNode(lambda node, data: [data]) as node:
            self.expect(raftgram.Unreachable, node, 0.5)

    def test_a_sealed_cluster_is_named_with_the_way_out(self) -> None:
        refusal = wire.Frame(0x0B, {"reason": 1})
        with FakeNode(lambda node, data: [node.datagram([refusal], tag=0)]) as node:
            self.expect(raftgram.Sealed, node, 0.5, "proxy")

    def test_a_refused_seal_alone_does_not_end_an_operation(self) -> None:
        """[W-77]: anyone can send it."""
        refusal = wire.Frame(0x0B, {"reason": 1})
        node_answers = replying(OPENED, APPLIED)
        with FakeNode(lambda node, data: [node.datagram([refusal], tag=0), *node_answers(node, data)]) as node:
            with raftgram.Client(node.address) as client:
                self.assertEqual(client.put("k", "v").index, 5)

    def test_another_version_is_told(self) -> None:
        versions = wire.Frame(5, {"min": 2, "max": 3})
        with FakeNode(lambda node, data: [node.datagram([versions], tag=0)]) as node:
            self.expect(raftgram.Unreachable, node, 0.4, "versions 2 to 3")

    def test_another_cluster_is_an_error_at_once(self) -> None:
        with FakeNode(replying(OPENED)) as node:
            said = self.expect(raftgram.WrongCluster, node, 5, cluster_id=OTHER_CLUSTER.hex())
            self.assertIn(CLUSTER.hex(), said)

    def test_a_watch_tells_changes_and_ends_by_its_timeout_or_its_error(self) -> None:
        def watched(through: int, *events: bytes) -> bytes:
            rows = [{"index": through, "term": 2, "event": event} for event in events]
            return encode_body({"kind": 0x91, "through": through, "events": rows})

        put, delete = b"\0\1kv", b"\1k"
        with FakeNode(replying(watched(5, put), watched(7, delete), watched(7))) as node:
            with raftgram.Client(node.address) as client:
                changes = list(client.watch("k", after=3, timeout=0.3))
        self.assertEqual(
            [(c.key, c.value, c.index) for c in changes], [(b"k", b"v", 5), (b"k", None, 7)]
        )

        def follow(kv: raftgram.Client) -> None:
            list(kv.watch("k", after=3, timeout=0.5))

        with FakeNode(replying(encode_body({"kind": 0x92, "oldest": 900}))) as node:
            self.expect(raftgram.Compacted, node, 5, "900", follow)
        with FakeNode(replying(watched(5, b"\7k"))) as node:
            self.expect(raftgram.Unreadable, node, 5, "an event of kind 7", follow)
        with FakeNode(replying(then_silent=True)) as node:
            self.expect(raftgram.Unreachable, node, 1.2, "no answer", follow)

    def test_a_garbage_reply_is_an_error_and_no_answer(self) -> None:
        with FakeNode(replying(OPENED, b"\x82\x00\xff")) as node:
            self.expect(raftgram.OutcomeUnknown, node, 0.5, "cannot be read")
        with FakeNode(replying(b"\xff")) as node:
            self.expect(raftgram.Unreachable, node, 0.5, "cannot be read", lambda kv: kv.get("k"))
        with FakeNode(replying(encode_body({"kind": 0x83, "index": 1, "term": 1, "result": b"\x01"}))) as node:
            self.expect(raftgram.Unreadable, node, 5, "cannot be read", lambda kv: kv.get("k"))

    def test_a_write_without_an_answer_has_an_unknown_outcome(self) -> None:
        with FakeNode(replying(OPENED, then_silent=True)) as node:
            self.expect(raftgram.OutcomeUnknown, node, 0.7, "outcome unknown")

    def test_a_read_without_an_answer_has_no_outcome_to_know(self) -> None:
        with FakeNode(lambda node, data: node.greet(data) or []) as node:
            self.expect(raftgram.Unreachable, node, 0.5, operation=lambda kv: kv.get("k"))

    def test_a_session_that_cannot_be_opened_leaves_the_write_unsent(self) -> None:
        with FakeNode(lambda node, data: node.greet(data) or []) as node:
            self.expect(raftgram.Unreachable, node, 0.5)

    def test_a_write_that_had_no_time_to_be_sent_is_known_not_to_be_applied(self) -> None:
        with FakeNode(replying(OPENED, APPLIED)) as node, raftgram.Client(node.address) as client:
            client.put("k", "v")
            sent = len(node.requests())
            with self.assertRaises(raftgram.Unreachable):
                client.put("k", "v", timeout=0)
            self.assertEqual(len(node.requests()), sent)

    def test_nodes_without_a_leader_are_told_apart_from_dead_ones(self) -> None:
        redirect = encode_body({"kind": 0x85, "leader": 0, "address": None})
        with FakeNode(replying(redirect)) as node:
            self.expect(raftgram.NoLeader, node, 0.4, "does not lead")

    def test_an_expired_session_is_an_unknown_outcome_and_the_next_write_opens_another(self) -> None:
        """[W-49]"""
        with FakeNode(replying(OPENED, encode_body({"kind": 0x87}), OPENED, APPLIED)) as node:
            with raftgram.Client(node.address) as client:
                with self.assertRaises(raftgram.SessionExpired):
                    client.put("k", "v")
                self.assertEqual(client.put("k", "v").index, 5)

    def test_what_is_too_large_is_not_sent(self) -> None:
        with raftgram.Client("127.0.0.1:9") as client:
            for operation in (lambda: client.put("k" * 4097, ""), lambda: client.put("k", bytes(1 << 20) + b"1")):
                with self.assertRaises(raftgram.TooLarge):
                    operation()


class Conduct(unittest.TestCase):
    """What a node sees of the client."""

    def test_a_body_above_the_credit_is_not_sent(self) -> None:
        """[W-40]"""
        with FakeNode(replying(OPENED, APPLIED)) as node:
            node.credit_bytes = 5000
            with raftgram.Client(node.address) as client:
                self.assertEqual(client.put("k", bytes(900)).index, 5)
                with self.assertRaises(raftgram.TooLarge):
                    client.put("k", bytes(5000))
        self.assertFalse([f for _, frames in node.seen for f in frames if f.type in (0x12, 0x13)])

    def test_an_attempt_at_another_node_has_the_same_sequence_and_a_call_of_its_own(self) -> None:
        """[W-48], [W-35]"""
        with FakeNode(replying(OPENED, then_silent=True)) as deaf, FakeNode(replying(APPLIED)) as other:
            with raftgram.Client([deaf.address, other.address], timeout=5) as client:
                self.assertEqual(client.put("k", "v").index, 5)
        first = [f for f in deaf.requests() if decode_body(f.values["body"])["kind"] == 0x42]
        again = [f for f in other.requests() if decode_body(f.values["body"])["kind"] == 0x42]
        self.assertEqual({f.values["body"] for f in first}, {again[0].values["body"]})
        self.assertFalse({f.values["call"] for f in first} & {f.values["call"] for f in again})
        # A request that was acknowledged is not sent again.
        self.assertEqual(len(first), 1)

    def test_a_request_that_is_not_acknowledged_is_sent_again_and_not_faster_than_allowed(self) -> None:
        """[W-31]"""
        times: List[float] = []

        def answer(node: FakeNode, data: bytes) -> List[bytes]:
            greeting = node.greet(data)
            if greeting is None:
                times.append(time.monotonic())
            return greeting or []

        with FakeNode(answer) as node, raftgram.Client(node.address, timeout=0.9) as client:
            with self.assertRaises(raftgram.Unreachable):
                client.get("k")
        packets = [header.packet for header, _ in node.seen]
        self.assertEqual(len(packets), len(set(packets)))
        self.assertGreater(len(times), 4)
        self.assertLess(len(times), 16)
        calls = {frame.values["call"] for frame in node.requests()}
        self.assertEqual(calls, {1})

    def test_replies_are_acknowledged_and_finished_sequences_named(self) -> None:
        with FakeNode(replying(OPENED, APPLIED)) as node:
            with raftgram.Client(node.address) as client:
                client.put("a", "1")
                client.put("a", "2")
        acked = [f.values["packets"] for _, frames in node.seen for f in frames if f.type == 7]
        self.assertGreaterEqual(len(acked), 3)
        proposals = [decode_body(f.values["body"]) for f in node.requests()]
        finished = [p["finished"] for p in proposals if p["kind"] == 0x42]
        self.assertEqual(finished[:2], [[], [(1, 1)]])

    def test_a_node_that_was_started_again_gets_a_client_without_a_past(self) -> None:
        """[W-19], [W-23], [W-39]"""
        replies = replying(OPENED, APPLIED)

        def answer(node: FakeNode, data: bytes) -> List[bytes]:
            header, frames = node.read(data)
            if header.destination_incarnation not in (0, node.incarnation):
                return [node.datagram([wire.Frame(6, {"current": node.incarnation})])]
            return replies(node, data)

        with FakeNode(answer) as node, raftgram.Client(node.address, timeout=5) as client:
            client.put("a", "1")
            node.incarnation, node.packet = 8, 0
            self.assertEqual(client.put("a", "2").index, 5)
            hellos = [h for h, frames in node.seen if frames[0].type == 1]
            self.assertEqual(hellos[-1].source_incarnation, 0)
            self.assertEqual(hellos[-1].destination_incarnation, 8)

    def test_the_window_of_packet_numbers(self) -> None:
        """[W-28]"""
        seen = Seen()
        for number in (5, 6, 9, 7, 3000):
            self.assertNotIn(number, seen)
            seen.add(number)
        self.assertIn(3000, seen)
        self.assertIn(952, seen)
        self.assertNotIn(953, seen)
        self.assertEqual(seen.ranges, [(3000, 3000)])
        seen.add(2999)
        self.assertEqual(seen.ranges, [(2999, 3000)])


if __name__ == "__main__":
    unittest.main()
