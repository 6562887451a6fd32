"""Callers that are slow, many, rude or gone: others are served, and in the end everything is back."""
import os
import resource
import socket
import struct
import subprocess
import time

import hpack
import pytest

from lib import hostile, parallel
from lib.h2_client import H2Client
from lib.hostile import frame
from lib.raw import Incomplete
from lib.servers import release_folder
from lib.sidecar import rss
from lib.wait import until

MIB = 1 << 20
GET = b"GET / HTTP/1.1\r\nHost: orders\r\n\r\n"
REQUEST = b"POST %b HTTP/1.1\r\nHost: orders\r\nContent-Length: 10\r\n\r\n"
PER_CONNECTION_MAX = 3 * 1024  # bytes of a worker for one that waits; struct http_conn is 1 KiB


def quiet(one, upstream="orders"):
    until("no slot is held", 10, lambda: one.in_use(upstream) == 0)
    until("no call is in flight", 10, lambda: one.metrics().get("rhc_requests_in_flight", upstream=upstream) == 0)
    until("no attempt is in flight", 10, lambda: one.metrics().get("rhc_attempts_in_flight", upstream=upstream) == 0)
    assert one.metrics().get("rhc_bulkhead_waiting", upstream=upstream) == 0
    assert one.ctl("audit").code == 0


def served(one, seconds=3):
    """Somebody else gets an answer, soon."""
    began = time.monotonic()
    assert one.call("orders", "GET", "/", timeout=seconds).status == 200
    assert time.monotonic() - began < seconds


def nobody_is_connected(one):
    until("every connection is gone", 5, lambda: sum(w["connections"] for w in one.ctl("workers").json["items"]) == 0)


def with_listener(one, **changed):
    """The same one, started anew with other limits of its listener."""
    one.stop()
    one.config["listeners"][0].update(changed)
    one.start()
    return one


# ---- slow ----

def test_a_slow_head_is_answered_408_at_its_timeout_and_disturbs_nobody(sidecar, origin):
    one = sidecar({"orders": origin.url})
    one.stop()
    one.config["listeners"][0]["header_timeout"] = "500ms"
    one.start()
    slow = [one.connect() for _ in range(50)]
    began = time.monotonic()
    for byte in b"GET / HTT":
        for connection in slow:
            connection.send(bytes([byte]))
        served(one)
    for connection in slow:
        assert connection.read().status == 408
        assert connection.closed()
    assert time.monotonic() - began < 5
    assert origin.stats()["current"] == 0


