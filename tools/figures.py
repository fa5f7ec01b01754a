#!/usr/bin/env python3
"""The tables of docs/performance.md and of README.md, measured anew: `python3 tools/figures.py [--pairs N] [ROW …]`.

Builds nothing: it runs target/release/raftgram, or the one named by RAFTGRAM, on loopback, in temporary folders. Each row
starts a cluster of its own and ends it. All the rows take some ten minutes on two quiet cores; `--list` names them.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

RAFTGRAM = os.environ.get("RAFTGRAM", os.path.join(os.path.dirname(__file__), "..", "target", "release", "raftgram"))
PORT = 7801
TICKS = os.sysconf("SC_CLK_TCK")


class Cluster:
    """`raftgram cluster up`, and what its processes cost."""

    def __init__(self, *args, nodes=3, core=None):
        self.address = ",".join(str(PORT + i) for i in range(nodes))
        prefix = ["taskset", "-c", str(core)] if core is not None else []
        command = [*prefix, RAFTGRAM, "cluster", "up", "--temp", "--nodes", str(nodes), "--port", str(PORT), *args]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            done = subprocess.run([RAFTGRAM, "kv", "put", "ready", "yes", "--cluster", self.address, "--timeout", "2s"],
                                  capture_output=True, check=False)
            if done.returncode == 0:
                return
        raise SystemExit("the cluster did not start")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)

    def nodes(self):
        """The process ids of the nodes."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as children:
            return [int(pid) for pid in children.read().split()]

    def processor_seconds(self):
        """utime and stime of all nodes."""
        return sum(processor_seconds(pid) for pid in self.nodes())

    def sent(self):
        """Datagrams and bytes that the nodes sent, by their own count."""
        nodes = run("status", "--cluster", self.address, "--json")["nodes"]
        return sum(node["sent"] for node in nodes), sum(node["sent_bytes"] for node in nodes)


def processor_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


def run(*args, core=None):
    prefix = ["taskset", "-c", str(core)] if core is not None else []
    done = subprocess.run([*prefix, RAFTGRAM, *args], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(args)}: exit {done.returncode}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def kv(cluster, *args, core=None):
    return run("bench", "kv", "--cluster", cluster.address, "--json", *args, core=core)


def against_floor(name, goal, figure, clients, *flags, fsync, connections=1, core=None):
    """Floor and cluster in turn; the ratio is the median of the pairs."""
    with Cluster(*flags, *([] if fsync else ["--no-fsync"]), core=core) as cluster:
        args = ["--size", "64B", "--duration", "1s", "--warm-up", "500ms", "--profile", "floor", "--pairs", str(PAIRS)]
        args += ["--clients", str(clients), "--connections", str(connections)] + (["--floor-fsync"] if fsync else [])
        found = kv(cluster, *args, core=core)["floor"][figure]
    unit = "µs" if figure == "p50" else "/s"
    row(name, f"{found['floor']:,.0f} {unit}", f"{found['cluster']:,.0f} {unit}",
        f"{found['ratio']:.2f} ({found['low']:.2f}–{found['high']:.2f})", goal)


def cost(name, *load, fsync):
    """Processor time of all processes, and datagrams of the nodes, a commit."""
    with Cluster(*([] if fsync else ["--no-fsync"])) as cluster:
        kv(cluster, "--size", "64B", "--duration", "1s", *load)
        before, sent = cluster.processor_seconds(), cluster.sent()
        children = os.times()
        done = kv(cluster, "--size", "64B", "--warm-up", "0s", "--duration", "4s", *load)
        after = os.times()
        client = after.children_user - children.children_user + after.children_system - children.children_system
        seconds = cluster.processor_seconds() - before + client
        datagrams, size = (b - a for a, b in zip(sent, cluster.sent()))
        ops = done["ops"]
        row(name, f"{1e6 * seconds / ops:.1f} µs", f"{datagrams / ops:.2f}", f"{size / ops:.0f} B",
            f"{done['ops_per_s']:,.0f}/s")


