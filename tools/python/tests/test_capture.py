"""`raftgram trace pcap`: recordings as captures, which tshark, scapy and `wire decode` read alike."""

import json
import pathlib
import shutil
import subprocess
import unittest
from typing import List

from .captures import dissect, tshark
from .support import Processes, free_ports, without_why

import raftgram
import raftgram_wire as wire

try:
    import scapy_raftgram as layer
    from scapy.error import log_runtime
    from scapy.utils import rdpcap

    # scapy 2.5 wants a newline at the end of each comment; it reads the packets all the same.
    log_runtime.setLevel("ERROR")
except ImportError:
    layer = None


class Captures(Processes):
    def record(self, *arguments: str) -> List[str]:
        """A cluster that was written to; the files that its nodes recorded."""
        records = self.folder / "record"
        nodes = self.cluster_up("--record", str(records), *arguments)
        with raftgram.Client(nodes, timeout=30) as kv:
            self.cluster = kv.cluster_id
            for number in range(20):
                kv.put(f"key/{number}", "v" * number)
            kv.put("large", bytes(100_000))
            self.assertEqual(len(list(kv.list("key/"))), 20)
            kv.status()
            self.cluster = kv.cluster_id
        return self.files(records)

    def files(self, records) -> List[str]:
        cluster = [process for process in self.started if process.poll() is None]
        for process in cluster:
            self.stop(process)
        return sorted(str(path) for path in records.glob("*.jsonl"))

    def raftgram_json(self, *arguments: str):
        done = subprocess.run([self.raftgram, "--json", *arguments], stdout=subprocess.PIPE, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout)
        return json.loads(done.stdout)

    def pcap(self, files: List[str], *arguments: str):
        out = self.folder / "capture.pcapng"
        return out, self.raftgram_json("trace", "pcap", *files, "--out", str(out), *arguments)

    def test_a_recording_opens_in_tshark_and_scapy_with_every_field_as_decoded(self) -> None:
        out, made = self.pcap(self.record("--loss", "5%", "--dup", "5%"))
        self.assertGreater(made["packets"], 300)
        decoded = self.raftgram_json("wire", "decode", str(out), "--cluster-id", self.cluster or "")
        self.assertEqual((len(decoded["datagrams"]), decoded["others"]), (made["packets"], 0))

        packets = dissect(out, "-o", f"raftgram.cluster_id:{self.cluster}")
        self.assertEqual(len(packets), made["packets"])
        for number, (datagram, packet) in enumerate(zip(decoded["datagrams"], packets), 1):
            fields = datagram["fields"]
            self.assertEqual(packet.differences(fields), [], f"packet {number}")
            self.assertEqual(packet.strangers(fields), [], f"packet {number}")
            self.assertEqual(packet.fields.get("drop"), datagram["drop"], f"packet {number}")
        kinds = {fields.get("frame0.type") for fields in (packet.fields for packet in packets)}
        self.assertTrue({"hello", "hello-ack", "request", "reply", "notice", "ack", "request-fragment"} <= kinds, kinds)
        linked = [p for p in packets if any(name.endswith("response_time") for name in p.fields)]
        self.assertGreater(len(linked), 40)

        # Each datagram is there once, whoever else saw it; what was sent again is known to both.
        names = ("source", "source_incarnation", "destination", "packet")
        numbers = [tuple(packet.fields[name] for name in names) for packet in packets]
        between = [number for number in numbers if "any" not in number]
        self.assertEqual(len(between), len(set(between)))
        said = tshark(out, "-Y", "frame.comment", "-T", "fields", "-e", "frame.comment").splitlines()
        self.assertEqual(len(said), made["comments"])
        self.assertTrue(any("sent again" in line for line in said))
        self.assertTrue(any("not seen by node" in line or "dropped by node" in line for line in said), said[:5])

        tcpdump = shutil.which("tcpdump")
        if tcpdump is None:
            self.skipTest("there is no tcpdump, with which to see what libpcap makes of it")
        read = subprocess.run([tcpdump, "-nr", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        self.assertEqual((read.returncode, len(read.stdout.splitlines())), (0, made["packets"]), read.stderr)
        self.check_scapy(out, decoded["datagrams"])

    def check_scapy(self, out, decoded) -> None:
        if layer is None:
            self.skipTest("there is no scapy: install Debian's python3-scapy and run its Python")
        layer.set_cluster(self.cluster or "")
        packets = rdpcap(str(out))
        self.assertEqual(len(packets), len(decoded))
        for packet, datagram in zip(packets, decoded):
            payload = bytes(packet["UDP"].payload)
            found = layer.Raftgram(payload)
            self.assertIsNone(found.drop_reason())
            self.assertEqual(wire.judge(payload, bytes.fromhex(self.cluster or ""))[0].packet, found.packet)
            fields = {name: text for name, text in datagram["fields"].items() if name.startswith("frame")}
            readable = without_why({n: t for n, t in fields.items() if not n.endswith((".malformed", ".opaque"))})
            shown = layer.show_fields(found)
            self.assertEqual({name: shown.get(name) for name in readable}, readable)

    def test_a_sealed_recording_is_shown_in_plain_with_the_key_log(self) -> None:
        key, log = str(self.folder / "key"), str(self.folder / "key-log")
        subprocess.run([self.raftgram, "key", "new", key], check=True, stdout=subprocess.DEVNULL, timeout=30)
        records = self.folder / "record"
        address = f"127.0.0.1:{free_ports(1)}"
        self.start(
            "node", "node", "--id", "1", "--listen", address, "--voters", f"1={address}", "--data",
            str(self.folder / "data"), "--bootstrap", "--key", key, "--key-log", log, "--record", str(records),
        )  # fmt: skip
        kv = [self.raftgram, "--cluster", address, "--key", key, "--timeout", "30s", "kv", "put", "secret", "word"]
        subprocess.run(kv, check=True, stdout=subprocess.DEVNULL, timeout=60)
        files = self.files(records)
        out, made = self.pcap(files)
        self.assertGreater(made["sealed"], 4)
        self.assertNotIn(b"secret".hex(), tshark(out, "-T", "fields", "-e", "udp.payload"))
        out, opened = self.pcap(files, "--key", log)
        self.assertGreater(opened["opened"], 0)
        self.assertEqual(opened["sealed"] + opened["opened"], made["sealed"])
        # Handshakes are under the key itself.
        with open(log, "a") as both:
            both.write(pathlib.Path(key).read_text())
        out, opened = self.pcap(files, "--key", log)
        self.assertEqual((opened["sealed"], opened["opened"]), (0, made["sealed"]))
        packets = dissect(out)
        self.assertEqual({p.fields["crc_status"] for p in packets}, {"good"})
        commands = [p.fields[name] for p in packets for name in p.fields if name.endswith("body.command")]
        self.assertTrue(any(b"secret".hex() in command.replace(":", "") for command in commands))
        said = tshark(out, "-Y", "frame.comment", "-T", "fields", "-e", "frame.comment")
        self.assertIn("here in plain", said)

    def test_a_simulated_run_is_a_capture_too(self) -> None:
        trace = str(self.folder / "trace.jsonl")
        sim = ["sim", "--seed", "7", "--time", "3s", "--faults", "all", "--trace", trace, "--payloads"]
        self.raftgram_json(*sim)
        out, made = self.pcap([trace])
        packets = dissect(out)
        self.assertEqual(len(packets), made["packets"])
        self.assertTrue(all("drop" not in p.fields or p.fields["drop"] for p in packets))
        said = tshark(out, "-Y", "frame.comment", "-T", "fields", "-e", "frame.comment")
        self.assertIn("lost: ", said)
        every, all_made = self.pcap([trace], "--all")
        self.assertGreater(all_made["packets"], made["packets"])
        self.assertEqual(len(tshark(every).splitlines()), all_made["packets"])


if __name__ == "__main__":
    unittest.main()