def test_a_slow_body_holds_its_own_slot_and_nobody_else(sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults={"bulkhead": {"max_concurrency": 3}})
    slow = [one.connect() for _ in range(2)]
    for connection in slow:
        connection.send(b"POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(10):
        for connection in slow:
            connection.send(b"x")
        served(one)
    for connection in slow:
        connection.reset()
    quiet(one)


# ---- whose turn it is ----

@pytest.mark.parametrize("version", ["http/1.1", "http/2"])
def test_a_body_that_stops_is_answered_408_at_idle_timeout_also_when_timeout_write_is_longer(version, sidecar, origin):
    one = with_listener(sidecar({"orders": origin.url}, defaults={"timeout": {"write": 60}}), idle_timeout="1s")
    began = time.monotonic()
    if version == "http/2":
        client = H2Client(one)
        stream, data = client.request(end=False, block=client.block(b"POST", b"/sha", b"orders"))
        client.send(data + frame(hostile.DATA, 0, stream, b"x"))
        status = dict(hpack.Decoder().decode(client.until(hostile.HEADERS)[3]))[":status"]
        client.raw.close()
    else:
        with one.connect() as connection:
            connection.send(REQUEST % b"/sha" + b"x")
            status = str(connection.read().status)
    assert status == "408" and 0.9 < time.monotonic() - began < 30
    quiet(one)


def test_an_upstream_that_stalls_behind_a_slow_reader_meets_timeout_read_and_not_idle_timeout(sidecar):
    stalls = hostile.Upstream(lambda c: (c.head(), c.send(
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (20 * MIB) + bytes(10 * MIB)), c.wait_end()))
    try:
        one = with_listener(sidecar({"orders": stalls.url}, defaults={"timeout": {"read": 1}, "retry": {"max_attempts": 1}}),
                            idle_timeout="60s")
        with one.connect() as connection:
            connection.request("GET", "/", host="orders")
            time.sleep(2.5)  # longer than timeout.read: the sidecar waits for us, and asks again at idle_timeout
            began = time.monotonic()
            with pytest.raises(Incomplete):
                connection.read()
        assert time.monotonic() - began < 30
        line = until("it is logged", 5, one.access_lines)[0]
        assert (line["response_code_details"], line["response_flags"]) == ("body_timeout", "UT"), line
        quiet(one)
    finally:
        stalls.stop()


def test_an_app_is_not_late_for_the_time_it_had_to_wait_itself(sidecar):
    """The answer comes long after idle_timeout, all at once, and the app takes a moment to read it."""
    late = hostile.Upstream(lambda c: (c.head(), time.sleep(2), c.send(
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (8 * MIB) + bytes(8 * MIB))))
    try:
        one = with_listener(sidecar({"orders": late.url}), idle_timeout="1s")
        with one.connect() as connection:
            connection.request("GET", "/", host="orders")
            time.sleep(2.6)
            assert len(connection.read().body) == 8 * MIB
        quiet(one)
    finally:
        late.stop()


@pytest.mark.parametrize("how, data", [
    ("half a preface", hostile.PREFACE[:10]), ("a preface and nothing", hostile.PREFACE),
    ("HEADERS without END_HEADERS", hostile.PREFACE + hostile.settings() + frame(hostile.HEADERS, 0, 1, b"\x82")),
    ("half a HEADERS frame", hostile.PREFACE + hostile.settings() + frame(hostile.HEADERS, 5, 1, H2Client.HEAD)[:12])])
def test_a_slow_head_over_http_2_ends_its_connection_at_header_timeout(how, data, sidecar, origin):
    one = with_listener(sidecar({"orders": origin.url}), header_timeout="500ms", idle_timeout="60s")
    with one.connect(timeout=20) as connection:
        began = time.monotonic()
        connection.send(data)
        while connection.socket.recv(65536):
            pass
        assert 0.4 < time.monotonic() - began < 30
    served(one)
    quiet(one)


def test_one_stalled_stream_among_a_hundred_holds_nobody_else_up(sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults={"bulkhead": {"max_concurrency": 100}, "pool": {"max_connections": 128}})
    client, window = H2Client(one), struct.pack("!I", 1 << 30)
    client.send(frame(hostile.WINDOW_UPDATE, 0, 0, window))
    stalled, data = client.request(block=client.block(b"GET", b"/bytes/1000000", b"orders"))
    running = {}
    for _ in range(99):
        stream, more = client.request(block=client.block(b"GET", b"/bytes/200000", b"orders"))
        running[stream], data = 0, data + more
    client.send(data)
    behind = 0
    while any(got < 200000 for got in running.values()):
        kind, _, stream, payload = client.until(hostile.DATA, hostile.RST, hostile.GOAWAY)
        assert kind == hostile.DATA
        if stream == stalled:
            behind += len(payload)
        else:
            running[stream] += len(payload)
            client.send(frame(hostile.WINDOW_UPDATE, 0, stream, struct.pack("!I", len(payload))) if payload else b"")
    assert behind == 65535, "what its window allowed, and not more"
    client.send(frame(hostile.WINDOW_UPDATE, 0, stalled, window))
    while behind < 1000000:
        behind += len(client.until(hostile.DATA)[3])
    client.raw.close()
    quiet(one)


@pytest.mark.parametrize("greedy", [["--h1", "-c", "8"], ["-c", "1", "-m", "100"]], ids=["downloads", "a hundred streams"])
def test_a_greedy_neighbour_in_the_same_worker_does_not_starve_a_caller(greedy, sidecar, origin, release_origin):
    one = sidecar({"orders": origin.url, "greedy": release_origin.url}, defaults={"bulkhead": {"max_concurrency": 100},
                                                                               "pool": {"max_connections": 128}})
    before = one.metrics().sum("rhc_response_bytes_total", upstream="greedy")
    with subprocess.Popen(["h2load", "-n", "100000", *greedy, "-H", "x-rhc-upstream: greedy", one.url("/bytes/1000000")],
                          stdout=subprocess.DEVNULL) as load:
        try:
            until("it is served", 20, lambda: one.metrics().sum("rhc_requests_in_flight", upstream="greedy") > 0)
            took = []
            with one.connect(timeout=20) as connection:
                for _ in range(50):
                    began = time.monotonic()
                    assert connection.call("GET", "/", host="orders").status == 200
                    took.append(time.monotonic() - began)
            print(f"50 calls beside it: median {sorted(took)[25] * 1000:.1f} ms, longest {max(took) * 1000:.1f} ms")
            assert load.poll() is None, "it was no load"
        finally:
            load.kill()
    until("it took much", 5, lambda: one.metrics().sum("rhc_response_bytes_total", upstream="greedy") > before)
    quiet(one, "greedy")

# ---- many ----

@pytest.mark.limit(150)
def test_ten_thousand_idle_connections_cost_a_kilobyte_each(sidecar, origin):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = 10000
    if hard < count + 500:
        pytest.skip(f"only {hard} descriptors allowed")
    release = release_folder()
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 2000), hard))
    idle = []
    try:
        one = sidecar({"orders": origin.url}, build=release if (release / "rhc-sidecar").exists() else None)
        one.stop()
        one.config["listeners"][0]["max_connections"] = 16384
        one.start()
        served(one)
        worker = one.workers[0]
        before = rss(worker)
        for _ in range(count):
            idle.append(socket.create_connection(("127.0.0.1", one.port), timeout=30))
        until("all are accepted", 30, lambda: sum(
            w["connections"] for w in one.ctl("workers").json["items"]) >= count)
        served(one)
        each = (rss(worker) - before) / count
        print(f"{each:.0f} bytes for each of {count} connections")
        if (release / "rhc-sidecar").exists():  # sanitizers have their own idea of memory
            assert each < PER_CONNECTION_MAX, each
        for connection in idle[:100]:
            connection.sendall(GET)
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        for connection in idle:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    quiet(one)