def reads(name, *args):
    """Linearizable reads against writes of the same shape, in turn."""
    with Cluster("--no-fsync") as cluster:
        pairs = []
        for _ in range(max(3, PAIRS // 2)):
            rates = [kv(cluster, "--size", "64B", "--clients", "1024", "--duration", "2s", "--reads", share, *args)
                     for share in ("0%", "100%")]
            pairs.append([rate["ops_per_s"] for rate in rates])
        pairs.sort(key=lambda pair: pair[1] / pair[0])
        write, read = pairs[len(pairs) // 2]
        low, high = (pair[1] / pair[0] for pair in (pairs[0], pairs[-1]))
        row(name, f"{write:,.0f}/s", f"{read:,.0f}/s", f"{read / write:.2f} ({low:.2f}–{high:.2f})", "≥ 1.5 ×")


def idle():
    """Processor time of a node that has nothing to do, and its memory."""
    with Cluster() as cluster:
        time.sleep(2)
        before, began = cluster.processor_seconds(), time.monotonic()
        time.sleep(20)
        share = (cluster.processor_seconds() - before) / (time.monotonic() - began) / len(cluster.nodes())
        memory = max(resident_mib(pid) for pid in cluster.nodes())
        row("a node at rest", f"{100 * share:.2f} % of a core", f"{memory:.1f} MiB", "≤ 0.5 %, ≤ 30 MiB")


def growth():
    """How cost grows with nodes, values, clients and state."""
    def measure(name, cluster, size, clients, keys=100):
        args = ["--size", size, "--clients", str(clients), "--keys", str(keys)]
        done = kv(cluster, *args, "--duration", "2s", "--warm-up", "1s")
        latency = done["latency_us"]
        row(name, f"{done['ops_per_s']:,.0f}/s", f"{latency['p50']:,.0f} µs", f"{latency['p99']:,.0f} µs")

    def one(name, nodes, size, clients):
        with Cluster("--no-fsync", nodes=nodes) as cluster:
            measure(name, cluster, size, clients)
    for nodes in (3, 5, 7):
        one(f"{nodes} nodes, 64 B, 64 clients", nodes, "64B", 64)
    for size in ("16B", "256B", "4KiB", "64KiB", "1MiB"):
        one(f"3 nodes, {size}, 16 clients", 3, size, 16)
    for clients in (1, 16, 64, 256, 1024, 4096):
        one(f"3 nodes, 64 B, {clients} clients", 3, "64B", clients)
    for keys in (1_000, 100_000, 1_000_000):
        with Cluster("--no-fsync") as cluster:
            # As many writes as bring nearly all keys.
            writes = 0
            while writes < 3 * keys:
                writes += kv(cluster, "--size", "64B", "--clients", "1024", "--keys", str(keys), "--duration", "2s")["ops"]
            last = run("status", "--cluster", cluster.address, "--json")["nodes"][0]["last"]
            measure(f"3 nodes, 64 B, 1,024 clients, {keys:,} keys, after {last:,} entries", cluster, "64B", 1024, keys)


def overload():
    """Goodput when clients want more than there is, and after it: nodes on one core, clients on the other."""
    with Cluster("--no-fsync", core=0) as cluster:
        def load(*args, **options):
            return kv(cluster, "--size", "64B", "--connections", "16", *args, core=1, **options)
        peak = load("--clients", "1024", "--duration", "5s")["ops_per_s"]
        row("1,024 clients in closed loops", f"{peak:,.0f}/s", "")
        for times in (2, 4):
            rate = str(int(times * peak))
            done = load("--clients", "4096", "--duration", "10s", "--timeout", "5s", "--rate", rate)
            lost = f"{done['errors'] + done['unknown']} not done"
            row(f"{times} × as many wanted, 4,096 at once", f"{done['ops_per_s']:,.0f}/s", f"{done['ops_per_s'] / peak:.2f}", lost)
            after = load("--clients", "1024", "--duration", "5s", "--warm-up", "0s")["ops_per_s"]
            row("the five seconds after it", f"{after:,.0f}/s", f"{after / peak:.2f}")


def catch_up():
    """A node that was away gets a snapshot and loads it, with no disk in the way: the folders are in memory."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        ids, nodes = (1, 2, 3), {}
        address = ",".join(str(PORT + i) for i in range(3))
        two = ",".join(str(PORT + i) for i in range(2))

        def start(i, *args):
            voters = ",".join(f"{j}={PORT + j - 1}" for j in ids)
            command = [RAFTGRAM, "node", "--id", str(i), "--listen", str(PORT + i - 1), "--voters", voters, "--no-fsync",
                       "--data", f"{folder}/{i}", "--pull-rate", "64GiB", "--log-tail", "1MiB", *args]
            nodes[i] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def stop(i):
            nodes[i].send_signal(signal.SIGTERM)
            nodes[i].wait(60)

        try:
            for i in ids:
                start(i, "--bootstrap")
            run("kv", "put", "ready", "yes", "--cluster", address, "--timeout", "60s", "--json")
            stop(3)
            run("bench", "kv", "--cluster", two, "--clients", "16", "--size", "256KiB", "--keys", "4000", "--duration", "15s",
                "--json")
            began = time.monotonic()
            run("snapshot", "take", "--cluster", two, "--timeout", "120s", "--json")
            taken = time.monotonic() - began
            size = max(os.path.getsize(os.path.join(f"{folder}/1", f)) for f in os.listdir(f"{folder}/1") if f.startswith("snap"))
            last = run("status", "--cluster", two, "--json")["nodes"][0]["commit"]
            began = time.monotonic()
            start(3)
            while (run("status", "--cluster", address, "--json")["nodes"][2].get("applied") or 0) < last:
                time.sleep(0.05)
                if time.monotonic() - began > 120:
                    raise SystemExit("the node did not catch up")
            caught_up = time.monotonic() - began
        finally:
            for node in nodes.values():
                node.kill()
                node.wait(60)
        for name, took in (("a snapshot is taken and written", taken), ("a node starts, pulls it, loads it and is level", caught_up)):
            row(f"{name}, {size / 2**20:.0f} MiB", f"{took:.2f} s", f"{size / took / 1e9:.2f} GB/s", "≥ 1 GB/s")


def row(*cells):
    print("| " + " | ".join(cells) + " |", flush=True)


ROWS = {
    "one-core": lambda: against_floor("1 client, no fsync, all on one core, p50", "≤ 2 ×", "p50", 1, fsync=False, core=0),
    "unpinned": lambda: against_floor("1 client, no fsync, unpinned, p50", "≤ 1.3 ×", "p50", 1, fsync=False),
    "spin": lambda: against_floor("1 client, no fsync, unpinned, nodes that spin, p50", "≤ 1.3 ×", "p50", 1, "--spin", "1ms",
                                  fsync=False),
    "fsync": lambda: against_floor("1 client, fsync, p50", "≤ 1.3 ×", "p50", 1, fsync=True),
    "64": lambda: against_floor("64 clients of one request, no fsync, ops/s", "≥ 0.4 ×", "ops_per_s", 64, fsync=False,
                                connections=64),
    "64-fsync": lambda: against_floor("64 clients of one request, fsync, ops/s", "≥ 0.6 ×", "ops_per_s", 64, fsync=True,
                                      connections=64),
    "1024": lambda: against_floor("1,024 outstanding at one client, no fsync, ops/s", "≥ 0.3 ×", "ops_per_s", 1024,
                                  fsync=False),
    "1024-fsync": lambda: against_floor("1,024 outstanding at one client, fsync, ops/s", "≥ 0.4 ×", "ops_per_s", 1024,
                                        fsync=True),
    "reads": lambda: reads("linearizable reads, 1,024 outstanding, against writes"),
    "cost-1024": lambda: cost("1,024 outstanding at one client, no fsync", "--clients", "1024", fsync=False),
    "cost-1024-fsync": lambda: cost("1,024 outstanding at one client, fsync", "--clients", "1024", fsync=True),
    "cost-64": lambda: cost("64 clients with a socket each, no fsync", "--clients", "64", "--connections", "64",
                            fsync=False),
    "cost-1": lambda: cost("1 client, no fsync", "--clients", "1", fsync=False),
    "idle": idle,
    "growth": growth,
    "overload": overload,
    "catch-up": catch_up,
}

if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--pairs", type=int, default=7)
    arguments.add_argument("--list", action="store_true")
    arguments.add_argument("rows", nargs="*", metavar="ROW")
    given = arguments.parse_args()
    PAIRS = given.pairs
    if given.list:
        print("\n".join(ROWS))
        sys.exit()
    unknown = [name for name in given.rows if name not in ROWS]
    if unknown:
        sys.exit(f"no such row: {', '.join(unknown)}; there are: {', '.join(ROWS)}")
    for name in given.rows or ROWS:
        ROWS[name]()
