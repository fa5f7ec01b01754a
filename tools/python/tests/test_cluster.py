"""The client against real nodes that lose 10 % of all datagrams, and whose leaders are killed."""

import contextlib
import io
import os
import pathlib
import signal
import subprocess
import threading
import time
import unittest
from typing import Dict, List

from .support import ROOT, Processes, free_ports, wait_for

import raftgram

KILLS = int(os.environ.get("RAFTGRAM_KILLS", "20"))
WORKERS = 3


class Lossy(Processes):
    def test_every_operation_at_10_percent_loss(self) -> None:
        nodes = self.cluster_up("--loss", "10%")
        with raftgram.Client(nodes, timeout=30) as kv:
            self.assertIsNone(kv.get("a"))
            self.assertIsNone(kv.put("a", "1").previous)
            self.assertEqual(kv.get("a"), b"1")
            self.assertTrue(kv.cas("a", "1", "2"))
            refused = kv.cas("a", "1", "3")
            self.assertFalse(refused)
            self.assertEqual(refused.previous and refused.previous.value, b"2")
            self.assertTrue(kv.cas("b", None, "new"))
            self.assertFalse(kv.cas("b", None, "newer"))
            removed = kv.delete("b")
            self.assertEqual(removed.previous and removed.previous.value, b"new")
            self.assertIsNone(kv.delete("b").previous)
            for level in ("linearizable", "lease"):
                self.assertEqual(kv.get("a", level=level), b"2")
            self.assertIn(kv.get("a", level="local"), (None, b"1", b"2"))

            large = os.urandom(1 << 20)
            kv.put("large", large)
            self.assertEqual(kv.get("large"), large)
            held = kv.put("large", "small").previous
            self.assertIsNotNone(held)
            self.assertIsNone(held and held.value)
            with self.assertRaises(raftgram.TooLarge):
                kv.put("large", large + b"1")

            for number in range(100):
                kv.put(f"list/{number:03}", bytes(8000))
            rows = list(kv.list("list/"))
            self.assertEqual([row.key for row in rows], [f"list/{n:03}".encode() for n in range(100)])
            self.assertTrue(all(row.value == bytes(8000) for row in rows))
            self.assertEqual(list(kv.list("nothing/")), [])

            statuses = kv.status()
            self.assertEqual(sorted(s.node for s in statuses), [1, 2, 3])
            self.assertEqual([s.role for s in statuses].count("leader"), 1)
            self.assertEqual({s.fields["cluster"].hex() for s in statuses}, {kv.cluster_id})

    def test_the_guide_runs_as_it_is_printed(self) -> None:
        nodes = ",".join(self.cluster_up())
        blocks = (ROOT / "docs/python.md").read_text().split("```python\n")[1:]
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            for block in blocks:
                code = block.split("```")[0]
                self.assertIn("127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103", code)
                exec(code.replace("127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103", nodes), {})
        lines = said.getvalue().splitlines()
        self.assertEqual(lines[:2], ["b'hello'", "changed"])
        self.assertTrue(any(line.endswith("b'color' b'blue'") for line in lines), lines)
        self.assertEqual(lines[-1], "b'10'")

    def test_a_sealed_cluster_is_told_from_a_dead_one(self) -> None:
        key = str(self.folder / "key")
        subprocess.run([self.raftgram, "key", "new", key], check=True, stdout=subprocess.DEVNULL, timeout=30)
        nodes = self.cluster_up("--key", key)
        with raftgram.Client(nodes, timeout=1) as kv, self.assertRaises(raftgram.Sealed) as caught:
            kv.put("a", "1")
        self.assertIn("proxy", str(caught.exception))

    def test_a_sealed_cluster_is_reached_through_a_proxy_that_holds_a_key(self) -> None:
        keys = {role: str(self.folder / role) for role in ("cluster", "app")}
        for role, more in (("cluster", []), ("app", ["--client"])):
            subprocess.run(
                [self.raftgram, "key", "new", *more, keys[role]], check=True, stdout=subprocess.DEVNULL, timeout=30
            )
        with open(keys["cluster"], "a") as all_keys, open(keys["app"]) as app:
            all_keys.write(app.read())
        nodes = self.cluster_up("--key", keys["cluster"], "--loss", "5%")
        listen = f"127.0.0.1:{free_ports(1)}"
        # One node is named: where others are, redirects tell.
        proxy = self.start("proxy", "proxy", "--key", keys["app"], "--listen", listen, "--upstream", nodes[0])
        with raftgram.Client(listen, timeout=30) as kv:
            self.assertIsNone(kv.put("a", "1").previous)
            self.assertEqual(kv.get("a"), b"1")
            self.assertTrue(kv.cas("a", "1", "2"))
            self.assertFalse(kv.cas("a", "1", "3"))
            large = os.urandom(1 << 18)
            written = kv.put("b", large)
            self.assertEqual([(row.key, row.value) for row in kv.list()], [(b"a", b"2"), (b"b", large)])
            changes = list(kv.watch(after=written.index - 1, timeout=0.2))
            self.assertEqual([change.key for change in changes], [b"b"])
            leader = kv.status()[0]
            self.assertEqual((leader.role, leader.fields["cluster"].hex()), ("leader", kv.cluster_id))
            # Another one takes its place, and the proxy follows.
            transfer = [self.raftgram, "--key", keys["cluster"], "--cluster", ",".join(nodes), "leader", "transfer"]
            subprocess.run(transfer, check=True, stdout=subprocess.DEVNULL, timeout=30)
            self.assertTrue(kv.cas("a", "2", "4"))
            self.assertEqual(kv.get("a"), b"4")
            # So it is when the proxy is another: the session is the client's.
            proxy.kill()
            proxy.wait(15)
            proxy = self.start("proxy", "proxy", "--key", keys["app"], "--listen", listen, "--upstream", nodes[1])
            self.assertTrue(kv.cas("a", "4", "5"))
        proxy.terminate()
        self.assertEqual(proxy.wait(15), 0)
        assert proxy.stdout is not None
        said = proxy.stdout.read().decode() + (self.folder / "proxy.log").read_text()
        self.assertIn(f"listening {listen}\n", said)
        for file in keys.values():
            for line in pathlib.Path(file).read_text().splitlines():
                self.assertNotIn(line.split()[-1], said)

    def test_a_proxy_hears_plain_clients_on_loopback_only(self) -> None:
        key = self.folder / "key"
        subprocess.run([self.raftgram, "key", "new", str(key)], check=True, stdout=subprocess.DEVNULL, timeout=30)
        arguments = [self.raftgram, "proxy", "--key", str(key), "--upstream", "127.0.0.1:9"]
        cases = [
            (["--listen", f"0.0.0.0:{free_ports(1)}"], 0o600, 2, "on loopback only"),
            (["--listen", f"127.0.0.1:{free_ports(1)}", "--loss", "1%"], 0o600, 2, "takes no faults"),
            (["--listen", f"127.0.0.1:{free_ports(1)}"], 0o644, 1, "chmod 600"),
        ]
        for more, mode, code, why in cases:
            with self.subTest(why):
                key.chmod(mode)
                ended = subprocess.run([*arguments, *more], capture_output=True, text=True, timeout=30)
                self.assertEqual(ended.returncode, code, ended.stderr)
                self.assertIn(why, ended.stderr)


