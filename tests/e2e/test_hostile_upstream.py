"""Upstreams that break the protocol, stop, flood or vanish: the right error, the right verdict on a retry, no connection kept."""
import os
import signal
import struct
import threading
import time

import pytest

from lib import hostile
from lib.hostile import H2, OK, Upstream, frame
from lib.raw import Incomplete
from lib.sidecar import peak_rss, reset_peak
from lib.wait import until

ONE_TRY = {"retry": {"max_attempts": 1}}
NO_BREAKER = {"circuit_breaker": {"enabled": False}}
MIB = 1 << 20


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


def answers(data, then=None):
    """A script: reads a request, sends data, and what then(connection) does; "keep" waits for the sidecar's end."""
    def script(connection):
        connection.head()
        connection.send(data)
        (then or (lambda c: c.wait_end()))(connection)
    return script


def quiet(one, upstream="orders"):
    """Nothing is held any more, and the segment agrees."""
    until("nothing is in flight", 5, lambda: one.in_use(upstream) == 0 and
          one.metrics().get("rhc_requests_in_flight", upstream=upstream) == 0)
    assert one.ctl("audit").code == 0


def error_of(answer):
    return answer.problem["type"].removeprefix("urn:rhc:error:")


def ended(connection):
    assert connection.ended.wait(5), "the sidecar keeps a connection it cannot use"


def chunked(data):
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data


# ---- broken before the app saw a byte: an answer of our own ----

