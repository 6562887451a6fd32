"""What a call may not do once the sidecar is warm: allocate."""
import mmap
import pathlib
import struct
import subprocess

import pytest

from lib.servers import pattern, release_folder

COUNTER = pathlib.Path(__file__).parent.parent / "lib" / "malloc_count.c"
WORDS = 64


class Allocations:
    def __init__(self, folder):
        self.library = folder / "malloc_count.so"
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", self.library, COUNTER], check=True)
        self.path = folder / "malloc_count"
        self.path.write_bytes(bytes(WORDS * 8))
        with self.path.open("r+b") as file:
            self.memory = mmap.mmap(file.fileno(), WORDS * 8)

    @property
    def env(self):
        return {"LD_PRELOAD": str(self.library), "MALLOC_COUNT": str(self.path)}

    def during(self, work):
        """How many allocations, and where the first ones came from."""
        self.memory[:] = struct.pack("Q", 1) + bytes(WORDS * 8 - 8)
        work()
        self.memory[:8] = struct.pack("Q", 0)
        words = struct.unpack(f"{WORDS}Q", self.memory[:])
        return words[1], [hex(word) for word in words[2:] if word]


@pytest.fixture
def counted(sidecar, four, release_origin, tmp_path):
    allocations = Allocations(tmp_path)
    one = sidecar({**four, "origin": release_origin.url}, workers=1, build=release_folder(), env=allocations.env)
    return one, allocations


def test_the_counter_counts(counted):
    one, allocations = counted
    n, _ = allocations.during(lambda: one.get("/metrics"))
    assert n > 0, "an answer of /metrics is made on the heap, and the counter did not see it"


# OpenSSL allocates its record buffers anew for an idle connection (that is what lets ours hold none), so TLS is not here.
@pytest.mark.parametrize("upstream, path", [("origin", "/bytes/1000"), ("h1", "/small"), ("h2c", "/small")])
def test_a_warm_worker_allocates_nothing_for_a_call(counted, upstream, path):
    one, allocations = counted
    with one.connect() as connection:
        def calls(n):
            for _ in range(n):
                assert connection.call("GET", path, host=upstream).status == 200
        calls(200)
        n, where = allocations.during(lambda: calls(500))
    assert n == 0, f"{n} allocations in 500 calls, the first from {where[:8]}"


def test_a_warm_worker_allocates_nothing_for_an_upload(counted):
    one, allocations = counted
    body = pattern(50000)
    with one.connect() as connection:
        for _ in range(20):
            assert connection.call("POST", "/sha", body=body, host="origin").status == 200

        def work():
            for _ in range(50):
                assert connection.call("POST", "/sha", body=body, host="origin").status == 200
        n, where = allocations.during(work)
    assert n == 0, f"{n} allocations in 50 uploads, the first from {where[:8]}"