class Kills(Processes):
    """Three nodes; whoever leads is killed and started again, while clients count."""

    def setUp(self) -> None:
        super().setUp()
        first = free_ports(3)
        self.addresses = {n: f"127.0.0.1:{first + n - 1}" for n in (1, 2, 3)}
        self.processes: Dict[int, subprocess.Popen] = {}
        for node in self.addresses:
            self.run_node(node)

    def run_node(self, node: int) -> None:
        voters = ",".join(f"{n}={address}" for n, address in self.addresses.items())
        # A killed process loses nothing that it wrote: only a machine would.
        self.processes[node] = self.start(
            f"node-{node}", "node", "--id", str(node), "--listen", self.addresses[node], "--voters", voters,
            "--data", str(self.folder / str(node)), "--bootstrap", "--loss", "10%", "--no-fsync", "--log-level", "warn",
        )  # fmt: skip

    def count(self, done: List[int], unknown: List[str], is_over: threading.Event) -> None:
        with raftgram.Client(list(self.addresses.values()), timeout=60) as kv:
            while not is_over.is_set():
                try:
                    held = kv.get("counter")
                    if kv.cas("counter", held, str(int(held or 0) + 1)):
                        done.append(1)
                except raftgram.RaftgramError as error:
                    unknown.append(str(error))

    def follow(self, seen: List[int], errors: List[str], is_over: threading.Event) -> None:
        """Watches the counter until it was told that nothing more comes, and nothing came."""
        try:
            with raftgram.Client(list(self.addresses.values()), timeout=60) as kv:
                after = 0
                while True:
                    is_last = is_over.is_set()
                    for change in kv.watch("counter", after=after, timeout=2):
                        seen.append(int(change.value or 0))
                        after = change.index
                    if is_last:
                        return
        except raftgram.RaftgramError as error:
            errors.append(str(error))

    def test_every_write_is_applied_once_through_leader_kills(self) -> None:
        done: List[int] = []
        errors: List[str] = []
        seen: List[int] = []
        is_over = threading.Event()
        workers = [threading.Thread(target=self.count, args=(done, errors, is_over)) for _ in range(WORKERS)]
        workers.append(threading.Thread(target=self.follow, args=(seen, errors, is_over)))
        watcher = raftgram.Client(list(self.addresses.values()), timeout=30)
        self.addCleanup(watcher.close)
        self.addCleanup(is_over.set)
        for worker in workers:
            worker.start()

        def leader() -> int:
            leading = [s for s in watcher.status(timeout=0.3) if s.role == "leader"]
            return max(leading, key=lambda s: s.term).node if leading else 0

        deadline = time.monotonic() + 120
        for kill in range(KILLS):
            before = len(done)
            wait_for(f"writes before kill {kill}", lambda least=before + 5: len(done) > least)
            victim = wait_for("a leader", leader)
            self.processes[victim].send_signal(signal.SIGKILL)
            self.processes[victim].wait(10)
            after = len(done)
            wait_for(f"a write after kill {kill}", lambda least=after: len(done) > least)
            self.run_node(victim)
            self.assertLess(time.monotonic(), deadline, f"{kill} kills took too long")
        is_over.set()
        for worker in workers:
            worker.join(90)
            self.assertFalse(worker.is_alive())
        self.assertEqual(errors, [])
        self.assertEqual(watcher.get("counter"), str(len(done)).encode())
        self.assertEqual(seen, list(range(1, len(done) + 1)), "the watcher saw each once and in order")
        print(f"{len(done)} increments through {KILLS} leader kills, each applied once")


if __name__ == "__main__":
    unittest.main()
