"""Makes the fuzz targets' corpora of the recordings in tools/conform/cases/fwd.

What an input looks like stands in src/lib.rs and src/input.rs.
"""

import hashlib
import json
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
CASES = HERE.parent / "tools/conform/cases/fwd"

# The numbers of src/rig.rs's METHODS, by what a recording calls its mode.
METHODS = {
    "dr": 0,
    "local": 0,
    "nat": 1,
    "tun_ipip": 2,
    "tun_gre_nocsum": 3,
    "tun_gre_csum": 4,
    "tun_gue_nocsum": 5,
    "tun_gue_csum": 6,
    "tun_gue_remcsum": 7,
}
OTHER_FAMILY = 8
ALONE = 4
MEND = 2


def frames_of(case):
    """Each frame that came, with the number of its link."""
    for step in case["steps"]:
        for frame in step.get("in", []):
            yield int(step["in_dev"] == "r"), bytes.fromhex(frame)


def left(case):
    """Each frame that the kernel sent."""
    for step in case["steps"]:
        for out in step.get("out", []):
            yield bytes.fromhex(out["hex"])


def listed(case):
    """A recording as one list of frames, each a batch of its own."""
    method = METHODS.get(case["mode"], 0)
    if case["family"] in ("v4in6", "v6in4"):
        method |= OTHER_FAMILY
    names = ["pmtu_disc", "schedule_icmp", "nat_icmp_send", "sloppy_tcp", "secure_tcp"]
    set_ones = [name for name in names if name in case.get("sysctl", {})]
    settings = sum(1 << names.index(name) for name in set_ones)
    settings |= 0x80 if case["mtu_r"] < 1500 else 0
    data = bytes([method, settings])
    for link, frame in frames_of(case):
        data += struct.pack(">BH", link | ALONE, len(frame)) + frame
    return data


def knobs(frame, number):
    """Knobs that are different for each frame, and the same each time."""
    seed = frame + number.to_bytes(2, "big")
    return hashlib.sha384(seed).digest() + frame


CLIENT, VIP, SERVER = (bytes(ip) for ip in ([172, 16, 3, 7], [10, 0, 0, 1], [10, 0, 1, 1]))
TCP, UDP, ESP = 6, 17, 50
SYN, SYN_ACK, ACK = 2, 18, 16


def listed_frame(link, protocol, src, dst, transport):
    """An IPv4 frame of a list, whose checksums are the fuzzer's to mend."""
    macs = [bytes.fromhex("0200000000c10200000000c0"), bytes.fromhex("0200000000e1020000000101")]
    length = 20 + len(transport)
    packet = struct.pack(">BBHHHBBH", 0x45, 0, length, 7, 0, 64, protocol, 0) + src + dst
    data = macs[link] + b"\x08\x00" + packet + transport
    return struct.pack(">BH", link | ALONE | MEND, len(data)) + data


def tcp(sport, dport, flags, text=b""):
    return struct.pack(">HHIIBBHHH", sport, dport, 1, 1, 0x50, flags, 512, 0, 0) + text


def udp(sport, dport, text):
    return struct.pack(">HHHH", sport, dport, 8 + len(text), 0) + text


def conversations():
    """What the recordings of forwarding have not: FTP, a SIP call, a key exchange and ESP."""
    up, down = (0, TCP, CLIENT, VIP), (1, TCP, SERVER, CLIENT)
    passive = b"227 Entering Passive Mode (10,0,1,1,200,10).\r\n"
    ftp = [
        listed_frame(*up, tcp(40000, 21, SYN)),
        listed_frame(*down, tcp(21, 40000, SYN_ACK)),
        listed_frame(*up, tcp(40000, 21, ACK)),
        listed_frame(*up, tcp(40000, 21, ACK, b"PASV\r\n")),
        listed_frame(*down, tcp(21, 40000, ACK, passive)),
        listed_frame(*up, tcp(40001, 51210, SYN)),
        listed_frame(*up, tcp(40000, 21, ACK, b"PORT 172,16,3,7,4,1\r\n")),
        listed_frame(*down, tcp(20, 1025, SYN)),
        listed_frame(*up, tcp(40000, 21, ACK)),
    ]
    call = b"INVITE sip:a@b SIP/2.0\r\nCall-ID: 7@172.16.3.7\r\n\r\n"
    others = [
        listed_frame(0, UDP, CLIENT, VIP, udp(40000, 5060, call)),
        listed_frame(0, UDP, CLIENT, VIP, udp(40001, 5060, call)),
        listed_frame(0, UDP, CLIENT, VIP, udp(500, 500, b"key exchange")),
        listed_frame(0, ESP, CLIENT, VIP, b"encapsulated"),
        listed_frame(1, ESP, SERVER, CLIENT, b"encapsulated"),
    ]
    return b"".join(ftp), b"".join(others)


# TCP options with a segment size at an even and at an odd place.
SEGMENT_SIZES = [bytes([2, 4, 5, 0xB4]), bytes([1, 2, 4, 5, 0xB4, 0, 0, 0])]


def with_options(frame, options):
    """A TCP frame with these options in place of none; its checksums are the fuzzer's to mend."""
    is_ipv4 = frame[12:14] == b"\x08\x00" and frame[14] == 0x45 and frame[23] == 6
    is_ipv6 = frame[12:14] == b"\x86\xdd" and frame[20] == 6
    length_at, tcp = (16, 34) if is_ipv4 else (18, 54)
    if not (is_ipv4 or is_ipv6) or len(frame) < tcp + 20 or frame[tcp + 12] >> 4 != 5:
        return None
    frame = bytearray(frame[: tcp + 20] + options + frame[tcp + 20 :])
    (length,) = struct.unpack_from(">H", frame, length_at)
    struct.pack_into(">H", frame, length_at, length + len(options))
    frame[tcp + 12] += len(options) // 4 << 4
    return bytes(frame)


def mended(frame):
    """Knobs with the first bit set, which makes checksums right."""
    data = bytearray(knobs(frame, 0))
    data[0] |= 1
    return bytes(data)


def seeds():
    for method in range(8):
        for frames in conversations():
            yield "engine", bytes([method, 0]) + frames
    for path in sorted(CASES.glob("*.json")):
        case = json.loads(path.read_text())
        yield "parse", listed(case)
        yield "engine", listed(case)
        came = [frame for _, frame in frames_of(case)]
        for frame in came[:1]:
            for options in SEGMENT_SIZES:
                if syn := with_options(frame, options):
                    yield "rewrite", mended(syn)
        for number, frame in enumerate(came + list(left(case))):
            yield "rewrite", knobs(frame, number)
            yield "icmp", knobs(frame, number)


def main():
    for target, data in seeds():
        # What is longer than the fuzzer's inputs is left out.
        if len(data) > int(sys.argv[1]):
            continue
        folder = HERE / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


main()
