"""Large bodies between plain HTTP/1.1 connections go from socket to socket: every byte, every error and every count is as it
was when they were copied, and what must be looked at is looked at."""
import contextlib
import os
import random
import re
import socket
import subprocess
import threading
import time

import pytest

from lib import parallel
from lib.hostile import OK, Upstream
from lib.raw import Incomplete, Raw
from lib.servers import GIB, fnv1a64, fnv1a64_zeros, pattern, release_folder
from lib.wait import until

MIB = 1 << 20
LARGE = 3 * MIB + 12345
NO_BREAKER = {"circuit_breaker": {"enabled": False}}
ONE_TRY = {"retry": {"max_attempts": 1}}


@pytest.fixture
def upstream():
    started = []

    def start(script):
        started.append(Upstream(script))
        return started[-1]
    yield start
    for one in started:
        one.stop()
        assert not one.errors, one.errors


def spliced(one):
    return one.metrics().get("rhc_io_spliced_bytes_total")


def spliced_at_least(one, count):
    """Workers tell once a second."""
    until(f"{count} bytes were spliced", 5, lambda: spliced(one) >= count)


def nothing_was_spliced(one):
    """The workers have told their figures twice since."""
    for _ in range(2):
        loops = one.metrics().sum("rhc_worker_loops_total")
        until("the workers have told", 5, lambda: one.metrics().sum("rhc_worker_loops_total") > loops)
    assert spliced(one) == 0


def quiet(one, name="orders"):
    until("nothing is in flight", 10, lambda: one.in_use(name) == 0 and
          one.metrics().get("rhc_requests_in_flight", upstream=name) == 0)
    assert one.ctl("audit").code == 0


def serves(one, name="orders"):
    """The worker, and its pipes, are fit for the next."""
    answer = one.call(name, "GET", "/next")
    assert answer.status == 200
    return answer


def length_of(head):
    found = re.search(r"^content-length: (\d+)", head, re.I | re.M)
    return int(found.group(1)) if found else 0


def in_pieces(data, seed):
    """Random lengths: single bytes, some hundred, and long runs."""
    draw, at = random.Random(seed), 0
    while at < len(data):
        n = draw.choice((1, 2, draw.randrange(3, 700), draw.randrange(700, 20000), draw.randrange(20000, 400000)))
        yield data[at:at + n]
        at += n


def sends(size, pieces=None, close=False):
    """A script: every request is answered with so many bytes of the pattern."""
    def script(connection):
        while True:
            head = connection.head()
            data = pattern(2) if head.startswith("GET /next") else pattern(size)
            length = b"" if close else b"Content-Length: %d\r\n" % len(data)
            connection.send(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n")
            for piece in in_pieces(data, pieces) if pieces is not None else [data]:
                if not connection.send(piece):
                    return
            if close:
                return
    return script


def takes(connection):
    """A script: answers with what came."""
    while True:
        size = length_of(connection.head())
        body = connection.exactly(size)
        text = f"{size} {fnv1a64(body)}".encode()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))


def flooding(connection, data):
    """A thread that sends until it is cut off."""
    def send():
        with contextlib.suppress(OSError):
            connection.send(data)
    sender = threading.Thread(target=send)
    sender.start()
    return sender


# ---- what is taken, and what is not ----

def test_a_large_download_is_spliced_and_arrives_whole(sidecar, upstream):
    one = sidecar({"orders": upstream(sends(LARGE)).url})
    with one.connect() as connection:
        for _ in range(3):
            assert connection.call("GET", "/", host="orders").body == pattern(LARGE)
        assert connection.call("GET", "/next", host="orders").body == pattern(2)
    spliced_at_least(one, 2 * LARGE)
    one.counted(3 * LARGE + 2, "rhc_response_bytes_total", upstream="orders")


def test_a_large_upload_is_spliced_and_arrives_whole(sidecar, upstream):
    one = sidecar({"orders": upstream(takes).url})
    expected = f"{LARGE} {fnv1a64(pattern(LARGE))}".encode()
    with one.connect() as connection:
        for _ in range(3):
            assert connection.call("POST", "/", body=pattern(LARGE), host="orders").body == expected
        assert connection.call("POST", "/", body=b"x", host="orders").body == f"1 {fnv1a64(b'x')}".encode()
    spliced_at_least(one, 2 * LARGE)
    one.counted(3 * LARGE + 1, "rhc_request_bytes_total", upstream="orders")


