"""The words of a segment, for tests that plant what must not be there.  Offsets come from tests/shm/layout.golden."""
import mmap
import time

from .servers import TOP

GOLDEN = {name: (int(offset), int(size)) for name, offset, size in
          (line.split() for line in (TOP / "tests/shm/layout.golden").read_text().splitlines() if line.count(" ") == 2)}
UP_SIZE, WORKER_SIZE = GOLDEN["rhc_up.-"][1], GOLDEN["rhc_worker_rec.-"][1]
HEADER_CRC_END = GOLDEN["rhc_hdr.crc"][0]


def crc32c(data):
    value = 0xffffffff
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82f63b78 if value & 1 else 0)
    return value ^ 0xffffffff


class Segment:
    def __init__(self, path):
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 0)

    def close(self):
        self.map.close()

    def word(self, at, size=8):
        return int.from_bytes(self.map[at:at + size], "little")

    def poke(self, at, value, size=8):
        self.map[at:at + size] = value.to_bytes(size, "little")

    def header(self, field):
        return self.word(*GOLDEN[f"rhc_hdr.{field}"])

    def poke_header(self, field, value, sign=True):
        """A field of the header; the checksum is made right again, so that this field alone is wrong."""
        self.poke(GOLDEN[f"rhc_hdr.{field}"][0], value, GOLDEN[f"rhc_hdr.{field}"][1])
        if sign:
            self.poke(HEADER_CRC_END, crc32c(self.map[:HEADER_CRC_END]), 4)

    def up(self, index, field):
        """Where a field of an upstream's record lies."""
        return self.header("off_up") + index * UP_SIZE + GOLDEN[f"rhc_up.{field}"][0]

    def worker(self, index, field="word"):
        return self.header("off_workers") + index * WORKER_SIZE + GOLDEN[f"rhc_worker_rec.{field}"][0]

    def host_up(self, index):
        """The record of an upstream that is host number index's."""
        return self.header("max_upstreams") - self.header("max_hosts") + index

    def pin(self, index, worker):
        return (self.header("off_hosts") + index * GOLDEN["rhc_host.-"][1] + GOLDEN["rhc_host.pin"][0] +
                (worker % 8 * 8 + worker // 8) * 8)

    def slot(self, up, index):
        cap = self.header("slots_cap")
        lines = cap // 8
        return self.header("off_slots") + (up * cap + index % lines * 8 + index // lines) * 8

    def hints(self, up):
        return self.header("off_hints") + up * (self.header("slots_cap") // 64) * 8

    def incarnation(self, worker):
        return self.word(self.worker(worker)) >> 32

    def slot_word(self, owner, incarnation):
        return (time.monotonic_ns() // 1000000 // 64 & 0x3fffff) << 26 | (incarnation & 0xffff) << 10 | owner + 1

    def permit_word(self, owner, lease_ms):
        end = (time.monotonic_ns() // 1000000 + lease_ms) // 256
        return (end & 0xffffff) << 24 | owner + 1


def upstream_index(segment, name):
    for index in range(segment.header("max_upstreams")):
        at = segment.up(index, "name")
        if segment.map[at:at + 48].split(b"\0")[0] == name.encode():
            return index
    raise AssertionError(f"no upstream {name} in the segment")