def test_connections_beyond_the_cap_are_told_at_once_and_a_free_place_is_used(sidecar, origin):
    one = sidecar({"orders": origin.url})
    one.stop()
    one.config["listeners"][0]["max_connections"] = 5
    one.start()
    nobody_is_connected(one)
    held = [one.connect() for _ in range(5)]
    for connection in held:
        assert connection.call("GET", "/", host="orders").status == 200
    for _ in range(20):
        with one.connect(timeout=3) as connection:
            answer = connection.read()
            assert answer.status == 503 and answer.problem["type"] == "urn:rhc:error:overloaded"
            assert connection.closed()
    held.pop().close()
    until("the free place serves", 3, lambda: one.call("orders", "GET", "/").status == 200)
    for connection in held:
        assert connection.call("GET", "/", host="orders").status == 200


def test_without_descriptors_it_serves_who_is_there_and_recovers(sidecar, origin):
    one = sidecar({"orders": origin.url})
    with one.connect() as early:
        assert early.call("GET", "/", host="orders").status == 200
        worker = one.workers[0]
        used = len(os.listdir(f"/proc/{worker}/fd"))
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (used + 6, resource.prlimit(worker, resource.RLIMIT_NOFILE)[1]))
        crowd = [one.connect(timeout=5) for _ in range(30)]
        for _ in range(5):  # with its own connection and the one kept to the upstream
            assert early.call("GET", "/", host="orders").status == 200
        for connection in crowd:
            connection.send(GET)
        time.sleep(0.5)
        assert early.call("GET", "/", host="orders").status in (200, 503)
        for connection in crowd:
            connection.close()
        until("it accepts again", 10, lambda: one.call("orders", "GET", "/", timeout=5).status == 200)
    assert one.workers == [worker]
    quiet(one)