@pytest.mark.parametrize("seed", range(4))
def test_bytes_are_the_same_however_they_are_cut(seed, sidecar, upstream):
    one = sidecar({"orders": upstream(sends(LARGE, seed)).url, "taker": upstream(takes).url})

    def upload():
        with one.connect() as connection:
            connection.send(f"POST / HTTP/1.1\r\nHost: taker\r\nContent-Length: {LARGE}\r\n\r\n")
            for piece in in_pieces(pattern(LARGE), seed + 100):
                connection.send(piece)
            return connection.read().body

    def download():
        return one.call("orders", "GET", "/").body
    bodies = parallel.run(4, lambda i: upload() if i % 2 else download())
    assert bodies == [pattern(LARGE), f"{LARGE} {fnv1a64(pattern(LARGE))}".encode()] * 2
    quiet(one)


def test_small_and_chunked_bodies_are_not_spliced(sidecar, origin, upstream):
    one = sidecar({"orders": origin.url, "taker": upstream(takes).url})
    assert one.call("orders", "GET", "/bytes/100000").body == pattern(100000)
    assert one.call("orders", "GET", f"/chunked/{LARGE}?chunk=50000").body == pattern(LARGE)
    pieces = [pattern(LARGE)[i:i + 100000] for i in range(0, LARGE, 100000)]
    answer = one.call("orders", "POST", "/sha", chunks=pieces)
    assert fnv1a64(pattern(LARGE)).encode() in answer.body
    assert one.call("taker", "POST", "/", body=pattern(100000)).status == 200
    nothing_was_spliced(one)


@pytest.mark.parametrize("kind", ["h1-tls", "h2-tls", "h2c"])
def test_other_kinds_of_upstream_connections_are_not_spliced(kind, sidecar, four):
    one = sidecar(four)
    assert one.call(kind, "GET", "/large").status == 200
    assert one.call(kind, "POST", "/large", body=pattern(MIB)).status > 0
    nothing_was_spliced(one)


def test_an_http2_caller_is_not_spliced(sidecar, origin, tmp_path):
    one = sidecar({"orders": origin.url})
    done = subprocess.run(["curl", "-sS", "-m", "60", "--http2-prior-knowledge", "-H", "x-rhc-upstream: orders",
                           one.url(f"/bytes/{LARGE}")], capture_output=True, check=True, timeout=70)
    assert done.stdout == pattern(LARGE)
    nothing_was_spliced(one)


def test_io_splice_off_copies_everything(sidecar, upstream):
    one = sidecar({"orders": upstream(sends(LARGE)).url}, io={"splice": "off"})
    assert one.call("orders", "GET", "/").body == pattern(LARGE)
    nothing_was_spliced(one)