@pytest.mark.parametrize("data, status, error", [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 502, "protocol_error"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", 502, "protocol_error"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", 502, "protocol_error"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 502, "protocol_error"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 502, "bad_transfer_coding"),
    (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", 502, "protocol_error"),
    (b"HTTP/1.1 200 OK\nX: a\n\n", 502, "protocol_error"),
    (b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n", 502, "protocol_error"),
    (b"HTTP/2.0 200 OK\r\n\r\n", 502, "protocol_error"),
    (b"HTTP/1.1 099 OK\r\n\r\n", 502, "protocol_error"),
    (b"\x16\x03\x01\x02\x00\x01\x00", 502, "protocol_error"),
    (b"ICY 200 OK\r\n\r\n", 502, "protocol_error"),
    (b"HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\nabc", 502, "protocol_error"),
    (b"HTTP/1.1 101 Up\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", 502, None),
    (b"HTTP/1.1 100 Continue\r\n\r\n" * 40, 502, "protocol_error"),
    (b"HTTP/1.1 200 OK\r\n" + b"X: %s\r\n" % (b"a" * 70000) + b"\r\n", 502, "response_headers_too_large"),
    (b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 500 + b"\r\n", 502, "response_headers_too_large"),
], ids=lambda value: repr(value[:60]) if isinstance(value, bytes) else str(value))
def test_a_broken_head_is_an_error_of_the_table_and_ends_the_connection(data, status, error, sidecar, upstream):
    server = upstream(answers(data))
    one = sidecar({"orders": server.url}, defaults=NO_BREAKER)
    answer = one.call("orders", "GET", "/")
    assert answer.status == status
    assert error is None or error_of(answer) == error, answer
    line = one.access(answer["x-request-id"])
    assert server.requests == line["attempts"] == 1, "who breaks the protocol once will break it again"
    assert line["retry_skipped"] in ("error", "refusal"), line
    ended(server.connections[0])
    quiet(one)


@pytest.mark.parametrize("name, script", [
    ("at once", lambda c: c.reset()),
    ("behind the request", lambda c: (c.head(), c.reset())),
    ("within the status line", lambda c: (c.head(), c.send(b"HTTP/1."), time.sleep(0.1), c.reset())),
    ("within the fields", lambda c: (c.head(), c.send(b"HTTP/1.1 200 OK\r\nContent-Le"), time.sleep(0.1), c.reset())),
    ("behind an interim answer", lambda c: (c.head(), c.send(b"HTTP/1.1 103 Early\r\n\r\n"), time.sleep(0.1), c.reset())),
    ("half-closed behind the request", lambda c: (c.head(), c.shut(), c.wait_end())),
    ("half-closed within the head", lambda c: (c.head(), c.send(b"HTTP/1.1 200 OK\r\nA"), c.shut(), c.wait_end())),
])
@pytest.mark.parametrize("method, attempts", [("GET", 3), ("POST", 1)])
def test_a_connection_lost_before_the_head_is_tried_again_where_the_method_allows(name, script, method, attempts, sidecar,
                                                                              upstream):
    server = upstream(script)
    one = sidecar({"orders": server.url}, defaults=NO_BREAKER)
    answer = one.call("orders", method, "/", body=b"x" if method == "POST" else None)
    assert answer.status == 502, answer
    # at once: whether we hear of it while connecting, or whether a byte had left by then, is a race
    assert error_of(answer) == "reset_before_headers" or (name == "at once" and error_of(answer) == "connect_refused"), answer
    line = one.access(answer["x-request-id"])
    if name != "at once":
        assert len(server.connections) == attempts and line["attempts"] == attempts
        assert line["retry_skipped"] == ("attempts_used" if method == "GET" else "method"), line
    quiet(one)


# ---- broken behind the head: the app sees that it is not whole ----

@pytest.mark.parametrize("data, then", [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "fin"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "reset"),
    (chunked(b"5\r\nabc"), "fin"),
    (chunked(b"3\r\nabc\r\n"), "fin"),
    (chunked(b"3\r\nabc\r\n0\r\n"), "fin"),
    (chunked(b"3\r\nabcX"), "keep"),
    (chunked(b"3\r\nabc\r\nZZ\r\n"), "keep"),
    (chunked(b"3\r\nabc\r\n-1\r\n"), "keep"),
    (chunked(b"3\r\nabc\r\nffffffffffffffff\r\n"), "keep"),
    (chunked(b"3\r\nabc\r\n3\nabc\r\n"), "keep"),
    (chunked(b"3\r\nabc\r\n3;" + b"e" * 300 + b"\r\nabc\r\n"), "keep"),
    (chunked(b"3\r\nabc\r\n0\r\nContent-Length: 3\r\n\r\n"), "keep"),
], ids=lambda value: repr(value[-40:]) if isinstance(value, bytes) else str(value))
def test_a_body_that_breaks_off_is_never_taken_for_a_whole_one(data, then, sidecar, upstream):
    ends = {"fin": lambda c: c.shut() or c.wait_end(), "reset": lambda c: (time.sleep(0.2), c.reset()),
            "keep": lambda c: c.wait_end()}
    server = upstream(answers(data, ends[then]))
    one = sidecar({"orders": server.url}, defaults=NO_BREAKER)
    with one.connect() as connection:
        connection.request("GET", "/", host="orders")
        with pytest.raises(Incomplete):
            connection.read()
    assert server.requests == 1, "a call was repeated whose answer the app had begun to get"
    line = until("it is logged", 5, one.access_lines)[0]
    assert (line["attempts"], line["retry_skipped"]) == (1, "headers_sent"), line
    assert line["response_code_details"] in ("response_incomplete", "protocol_error", "reset_before_headers"), line
    if then == "keep":
        ended(server.connections[0])
    quiet(one)


def test_a_whole_answer_until_close_is_whole(sidecar, upstream):
    server = upstream(answers(b"HTTP/1.1 200 OK\r\n\r\nabc", lambda c: None))
    one = sidecar({"orders": server.url}, defaults=ONE_TRY)
    assert one.call("orders", "GET", "/").body == b"abc"