@pytest.mark.limit(120)
def test_readers_that_do_not_read_do_not_take_the_buffers_of_others(sidecar, origin):
    one = sidecar({"orders": origin.url}, io={"engine": os.environ.get("RHC_TEST_ENGINE", "auto"), "buffers": 64},
                  defaults={"bulkhead": {"max_concurrency": 400}, "retry": {"max_attempts": 1},
                            "pool": {"max_connections": 400}})
    slow = [one.connect() for _ in range(150)]
    for connection in slow:  # a large answer that nobody reads
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.send(b"GET /bytes/8000000 HTTP/1.1\r\nHost: orders\r\n\r\n")
    until("all are in flight", 10, lambda: one.metrics().sum("rhc_requests_in_flight", upstream="orders") == 150)
    for _ in range(20):
        assert one.call("orders", "GET", "/bytes/100000", timeout=40).status == 200
    for connection in slow:
        connection.reset()
    until("it serves again", 10, lambda: one.call("orders", "GET", "/", timeout=5).status == 200)
    quiet(one)


def test_open_connections_are_counted_by_what_they_speak(sidecar, origin):
    one = sidecar({"orders": origin.url})

    def gauge():
        return one.metrics().sum("rhc_downstream_connections_open", protocol="http1")
    with one.connect() as first, one.connect() as second, one.connect():
        assert first.call("GET", "/", host="orders").status == second.call("GET", "/", host="orders").status == 200
        until("two are counted, the silent one is not", 5, lambda: gauge() == 2)
    until("none is counted", 5, lambda: gauge() == 0)


# ---- rude ----

def test_a_pipeline_of_thousands_is_answered_in_order(sidecar, origin):
    one = sidecar({"orders": origin.url})
    count = 3000
    with one.connect() as connection:
        asker = parallel.start(1, lambda _: connection.send(b"".join(
            b"GET /bytes/%d HTTP/1.1\r\nHost: orders\r\n\r\n" % (i % 50) for i in range(count))))
        for i in range(count):
            answer = connection.read()
            assert answer.status == 200 and len(answer.body) == i % 50
        parallel.finish(asker)
    quiet(one)


def test_a_pipeline_nobody_reads_answers_of_holds_itself_up_only(sidecar, origin):
    one = sidecar({"orders": origin.url})
    flood = one.connect()
    flood.socket.setblocking(False)
    before = rss(one.workers[0])
    sent = 0
    end = time.monotonic() + 3
    while time.monotonic() < end:
        try:
            sent += flood.socket.send(b"GET /bytes/10000 HTTP/1.1\r\nHost: orders\r\n\r\n" * 50)
        except BlockingIOError:
            time.sleep(0.01)
    served(one)
    assert rss(one.workers[0]) - before < 32 * MIB
    assert sent < 64 * MIB
    flood.reset()
    quiet(one)


def test_h2c_is_served(sidecar, origin):
    one = sidecar({"orders": origin.url})
    client = H2Client(one)
    _, data = client.request()
    client.send(data)
    assert client.until(hostile.HEADERS)[3][0] == 0x88
    client.raw.close()
    quiet(one)


@pytest.mark.parametrize("name", ["rapid reset", "made you reset: window", "made you reset: length", "half"])
def test_resets_in_quick_succession_end_the_connection_and_give_everything_back(name, sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults={"circuit_breaker": {"enabled": False}})
    client = H2Client(one)
    for _ in range(20000):
        stream, data = client.request(end=name != "made you reset: length",
                                      block=client.HEAD + (hostile.field(b"content-length", b"1")
                                                           if name == "made you reset: length" else b""))
        if name == "rapid reset":
            data += frame(hostile.RST, 0, stream, struct.pack("!I", hostile.CANCEL))
        elif name == "made you reset: window":
            data += frame(hostile.WINDOW_UPDATE, 0, stream, bytes(4))
        elif name == "made you reset: length":
            data += frame(hostile.DATA, 1, stream, b"too much")
        else:
            data = frame(hostile.HEADERS, 4, stream, client.HEAD) + frame(hostile.RST, 0, stream, struct.pack("!I", 8))
        if not client.send(data):
            break
    assert client.ended_with() in (None, hostile.CALM, 1)  # 1: an increment of 0 breaks the protocol
    client.raw.close()
    served(one)
    quiet(one)
    assert origin.stats()["max"] <= 100, "more streams at the origin than one connection may have"