def test_a_unix_socket_to_the_app_is_spliced(sidecar, upstream, tmp_path):
    path = f"/tmp/rhc-{random.randrange(1 << 40)}.sock"
    one = sidecar({"orders": upstream(sends(LARGE)).url},
                  listeners=[{"name": "local", "address": f"unix:{path}"}])
    raw = Raw.__new__(Raw)
    raw.socket, raw.buffer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), bytearray()
    raw.socket.settimeout(30)
    raw.socket.connect(path)
    with raw:
        assert raw.call("GET", "/", host="orders").body == pattern(LARGE)
    spliced_at_least(one, LARGE // 2)


def test_an_answer_until_close_to_an_old_client_is_spliced_and_ends_with_it(sidecar, upstream):
    one = sidecar({"orders": upstream(sends(LARGE, close=True)).url})
    with one.connect() as connection:
        connection.send("GET / HTTP/1.0\r\nHost: orders\r\n\r\n")
        answer = connection.read()
        assert answer.ended_by_close and answer.body == pattern(LARGE)
    spliced_at_least(one, LARGE // 2)


# ---- not a byte too many, not a byte too few ----

def test_a_request_pipelined_behind_an_upload_is_a_request(sidecar, upstream):
    one = sidecar({"orders": upstream(takes).url})
    expected = f"{LARGE} {fnv1a64(pattern(LARGE))}".encode()
    with one.connect() as connection:
        request = f"POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: {LARGE}\r\n\r\n".encode() + pattern(LARGE)
        sender = threading.Thread(target=connection.send, args=(request * 4,))
        sender.start()
        for _ in range(4):
            assert connection.read().body == expected
        sender.join(10)
    spliced_at_least(one, LARGE)


def test_bytes_behind_an_announced_length_reach_nobody_and_the_connection_is_not_used_again(sidecar, upstream):
    def more(connection):
        connection.head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE + pattern(LARGE) + OK * 100)
        connection.wait_end()
    server = upstream(more)
    one = sidecar({"orders": server.url}, defaults=NO_BREAKER)
    with one.connect() as connection:
        for turn in range(2):
            assert connection.call("GET", "/", host="orders").body == pattern(LARGE)
            assert not connection.buffer
    assert len(server.connections) == 2
    quiet(one)


@pytest.mark.parametrize("end", ["fin", "reset"])
def test_an_answer_that_breaks_off_is_never_taken_for_a_whole_one(end, sidecar, upstream):
    got = threading.Event()

    def script(connection):
        if connection.head().startswith("GET /next"):
            connection.send(OK)
            return
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE + pattern(MIB))
        got.wait(10)
        connection.reset() if end == "reset" else None
    one = sidecar({"orders": upstream(script).url}, defaults=NO_BREAKER)
    with one.connect() as connection:
        connection.request("GET", "/", {"x-request-id": "broken-1"}, host="orders")
        while len(connection.buffer) < MIB:
            assert connection._more()
        got.set()
        with pytest.raises(Incomplete):
            connection.read()
    line = one.access("broken-1")
    assert line["response_code"] == 200 and MIB <= line["bytes_sent"] < LARGE, line
    serves(one)
    quiet(one)


def test_a_reset_behind_a_part_of_the_answer_counts_as_a_failure(sidecar, upstream):
    def script(connection):
        connection.head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE + pattern(MIB))
        time.sleep(0.1)
        connection.reset()
    one = sidecar({"orders": upstream(script).url}, defaults={"circuit_breaker": {"failure_threshold": 2}})
    for _ in range(2):
        with one.connect() as connection, pytest.raises(Incomplete):
            connection.call("GET", "/", host="orders")
    until("the circuit is open", 5, lambda: one.breaker("orders") == "open")
    quiet(one)


# ---- everybody may go at any time ----

@pytest.mark.parametrize("read", [0, 100000, 2 * MIB])
def test_a_caller_that_vanishes_within_a_download_leaves_nothing_behind(read, sidecar, upstream):
    one = sidecar({"orders": upstream(sends(64 * MIB)).url}, defaults=NO_BREAKER)
    for turn in range(8):
        connection = one.connect()
        connection.request("GET", "/", host="orders")
        while len(connection.buffer) < read:
            assert connection._more()
        connection.reset() if turn % 2 else connection.close()
    quiet(one)
    serves(one)


def test_what_is_left_of_one_call_is_never_read_by_the_next(sidecar, upstream):
    """The first one's bytes are in pipes and sockets when it goes; the next gets only its own."""
    def script(connection):
        which = b"B" if "/second" in connection.head() else b"A"
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (8 * MIB))
        connection.send(which * (8 * MIB))
    one = sidecar({"orders": upstream(script).url}, defaults=NO_BREAKER)
    for _ in range(10):
        first = one.connect()
        first.request("GET", "/first", host="orders")
        while len(first.buffer) < 1000:
            first._more()
        second = one.connect()
        second.request("GET", "/second", host="orders")
        first.reset()
        body = second.read().body
        assert body == b"B" * (8 * MIB)
        second.close()


@pytest.mark.parametrize("sent", [200000, 2 * MIB])
def test_a_caller_that_vanishes_within_an_upload_leaves_nothing_behind(sent, sidecar, upstream):
    server = upstream(takes)
    one = sidecar({"orders": server.url}, defaults=NO_BREAKER)
    for turn in range(8):
        connection = one.connect()
        connection.send(f"POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: {64 * MIB}\r\n\r\n")
        connection.send(pattern(sent))
        connection.reset() if turn % 2 else connection.close()
    until("the upstream has been told", 10, lambda: len(server.connections) >= 1 and
          all(c.ended.is_set() for c in server.connections))
    quiet(one)
    assert one.call("orders", "POST", "/", body=b"x").status == 200