@pytest.mark.parametrize("garbage", [b"more", OK, b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n", b"\0" * 100000],
                         ids=["bytes", "an answer", "408", "zeros"])
def test_what_stands_behind_an_answer_belongs_to_nobody(garbage, sidecar, upstream):
    server = upstream(answers(OK + garbage))
    one = sidecar({"orders": server.url}, defaults=ONE_TRY)
    with one.connect() as connection:
        for _ in range(3):
            answer = connection.call("GET", "/", host="orders")
            assert answer.status == 200 and answer.body == b"ok"
    assert len(server.connections) == 3, "a connection with an answer nobody asked for was used again"
    ended(server.connections[0])


def test_an_answer_that_comes_before_any_request_is_not_given_to_the_next(sidecar, upstream):
    def script(connection):
        connection.head()
        connection.send(OK)
        time.sleep(0.2)
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        connection.wait_end()
    server = upstream(script)
    one = sidecar({"orders": server.url}, defaults=ONE_TRY)
    assert one.call("orders", "GET", "/").body == b"ok"
    ended(server.connections[0])
    assert one.call("orders", "GET", "/").body == b"ok"


# ---- floods ----

@pytest.mark.limit(120)
def test_256_mib_of_header_lines_cost_no_memory_and_one_answer(sidecar, upstream):
    sent = []

    def script(connection):
        connection.head()
        line = b"HTTP/1.1 200 OK\r\n" + (b"X-%06d: " % 1 + b"y" * 1000 + b"\r\n")
        for _ in range(256 * MIB // len(line)):
            if not connection.send(line):
                break
            sent.append(len(line))
    server = upstream(script)
    one = sidecar({"orders": server.url}, defaults=ONE_TRY)
    worker = one.workers[0]
    reset_peak(worker)
    before = peak_rss(worker)
    answer = one.call("orders", "GET", "/")
    assert answer.status == 502 and error_of(answer) in ("response_headers_too_large", "protocol_error")
    assert peak_rss(worker) - before < 16 * MIB
    assert sum(sent) < 32 * MIB, "it was read on and on"
    quiet(one)


def test_a_storm_of_interim_answers_ends(sidecar, upstream):
    count = []

    def script(connection):
        connection.head()
        while len(count) < 1000000 and connection.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 100):
            count.append(1)
    one = sidecar({"orders": upstream(script).url}, defaults=ONE_TRY)
    answer = one.call("orders", "GET", "/")
    assert answer.status == 502 and error_of(answer) == "protocol_error"
    assert len(answer.informational) <= 17
    until("the upstream noticed", 5, lambda: one.in_use("orders") == 0)


# ---- time ----

def test_a_trickled_head_meets_the_read_timeout(sidecar, upstream):
    def script(connection):
        connection.head()
        for byte in OK:
            if not connection.send(bytes([byte])):
                return
            time.sleep(0.1)
    server = upstream(script)
    one = sidecar({"orders": server.url}, defaults={**ONE_TRY, "timeout": {"read": 0.5}})
    began = time.monotonic()
    answer = one.call("orders", "GET", "/")
    assert answer.status == 504 and error_of(answer) == "read_timeout" and 0.4 < time.monotonic() - began < 2
    quiet(one)


def test_a_stalled_body_meets_the_read_timeout_and_is_cut(sidecar, upstream):
    server = upstream(answers(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"))
    one = sidecar({"orders": server.url}, defaults={**ONE_TRY, "timeout": {"read": 0.5}})
    with one.connect() as connection:
        connection.request("GET", "/", host="orders")
        with pytest.raises(Incomplete):
            connection.read()
    ended(server.connections[0])
    quiet(one)


def test_a_trickled_body_meets_the_total_deadline(sidecar, upstream):
    def script(connection):
        connection.head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
        while connection.send(b"x"):
            time.sleep(0.05)
    server = upstream(script)
    one = sidecar({"orders": server.url}, defaults={**ONE_TRY, "timeout": {"read": 0.5, "total": 1.2}})
    began = time.monotonic()
    with one.connect() as connection:
        connection.request("GET", "/", host="orders")
        with pytest.raises(Incomplete):
            connection.read()
    assert 1 <= time.monotonic() - began < 3
    quiet(one)


# ---- both directions at once ----

def test_an_early_answer_is_passed_on_while_the_body_is_still_sent(sidecar, upstream):
    server = upstream(answers(b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge"))
    one = sidecar({"orders": server.url}, defaults=ONE_TRY)
    with one.connect() as connection:
        connection.send("POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 10000000\r\n\r\n" + "x" * 1000)
        answer = connection.read()
    assert answer.status == 413 and answer.body == b"large"
    quiet(one)


def test_an_upstream_that_answers_early_and_resets_does_not_lose_its_answer(sidecar, upstream):
    def script(connection):
        connection.head()
        connection.send(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno")
        time.sleep(0.3)
        connection.reset()
    one = sidecar({"orders": upstream(script).url}, defaults=ONE_TRY)
    with one.connect() as connection:
        connection.send("POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 10000000\r\n\r\n" + "x" * 1000)
        answer = connection.read()
    assert answer.status == 403 and answer.body == b"no"
    quiet(one)


def test_an_upstream_that_reads_nothing_meets_the_write_timeout(sidecar, upstream):
    def script(connection):
        connection.head()
        time.sleep(4)
    one = sidecar({"orders": upstream(script).url}, defaults={**ONE_TRY, "timeout": {"write": 0.7, "read": 3}})
    began = time.monotonic()
    answer = one.call("orders", "POST", "/", body=b"x" * (20 * MIB))
    assert answer.status == 504 and error_of(answer) == "write_timeout" and time.monotonic() - began < 3
    quiet(one)


# ---- kept connections ----

@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_kept_connection_that_was_closed_before_the_request_came_is_replaced_whatever_the_method(method, sidecar, upstream):
    """The sidecar sleeps while the upstream closes, so the end and the next request are there at once when it wakes up."""
    close = threading.Event()

    def script(connection):
        connection.head()
        connection.send(OK)
        if connection.number == 1:
            close.wait(20)
        else:
            connection.wait_end()
    server = upstream(script)
    one = sidecar({"orders": server.url}, defaults=ONE_TRY, supervisor={"hang_timeout": "off"})
    with one.connect() as app:
        assert app.call("GET", "/", host="orders").status == 200
        os.kill(one.workers[0], signal.SIGSTOP)
        try:
            close.set()
            until("it has closed", 5, lambda: server.connections[0].socket.fileno() == -1)
            app.request(method, "/", body=b"x" if method == "POST" else None, host="orders")
        finally:
            os.kill(one.workers[0], signal.SIGCONT)
        answer = app.read()
    assert answer.status == 200 and server.requests == 2, answer
    line = one.access(answer["x-request-id"])
    assert line["attempts"] == 1 and line["retry_skipped"] in (None, "", "not_needed"), line
    assert one.metrics().sum("rhc_upstream_attempts_total", upstream="orders", outcome="failure") == 0
    quiet(one)


LATE = 1.2  # more than any round trip makes plausible: HTTP_STALE_MAX_NS


@pytest.mark.parametrize("end", ["fin", "reset"])
def test_an_upstream_that_dies_with_a_request_half_done_does_not_get_a_post_twice(end, sidecar, upstream):
    def script(connection):
        connection.head()
        connection.send(OK)
        connection.head()
        if connection.number == 1:
            time.sleep(LATE)
            return connection.reset() if end == "reset" else None
        connection.send(OK)
    server = upstream(script)
    one = sidecar({"orders": server.url}, defaults=NO_BREAKER)
    with one.connect() as app:
        assert app.call("GET", "/", host="orders").status == 200
        answer = app.call("POST", "/", body=b"x", host="orders")
    assert answer.status == 502 and error_of(answer) == "reset_before_headers" and server.requests == 2, answer
    assert one.access(answer["x-request-id"])["retry_skipped"] == "method"
    one.counted(1, "rhc_upstream_attempts_total", upstream="orders", outcome="failure")
    quiet(one)


# ---- HTTP/2 ----

def h2(sidecar, server, **defaults):
    return sidecar({"orders": {"url": server.url, "pool": {"http2": "prior_knowledge"}}},
                   defaults={**NO_BREAKER, **defaults})


def served(first):
    """A script: the first connection is handled by first(H2), all others serve."""
    def script(connection):
        session = H2(connection)
        (first if connection.number == 1 else H2.serve)(session)
        connection.wait_end()
    return script


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_stream_above_the_last_id_of_goaway_is_replayed_whatever_its_method(method, sidecar, upstream):
    def first(session):
        session.request()
        session.connection.send(frame(hostile.GOAWAY, 0, 0, struct.pack("!II", 0, 0)))
    server = upstream(served(first))
    one = h2(sidecar, server)
    answer = one.call("orders", method, "/", body=b"x" if method == "POST" else None)
    assert answer.status == 200 and answer.body == b"ok", answer
    assert len(server.connections) == 2 and server.requests == 2
    quiet(one)


@pytest.mark.parametrize("method, status", [("GET", 200), ("POST", 502)])
def test_a_stream_below_the_last_id_of_goaway_is_repeated_only_if_its_method_allows(method, status, sidecar, upstream):
    def first(session):
        session.request()
        session.connection.send(frame(hostile.GOAWAY, 0, 0, struct.pack("!II", 0x7fffffff, 0)))
        time.sleep(0.1)
        session.connection.reset()
    server = upstream(served(first))
    one = h2(sidecar, server)
    answer = one.call("orders", method, "/", body=b"x" if method == "POST" else None)
    assert answer.status == status, answer
    assert server.requests == (2 if method == "GET" else 1)
    quiet(one)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_refused_stream_is_repeated_whatever_its_method(method, sidecar, upstream):
    def first(session):
        stream = session.request()
        session.connection.send(frame(hostile.RST, 0, stream, struct.pack("!I", hostile.REFUSED_STREAM)))
        session.serve()
    server = upstream(served(first))
    one = h2(sidecar, server)
    assert one.call("orders", method, "/", body=b"x" if method == "POST" else None).status == 200
    assert server.requests == 2
    quiet(one)


@pytest.mark.parametrize("name, end", [
    ("RST_STREAM INTERNAL_ERROR", lambda c, s: c.send(frame(hostile.RST, 0, s, struct.pack("!I", 2)))),
    ("RST_STREAM CANCEL", lambda c, s: c.send(frame(hostile.RST, 0, s, struct.pack("!I", hostile.CANCEL)))),
    ("a PING, then a reset", lambda c, s: (c.send(frame(hostile.PING, 0, 0, bytes(8))), time.sleep(0.1), c.reset())),
    ("SETTINGS, then FIN", lambda c, s: (c.send(frame(hostile.SETTINGS)), time.sleep(0.1), c.shut())),
    ("GOAWAY that names it, then a reset",
     lambda c, s: (c.send(frame(hostile.GOAWAY, 0, 0, struct.pack("!II", s, 0))), time.sleep(0.1), c.reset())),
    ("silence, then a reset", lambda c, s: (time.sleep(LATE), c.reset())),
])
@pytest.mark.parametrize("method, status, requests", [("GET", 200, 3), ("POST", 502, 2)])
def test_a_stream_lost_on_a_kept_connection_is_repeated_only_if_its_method_allows(name, end, method, status, requests,
                                                                              sidecar, upstream):
    def first(session):
        session.ok(session.request())
        stream = session.request()
        end(session.connection, stream)
        session.serve()
    server = upstream(served(first))
    one = h2(sidecar, server)
    with one.connect() as app:
        assert app.call("GET", "/", host="orders").status == 200
        answer = app.call(method, "/", body=b"x" if method == "POST" else None, host="orders")
    assert (answer.status, server.requests) == (status, requests), (name, answer)
    line = one.access(answer["x-request-id"])
    assert (line["attempts"], line["retry_skipped"]) == (1, "method") if method == "POST" else line["attempts"] == 2, line
    one.counted(1, "rhc_upstream_attempts_total", upstream="orders", outcome="failure")
    quiet(one)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_http_1_1_required_falls_back_to_http_1_1_and_stays_there(method, sidecar, upstream):
    def script(connection):
        connection.more()
        if connection.buffer.startswith(b"PRI"):
            session = H2(connection)
            stream = session.request()
            connection.send(frame(hostile.RST, 0, stream, struct.pack("!I", hostile.HTTP_1_1_REQUIRED)))
            connection.wait_end()
        while True:
            connection.head()
            connection.send(OK)
    server = upstream(script)
    one = h2(sidecar, server)
    for _ in range(3):
        answer = one.call("orders", method, "/", body=b"" if method == "POST" else None)
        assert answer.status == 200 and answer.body == b"ok", answer
    assert len(server.connections) == 2 and server.requests == 4, "asked once over HTTP/2"
    quiet(one)


def test_an_early_answer_over_http_2_ends_the_upload_and_keeps_the_connection(sidecar, upstream):
    def script(connection):
        session = H2(connection)
        while True:
            stream = session.request()
            connection.send(frame(hostile.HEADERS, 5, stream, b"\x08\x03413") + frame(hostile.RST, 0, stream, bytes(4)))
    server = upstream(script)
    one = h2(sidecar, server, **ONE_TRY)
    for _ in range(3):
        with one.connect() as connection:
            connection.send("POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 10000000\r\n\r\n" + "x" * 100000)
            assert connection.read().status == 413
    assert len(server.connections) == 1 and server.requests == 3
    quiet(one)


def test_256_mib_of_header_fields_over_http_2_cost_no_memory_and_one_answer(sidecar, upstream):
    sent, block = [], hostile.field(b"x", b"y" * 120) * 130

    def script(connection):
        session = H2(connection)
        connection.send(frame(hostile.HEADERS, 0, session.request(), hostile.STATUS_200))
        threading.Thread(target=connection.wait_end, daemon=True).start()
        for _ in range(256 * MIB // len(block)):
            if not connection.send(frame(hostile.CONTINUATION, 0, 1, block)):
                break
            sent.append(len(block))
    server = upstream(script)
    one = h2(sidecar, server, **ONE_TRY)
    worker = one.workers[0]
    reset_peak(worker)
    before = peak_rss(worker)
    answer = one.call("orders", "GET", "/")
    assert answer.status == 502 and error_of(answer) in ("response_headers_too_large", "protocol_error"), answer
    assert peak_rss(worker) - before < 16 * MIB
    ended(server.connections[0])
    assert sum(sent) < 64 * MIB, "it was read on and on"
    quiet(one)


def test_a_window_of_zero_meets_the_write_timeout(sidecar, upstream):
    def script(connection):
        session = H2(connection, hostile.settings(window=0))
        session.request()
        connection.wait_end()
    one = h2(sidecar, upstream(script), retry={"max_attempts": 1}, timeout={"write": 0.5, "read": 3})
    began = time.monotonic()
    # the first 65535 bytes may leave before the settings are known (RFC 9113 section 6.9.2)
    answer = one.call("orders", "POST", "/", body=b"x" * 200000)
    assert answer.status == 504 and error_of(answer) == "write_timeout" and time.monotonic() - began < 3, answer
    quiet(one)


BOMB = b"\x40\x01a\x7f\x80\x1e" + b"b" * 4000  # a: 4000 b, into the dynamic table as entry 62


@pytest.mark.parametrize("name, flood", [
    ("PING", frame(hostile.PING, 0, 0, bytes(8))),
    ("SETTINGS", frame(hostile.SETTINGS)),
    ("RST_STREAM of nothing", frame(hostile.RST, 0, 1, bytes(4))),
    ("CONTINUATION", None),
    ("WINDOW_UPDATE", frame(hostile.WINDOW_UPDATE, 0, 0, struct.pack("!I", 1))),
    ("empty DATA", "data"),
    ("PRIORITY", frame(hostile.PRIORITY, 0, 1, bytes(5))),
    ("unknown frames", frame(99, 0, 0, b"")),
])
def test_a_flood_of_frames_ends_the_connection_and_not_the_worker(name, flood, sidecar, upstream):
    done = []

    def script(connection):
        session = H2(connection)
        stream = session.request()
        threading.Thread(target=connection.wait_end, daemon=True).start()  # so that it is no deadlock of two writers
        data = flood
        if flood is None:
            connection.send(frame(hostile.HEADERS, 0, stream, hostile.STATUS_200))
            data = frame(hostile.CONTINUATION, 0, stream, b"")
        if flood == "data":
            connection.send(frame(hostile.HEADERS, hostile.END_HEADERS, stream, hostile.STATUS_200))
            data = frame(hostile.DATA, 0, stream, b"")
        for _ in range(2000):
            if not connection.send(data * 1000):
                break
        done.append(connection.ended.is_set())
    server = upstream(script)
    one = h2(sidecar, server, retry={"max_attempts": 1}, timeout={"read": 3})
    worker = one.workers[0]
    reset_peak(worker)
    before = peak_rss(worker)
    try:
        answer = one.call("orders", "GET", "/")
        assert answer.status in (502, 504), answer
        assert error_of(answer) in ("protocol_error", "reset_before_headers", "read_timeout"), answer
    except Incomplete:
        assert name == "empty DATA"
    assert peak_rss(worker) - before < 16 * MIB
    assert one.workers == [worker], "the worker died"
    if name != "unknown frames":  # they cost us no more than the bytes they are, and read_timeout
        until("the flood was ended", 5, lambda: done)
        assert done == [True]
    quiet(one)


def test_an_hpack_bomb_costs_no_memory(sidecar, upstream):
    def script(connection):
        session = H2(connection)
        stream = session.request()
        block = hostile.STATUS_200 + BOMB + b"\xbe" * 12000  # 12000 times the same 4000 bytes: 48 MB
        connection.send(frame(hostile.HEADERS, hostile.END_HEADERS, stream, block[:16384]))
        connection.wait_end()
    one = h2(sidecar, upstream(script), retry={"max_attempts": 1})
    worker = one.workers[0]
    reset_peak(worker)
    before = peak_rss(worker)
    answer = one.call("orders", "GET", "/")
    assert answer.status == 502 and error_of(answer) in ("response_headers_too_large", "protocol_error"), answer
    assert peak_rss(worker) - before < 16 * MIB
    quiet(one)


@pytest.mark.parametrize("name, frames", [
    ("DATA before HEADERS", lambda s: frame(hostile.DATA, 1, s, b"x")),
    ("no status", lambda s: frame(hostile.HEADERS, 5, s, hostile.field(b"x", b"y"))),
    ("two statuses", lambda s: frame(hostile.HEADERS, 5, s, b"\x88\x88")),
    ("status 101", lambda s: frame(hostile.HEADERS, 4, s, hostile.field(b":status", b"101"))),
    ("capitals", lambda s: frame(hostile.HEADERS, 5, s, b"\x88" + hostile.field(b"X", b"y"))),
    ("connection", lambda s: frame(hostile.HEADERS, 5, s, b"\x88" + hostile.field(b"connection", b"close"))),
    ("transfer-encoding", lambda s: frame(hostile.HEADERS, 5, s, b"\x88" + hostile.field(b"transfer-encoding", b"chunked"))),
    ("length", lambda s: frame(hostile.HEADERS, 5, s, b"\x88" + hostile.field(b"content-length", b"9"))),
    ("line feed", lambda s: frame(hostile.HEADERS, 5, s, b"\x88" + hostile.field(b"a", b"b\r\nc: d"))),
    ("a frame too large", lambda s: frame(hostile.HEADERS, 4, s, b"\x88" * 17000)),
    ("bad HPACK", lambda s: frame(hostile.HEADERS, 5, s, b"\xff\xff\xff\xff\xff\xff")),
    ("a push", lambda s: frame(hostile.PUSH, 4, s, b"\0\0\0\2\x82\x84\x86")),
    ("an even stream", lambda s: frame(hostile.HEADERS, 5, 2, b"\x88")),
    ("HTTP/1.1", lambda s: OK),
])
def test_malformed_http2_is_a_protocol_error_and_is_not_repeated_into_the_app(name, frames, sidecar, upstream):
    def script(connection):
        session = H2(connection)
        connection.send(frames(session.request()))
        connection.wait_end()
    one = h2(sidecar, upstream(script), retry={"max_attempts": 1}, timeout={"read": 2})
    answer = one.call("orders", "GET", "/")
    assert answer.status == 502 and error_of(answer) in ("protocol_error", "reset_before_headers"), (name, answer)
    quiet(one)


def test_more_body_than_the_length_resets_the_stream(sidecar, upstream):
    def script(connection):
        session = H2(connection)
        stream = session.request()
        connection.send(frame(hostile.HEADERS, 4, stream, b"\x88" + hostile.field(b"content-length", b"3")))
        connection.send(frame(hostile.DATA, 0, stream, b"ab") + frame(hostile.DATA, 1, stream, b"cd"))
        connection.wait_end()
    one = h2(sidecar, upstream(script), retry={"max_attempts": 1})
    with one.connect() as connection:
        connection.request("GET", "/", host="orders")
        with pytest.raises(Incomplete):
            connection.read()
    quiet(one)
