"""Captures for the tests: pcap files of datagrams, and what tshark makes of them with the dissector."""

import pathlib
import re
import shutil
import struct
import subprocess
import unittest
import xml.etree.ElementTree as xml
from typing import Dict, Iterable, List, Optional, Tuple

from .support import ROOT

DISSECTOR = ROOT / "tools" / "wireshark" / "raftgram.lua"
PORT = 7101
GROUPS = ("frame", "entry", "peer", "transfer", "member", "window", "event")
"""Groups of fields of which there may be several."""
Sent = Tuple[float, str, str, bytes]
"""When, from and to which address (`a.b.c.d:port`), and the payload."""


def write_pcap(path: pathlib.Path, datagrams: Iterable[Sent]) -> None:
    """Raw IPv4 packets (link type 101)."""
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101))
        for time, source, destination, payload in datagrams:
            ends = [one.rpartition(":") for one in (source, destination)]
            ips = [bytes(map(int, host.split("."))) for host, _, _ in ends]
            ports = [int(port) for _, _, port in ends]
            udp = struct.pack(">HHHH", *ports, 8 + len(payload), 0) + payload
            head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0x4000, 64, 17, 0, *ips)
            packet = head + udp
            whole = int(time)
            file.write(struct.pack("<IIII", whole, round((time - whole) * 1e6), len(packet), len(packet)) + packet)


def tshark(path: pathlib.Path, *arguments: str) -> str:
    found = shutil.which("tshark")
    if not found:
        raise unittest.SkipTest("there is no tshark: install Debian's package of this name")
    command = [found, "-X", f"lua_script:{DISSECTOR}", "-r", str(path), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120, text=True)
    said = [line for line in done.stderr.splitlines() if "Running as user" not in line]
    assert done.returncode == 0 and not said, f"{command}: {done.returncode}, {said}"
    return done.stdout


class Packet:
    """What the dissector shows of a packet: values by name as `wire decode` names them, and what it adds."""

    def __init__(self, proto: Optional[xml.Element]) -> None:
        self.size = 0 if proto is None else int(proto.get("size", "0"))
        self.fields: Dict[str, str] = {}
        if proto is not None:
            self._walk(proto, "", {})

    def _walk(self, node: xml.Element, prefix: str, counts: Dict[str, int]) -> None:
        for item in node.findall("field"):
            name = item.get("name", "").replace("raftgram.", "", 1)
            if name in GROUPS:
                counts[prefix + name] = counts.get(prefix + name, -1) + 1
                self._walk(item, f"{prefix}{name}{counts[prefix + name]}.", counts)
            elif name == "body":
                self._walk(item, f"{prefix}body.", counts)
            elif name == "drops":
                shown = [child.get("show", "") for child in item.findall("field")]
                self.fields[f"{prefix}drops.{shown[0] if shown else ''}"] = shown[1] if len(shown) > 1 else ""
            else:
                group, _, last = name.rpartition(".")
                inside = "body." if group == "body" and not prefix.endswith("body.") else ""
                is_grouped = group in (*GROUPS, "body")
                key = prefix + inside + last if is_grouped else prefix + name
                self.fields[key] = item.get("show", "")
                self._walk(item, prefix, counts)

    def differences(self, expected: Dict[str, str]) -> List[str]:
        """What is not as a decoder printed it."""
        found = []
        for name, value in expected.items():
            shown = str(self.size) if name == "bytes" else self.fields.get(name)
            if name.endswith("why") or shown is None and value == "":
                continue
            if shown is None or not _is_same(shown, value):
                found.append(f"{name}: {shown}, not {value}")
        return found

    def strangers(self, expected: Dict[str, str]) -> List[str]:
        """Values of frames that no decoder printed."""
        added = re.compile(r"code$|_in$|_of$|expert\.|response_time$|_ws\.|^[^.]*$|^flags\.")
        # Of what is malformed, whatever came before the fault is shown.
        cut = tuple(name.rpartition(".")[0] for name in expected if name.endswith(".malformed"))
        # Bodies put together from fragments stand at the last one.
        cut += tuple(name.replace("type", "body.") for name, value in expected.items() if value.endswith("-fragment"))
        names = [name for name in self.fields if not (cut and name.startswith(cut))]
        return [name for name in names if name not in expected and not added.search(name)]


def _is_same(shown: str, expected: str) -> bool:
    plain = shown.replace(":", "")
    return (
        shown == expected
        or plain == expected
        or shown.startswith("0x") and int(shown, 16) == int(expected.split()[0], 16)
        or {"0": "false", "1": "true", "False": "false", "True": "true"}.get(shown) == expected
    )


def dissect(path: pathlib.Path, *arguments: str) -> List[Packet]:
    """All packets; of those that are no raftgram there is nothing to see."""
    text = tshark(path, "-2", "-T", "pdml", *arguments)
    packets = []
    for packet in xml.fromstring(text).findall("packet"):
        protos = [proto for proto in packet.findall("proto") if proto.get("name") == "raftgram"]
        packets.append(Packet(protos[0] if protos else None))
    return packets