@pytest.mark.parametrize("end", ["keep", "fin", "reset"])
def test_an_early_answer_ends_an_upload_and_reaches_the_caller(end, sidecar, upstream):
    """The upstream has read a part of the body when it answers 413 and keeps, closes or resets its connection."""
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!"

    def script(connection):
        connection.head()
        connection.exactly(MIB)
        connection.send(refusal)
        if end == "reset":
            time.sleep(0.2)
            connection.reset()
        elif end == "keep":
            connection.wait_end()
    one = sidecar({"orders": upstream(script).url}, defaults={**NO_BREAKER, **ONE_TRY})
    with one.connect() as connection:
        connection.send(f"POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: {64 * MIB}\r\n\r\n")

        sender = flooding(connection, pattern(64 * MIB))
        answer = connection.read()
        assert (answer.status, answer.body) == (413, b"no!"), answer
        connection.reset()
        sender.join(10)
    quiet(one)


def test_an_upstream_that_resets_within_an_upload_is_a_failure_that_is_not_repeated(sidecar, upstream):
    def script(connection):
        connection.head()
        connection.exactly(MIB)
        connection.reset()
    server = upstream(script)
    one = sidecar({"orders": server.url}, defaults=NO_BREAKER)
    with one.connect() as connection:
        connection.request("PUT", "/", {"x-request-id": "up-reset"}, body=pattern(16 * MIB), host="orders")
        answer = connection.read()
    assert answer.status == 502, answer
    line = one.access("up-reset")
    assert line["attempts"] == 1 and line["retry_skipped"] == "body_too_large", line
    assert len(server.connections) == 1
    quiet(one)


# ---- slow ----

def test_an_upstream_that_stalls_in_mid_body_runs_into_timeout_read(sidecar, upstream):
    def script(connection):
        connection.head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE + pattern(MIB))
        connection.wait_end()
    one = sidecar({"orders": upstream(script).url}, defaults={**NO_BREAKER, "timeout": {"read": 0.5}})
    with one.connect() as connection:
        connection.request("GET", "/", {"x-request-id": "stalled"}, host="orders")
        with pytest.raises(Incomplete):
            connection.read()
    assert one.access("stalled")["response_code_details"] == "body_timeout"
    quiet(one)


def test_an_upstream_that_sends_slowly_is_not_too_slow_while_it_sends(sidecar, upstream):
    def script(connection):
        connection.head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MIB + 12))
        connection.send(pattern(MIB))
        for i in range(12):
            time.sleep(0.25)
            connection.send(pattern(MIB + 12)[MIB + i:MIB + i + 1])
    one = sidecar({"orders": upstream(script).url}, defaults={**NO_BREAKER, "timeout": {"read": 1}})
    assert one.call("orders", "GET", "/").body == pattern(MIB + 12)


def test_an_upstream_that_reads_nothing_runs_into_timeout_write(sidecar, upstream):
    def script(connection):
        connection.head()
        connection.ended.wait(20)
    one = sidecar({"orders": upstream(script).url},
                  defaults={**NO_BREAKER, **ONE_TRY, "timeout": {"write": 0.5, "read": 5}})
    with one.connect() as connection:
        connection.send(f"POST / HTTP/1.1\r\nHost: orders\r\nx-request-id: stuck\r\nContent-Length: {64 * MIB}\r\n\r\n")

        sender = flooding(connection, pattern(64 * MIB))
        assert connection.read().status == 504
        connection.reset()
        sender.join(10)
    assert one.access("stuck")["response_code_details"] == "write_timeout"
    quiet(one)


def test_the_deadline_of_a_call_cuts_a_body(sidecar, upstream):
    def script(connection):
        connection.head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE + pattern(MIB))
        connection.wait_end()
    one = sidecar({"orders": upstream(script).url}, defaults={**NO_BREAKER, "timeout": {"total": 1}})
    with one.connect() as connection:
        connection.request("GET", "/", {"x-request-id": "late"}, host="orders")
        with pytest.raises(Incomplete):
            connection.read()
    assert one.access("late")["response_code_details"] == "deadline_total"
    quiet(one)