@pytest.mark.parametrize("flood", [
    frame(hostile.PING, 0, 0, bytes(8)), frame(hostile.SETTINGS), frame(hostile.PRIORITY, 0, 1, bytes(5)),
    frame(hostile.HEADERS, 0, 1, b"\x82") + frame(hostile.CONTINUATION, 0, 1, b"") * 100],
    ids=["PING", "SETTINGS", "PRIORITY", "CONTINUATION"])
def test_a_flood_of_frames_from_a_caller_ends_its_connection(flood, sidecar, origin):
    one = sidecar({"orders": origin.url})
    client = H2Client(one)
    before = rss(one.workers[0])
    data, sent = flood * 100, 0
    while sent < 5000 and client.send(data):
        sent += 1
    assert sent < 5000
    served(one)
    assert rss(one.workers[0]) - before < 32 * MIB
    client.raw.close()
    quiet(one)


# ---- gone ----


@pytest.mark.parametrize("state, script", [
    ("connected", lambda c: None),
    ("in the request line", lambda c: c.send(b"GET / HT")),
    ("in the fields", lambda c: c.send(b"GET / HTTP/1.1\r\nHost: ord")),
    ("before the body", lambda c: c.send(REQUEST % b"/")),
    ("in the body", lambda c: c.send(REQUEST % b"/" + b"12345")),
    ("waiting for the head", lambda c: c.send(b"GET /gate HTTP/1.1\r\nHost: orders\r\n\r\n")),
    ("waiting with a body", lambda c: c.send(REQUEST % b"/gate" + b"1234567890")),
    ("in the answer", lambda c: (c.send(b"GET /bytes/50000000 HTTP/1.1\r\nHost: orders\r\n\r\n"), c.socket.recv(1000))),
    ("between retries", lambda c: c.send(b"GET /fail-first/9?key=gone&how=503 HTTP/1.1\r\nHost: orders\r\n\r\n")),
    ("in a pipeline", lambda c: c.send(GET * 20 + b"GET /gate HTTP/1.1\r\nHost: orders\r\n\r\n" + GET * 20)),
])
@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_caller_who_vanishes_leaves_nothing_behind(state, script, how, sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults={"retry": {"min_wait_seconds": 0.2, "max_wait_seconds": 0.2},
                                                    "bulkhead": {"max_concurrency": 4},
                                                    "circuit_breaker": {"enabled": state != "between retries"}})
    for _ in range(12):
        connection = one.connect()
        script(connection)
        time.sleep(0.02)
        connection.reset() if how == "reset" else connection.close()
    if how == "close" and "waiting" in state or state == "in a pipeline":
        origin.release()  # FIN is no word of the caller that it does not want its answer
    until("the callers' calls are over", 15, lambda: origin.release() and one.in_use("orders") == 0)
    served(one)
    quiet(one)
    assert one.breaker("orders") in ("closed", "disabled")


def test_a_probe_whose_caller_vanishes_comes_back(sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults={
        "retry": {"max_attempts": 1}, "circuit_breaker": {"failure_threshold": 1, "recovery_timeout": "300ms"}})
    origin.mode("503")
    one.call("orders", "GET", "/")
    until("open", 2, lambda: one.breaker("orders") == "open")
    origin.mode("ok")
    time.sleep(0.4)
    connection = one.connect()
    connection.send(b"GET /gate HTTP/1.1\r\nHost: orders\r\n\r\n")
    origin.wait_current(1)
    connection.reset()
    until("the next probe closes it", 5, lambda: one.call("orders", "GET", "/").status == 200)
    assert one.breaker("orders") == "closed"
    quiet(one)


def test_a_stream_reset_by_its_caller_resets_nobody_else(sidecar, origin):
    one = sidecar({"orders": origin.url})
    client = H2Client(one)
    gate = b"\x82\x04\x05/gate\x86\x41\x06orders"
    streams = []
    for _ in range(10):
        stream, data = client.request(block=gate)
        streams.append(stream)
        client.send(data)
    origin.wait_current(10)
    for stream in streams[:5]:
        client.send(frame(hostile.RST, 0, stream, struct.pack("!I", hostile.CANCEL)))
    until("five slots are back", 5, lambda: one.in_use("orders") == 5)
    origin.release()
    got = {client.until(hostile.HEADERS)[2] for _ in range(5)}
    assert got == set(streams[5:])
    client.raw.close()
    quiet(one)
