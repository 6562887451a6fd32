"""What goes through is what went in: every protocol upwards, three workers, all sizes, no memory."""
import hashlib
import subprocess
import uuid

import pytest

from lib import parallel
from lib.raw import Raw
from lib.servers import FILES, GIB, fnv1a64, fnv1a64_zeros, pattern, release_folder
from lib.sidecar import peak_rss, reset_peak, rss

KINDS = ["h1", "h1-tls", "h2-tls", "h2c"]
MIB = 1 << 20


def curl(*args, timeout=120, **options):
    return subprocess.run(["curl", "-sS", "-m", str(timeout), *map(str, args)], check=True, capture_output=True,
                          timeout=timeout + 10, **options).stdout


def upload_path(kind):
    """Where a POST comes back: nginx passes it to the origin, nghttpd echoes."""
    return "/up" if kind.startswith("h2") else "/origin/sha"


def came_back(kind, answer, data):
    if kind.startswith("h2"):
        return answer.body == data
    return f'"bytes":{len(data)},"fnv1a64":"{fnv1a64(data)}"'.encode() in answer.body


@pytest.fixture
def relay(sidecar, four, origin):
    return sidecar({**four, "origin": origin.url}, workers=3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_get_is_answered_with_the_bytes_and_fields_of_the_upstream(kind, relay, nginx):
    for name, size in FILES.items():
        answer = relay.call(kind, "GET", f"/{name}")
        assert (answer.status, answer.body) == (200, pattern(size)), name
        with Raw(nginx.ports["plain"]) as connection:
            direct = connection.call("GET", f"/{name}")
        assert answer.body == direct.body
        if kind == "h1":
            for field in ("content-type", "content-length", "last-modified", "etag", "accept-ranges", "server"):
                assert answer[field] == direct[field], field
    missing = relay.call(kind, "GET", "/no-such-file")
    assert missing.status == 404 and missing["x-rhc-error"] is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_post_arrives_whole_in_either_framing(kind, framing, relay):
    for size in (0, 1, 1000, 65537, MIB):
        data = pattern(size)
        cut = [data[i:i + 20001] for i in range(0, size, 20001)]
        body = {"body": data} if framing == "length" else {"chunks": cut}
        answer = relay.call(kind, "POST", upload_path(kind), **body)
        assert answer.status == 200 and came_back(kind, answer, data), (size, answer)


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_has_the_fields_without_the_body_and_the_connection_goes_on(kind, relay):
    with relay.connect() as connection:
        for _ in range(3):
            head = connection.call("HEAD", "/page", host=kind)
            assert head.status == 200 and head["content-length"] == str(FILES["page"]) and head.body == b""
            assert connection.call("GET", "/page", host=kind).body == pattern(FILES["page"])


@pytest.mark.parametrize("kind", KINDS)
def test_sixty_four_calls_at_once_get_each_their_own_answer(kind, relay):
    names = list(FILES)

    def calls(i):
        with relay.connect() as connection:
            for turn in range(10):
                name = names[(i + turn) % len(names)]
                answer = connection.call("GET", f"/{name}", host=kind)
                if (answer.status, answer.body) != (200, pattern(FILES[name])):
                    return name, answer
        return None
    assert parallel.run(64, calls) == [None] * 64
    relay.counted(640, "rhc_requests_total", upstream=kind, code="2xx")


@pytest.mark.parametrize("how", [["--h1"], ["-m", "8"]], ids=["http1", "h2c"])
def test_h2load_gets_every_answer_over_http1_and_h2c(how, relay):
    done = subprocess.run(["h2load", *how, "-n", "2000", "-c", "16", "-H", "x-rhc-upstream: h1", relay.url("/small")],
                          capture_output=True, text=True, timeout=60)
    assert "2000 succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout, done.stdout


def test_h2c_by_prior_knowledge_carries_the_same_bytes(relay, tmp_path):
    (tmp_path / "up").write_bytes(pattern(300000))
    how = ["--http2-prior-knowledge", "-H", "x-rhc-upstream: origin"]
    assert curl(*how, relay.url("/bytes/300000")) == pattern(300000)
    answer = curl(*how, "--data-binary", f"@{tmp_path / 'up'}", relay.url("/sha"))
    assert fnv1a64(pattern(300000)).encode() in answer


def test_an_absolute_target_and_the_header_x_rhc_upstream_choose_the_upstream(relay, origin):
    with relay.connect() as connection:
        assert connection.call("GET", "http://origin/bytes/77", host="origin").body == pattern(77)
        assert connection.call("GET", "/bytes/78", {"x-rhc-upstream": "origin"}, host="localhost").body == pattern(78)


def test_a_listener_of_an_upstream_needs_no_name(sidecar, origin):
    from lib.wait import free_port
    port = free_port()
    sidecar({"origin": {"url": origin.url + "/bytes", "listen": f"127.0.0.1:{port}"}})
    with Raw(port) as connection:
        assert connection.call("GET", "/321", host="whatever.example").body == pattern(321)


def test_chunked_answers_keep_their_trailers_and_informational_ones_come_first(relay):
    answer = relay.call("origin", "GET", "/chunked/70000?chunk=333", {"TE": "trailers"})
    assert answer.body == pattern(70000)
    assert answer.trailers == [("X-Checked", "70000")]
    hinted = relay.call("origin", "GET", "/1xx?n=3")
    assert hinted.status == 200 and [i.status for i in hinted.informational] == [103, 103, 103]


def test_an_answer_that_ends_with_the_connection_arrives_whole(relay):
    assert relay.call("origin", "GET", "/until-close?n=100000").body == pattern(100000)
    old = relay.call("origin", "GET", "/raw/http10")
    assert (old.status, old.body) == (200, b"old but fine")


def test_an_early_answer_reaches_the_app_while_it_still_sends(relay):
    with relay.connect(timeout=10) as connection:
        connection.send("POST /early-answer?status=413 HTTP/1.1\r\nHost: origin\r\nContent-Length: 100000000\r\n\r\n")
        connection.send(pattern(100000))
        assert connection.read().status == 413


def test_expect_100_continue_is_answered_before_the_body_is_sent(relay):
    with relay.connect(timeout=10) as connection:
        connection.send("POST /sha HTTP/1.1\r\nHost: origin\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        while b"\r\n\r\n" not in connection.buffer:
            assert connection._more()
        assert connection.buffer.startswith(b"HTTP/1.1 100 ")
        connection.send("hello")
        answer = connection.read()
        assert answer.status == 200 and fnv1a64(b"hello").encode() in answer.body


def test_pipelined_requests_are_answered_in_their_order(relay):
    with relay.connect() as connection:
        connection.send("".join(f"GET /bytes/{n} HTTP/1.1\r\nHost: origin\r\n\r\n" for n in range(20)))
        for n in range(20):
            assert connection.read().body == pattern(n)


def test_a_slow_body_arrives_byte_by_byte(relay):
    with relay.connect(timeout=10) as connection:
        connection.request("GET", "/drip?n=4&ms=300", host="origin")
        while b"\r\n\r\n\0" not in connection.buffer:
            assert connection._more()
        assert not connection.buffer.endswith(b"\3"), "the first byte waited for the last"
        assert connection.read().body == pattern(4)


# ---- a GiB, and what it costs in memory: only without sanitizers does RSS mean anything ----

@pytest.fixture
def lean(sidecar, four, release_origin):
    return sidecar({**four, "origin": release_origin.url}, workers=3, build=release_folder(),
                   defaults={"timeout": {"read": 60, "write": 60}})


class Memory:
    """Each worker may grow by less than 8 MiB over its size after a first small call."""

    def __init__(self, one):
        self.pids = one.workers
        assert len(self.pids) == 3
        self.before = {pid: rss(pid) for pid in self.pids}
        for pid in self.pids:
            reset_peak(pid)

    def check(self):
        for pid in self.pids:
            grown = peak_rss(pid) - self.before[pid]
            assert grown < 8 * MIB, f"worker {pid} grew by {grown / MIB:.1f} MiB"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.limit(150)
def test_a_gibibyte_downloaded_needs_less_than_eight_mebibytes(kind, lean):
    lean.call(kind, "GET", "/small")
    memory = Memory(lean)
    size = curl("-o", "/dev/null", "-w", "%{http_code} %{size_download}", "-H", f"Host: {kind}", lean.url("/zeros.1g"))
    assert size.decode() == f"200 {GIB}"
    memory.check()


@pytest.mark.limit(150)
def test_a_gibibyte_uploaded_needs_less_than_eight_mebibytes(lean, files):
    lean.call("origin", "GET", "/")
    memory = Memory(lean)
    answer = curl("-T", files / "zeros.1g", "-H", "Host: origin", "-H", "Expect:", lean.url("/sha"))
    assert answer.decode() == f'{{"bytes":{GIB},"fnv1a64":"{fnv1a64_zeros(GIB)}"}}\n'
    memory.check()


@pytest.mark.parametrize("kind", ["h2-tls", "h2c"])
@pytest.mark.limit(150)
def test_an_http2_upload_and_its_echo_need_less_than_eight_mebibytes(kind, lean, tmp_path):
    size = 256 * MIB
    with (tmp_path / "zeros").open("wb") as zeros:
        zeros.truncate(size)
    lean.call(kind, "GET", "/small")
    memory = Memory(lean)
    with subprocess.Popen(["curl", "-sS", "-m", "120", "-X", "POST", "-T", tmp_path / "zeros", "-H", f"Host: {kind}",
                           "-H", "Expect:", lean.url(f"/{uuid.uuid4()}")], stdout=subprocess.PIPE) as echo:
        digest, count = hashlib.sha256(), 0
        while data := echo.stdout.read(MIB):
            digest.update(data)
            count += len(data)
    assert count == size and digest.hexdigest() == hashlib.sha256(bytes(size)).hexdigest()
    memory.check()


def test_a_slow_reader_holds_the_upstream_back_instead_of_filling_memory(lean):
    lean.call("h1", "GET", "/small")
    memory = Memory(lean)
    with lean.connect(timeout=60) as connection:
        connection.request("GET", "/zeros.1g", host="h1")
        for _ in range(20):  # reads a little, so that the kernel's buffers are full all the time
            assert connection._more()
        del connection.buffer[:]
        lean.call("h1", "GET", "/large")
        memory.check()