def test_a_caller_that_reads_nothing_holds_only_its_own_call_back(sidecar, upstream):
    """More of them than there are pipes; who comes then is served by copies."""
    one = sidecar({"orders": upstream(sends(16 * MIB)).url},
                  defaults={**NO_BREAKER, "bulkhead": {"max_concurrency": 200}, "pool": {"max_connections": 200}})
    stuck = [one.connect() for _ in range(80)]
    for connection in stuck:
        connection.request("GET", "/", host="orders")
    until("all of them have begun", 20, lambda: one.in_use("orders") == 80)
    assert one.call("orders", "GET", "/").body == pattern(16 * MIB)
    assert stuck[7].read().body == pattern(16 * MIB)
    for connection in stuck:
        connection.close()
    quiet(one)
    serves(one)


# ---- the end of a worker ----

def test_a_worker_that_drains_lets_a_download_and_an_upload_end(sidecar, upstream):
    one = sidecar({"orders": upstream(sends(8 * MIB)).url, "taker": upstream(takes).url}, shutdown={"max_wait": 20})
    down, up = one.connect(), one.connect()
    down.request("GET", "/", host="orders")
    while len(down.buffer) < 100000:
        down._more()
    up.send(f"POST / HTTP/1.1\r\nHost: taker\r\nContent-Length: {8 * MIB}\r\n\r\n")
    up.send(pattern(8 * MIB)[:MIB])
    one.child.process.terminate()
    until("it drains", 5, lambda: one.get("/ready")[0] != 200)
    assert down.read().body == pattern(8 * MIB)
    up.send(pattern(8 * MIB)[MIB:])
    assert up.read().body == f"{8 * MIB} {fnv1a64(pattern(8 * MIB))}".encode()
    down.close()
    up.close()
    assert one.child.process.wait(20) == 0


def test_a_drain_that_takes_too_long_cuts_what_is_in_the_pipes(sidecar, upstream):
    one = sidecar({"orders": upstream(sends(64 * MIB)).url}, shutdown={"max_wait": 1})
    with one.connect() as connection:
        connection.request("GET", "/", host="orders")
        while len(connection.buffer) < 100000:
            connection._more()
        one.child.process.terminate()
        assert one.child.process.wait(20) is not None
        with pytest.raises(Incomplete):
            connection.read()


# ---- much ----

def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_a_thousand_large_calls_leave_no_descriptor_behind(sidecar, upstream):
    one = sidecar({"orders": upstream(sends(300000)).url}, defaults=NO_BREAKER)
    worker = one.workers[0]

    def some(n):
        def calls(i):
            for turn in range(n):
                with one.connect() as connection:
                    connection.request("GET", "/", host="orders")
                    if (i + turn) % 3:
                        assert connection.read().body == pattern(300000)
        parallel.run(8, calls)
        quiet(one)
    some(5)
    before = descriptors(worker)
    some(120)
    assert descriptors(worker) <= before + 2 * 64, "more than all pipes of a worker"
    spliced_at_least(one, 50 * MIB)


@pytest.mark.limit(150)
def test_a_gibibyte_each_way_is_spliced(sidecar, release_origin, nginx, files):
    one = sidecar({"files": nginx.url("plain"), "origin": release_origin.url}, build=release_folder(),
                  defaults={"timeout": {"read": 60, "write": 60}})
    down = subprocess.run(["curl", "-sS", "-m", "120", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", "-H",
                           "Host: files", one.url("/zeros.1g")], capture_output=True, check=True, timeout=130)
    assert down.stdout.decode() == f"200 {GIB}"
    up = subprocess.run(["curl", "-sS", "-m", "120", "-T", str(files / "zeros.1g"), "-H", "Host: origin", "-H", "Expect:",
                         one.url("/sha")], capture_output=True, check=True, timeout=130)
    assert up.stdout.decode() == f'{{"bytes":{GIB},"fnv1a64":"{fnv1a64_zeros(GIB)}"}}\n'
    spliced_at_least(one, 1.9 * GIB)
