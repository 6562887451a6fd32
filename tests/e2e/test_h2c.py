"""HTTP/2 by prior knowledge on the same port as HTTP/1.1: many streams, flow control, trailers, 1xx."""
import re
import subprocess
import threading

import pytest

from lib.node import Server, run
from lib.peer import Peer
from lib.raw import Raw
from lib.servers import FILES, fnv1a64, pattern
from lib.wait import until

KNOW = "--http2-prior-knowledge"


def curl(*args, timeout=60, check=True, **options):
    return subprocess.run(["curl", "-sS", "-m", str(timeout), *map(str, args)], check=check, capture_output=True,
                          timeout=timeout + 10, **options)


@pytest.fixture
def one(sidecar, four, origin):
    return sidecar({**four, "origin": origin.url})


def test_both_versions_are_served_on_one_port(one):
    for how, version in ((["--http1.1"], "1.1"), ([KNOW], "2")):
        done = curl(*how, "-w", "%{http_version}", "-H", "x-rhc-upstream: origin", one.url("/bytes/100"))
        assert done.stdout == pattern(100) + version.encode()


@pytest.mark.parametrize("kind", ["h1", "h2c", "h2-tls"])
def test_a_hundred_streams_of_one_connection_come_interleaved_and_whole(kind, one):
    done = subprocess.run(["h2load", "-n", "1000", "-c", "1", "-m", "100", "-H", f"x-rhc-upstream: {kind}",
                           one.url("/odd")], capture_output=True, text=True, timeout=60)
    assert "1000 succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout, done.stdout
    body = int(re.search(r"traffic: .*\((\d+)\) data", done.stdout).group(1))
    assert body == 1000 * FILES["odd"]


def test_a_hundred_streams_wait_together_and_are_answered_together(sidecar, origin):
    one = sidecar({"origin": origin.url}, defaults={"bulkhead": {"max_concurrency": 100}, "pool": {"max_connections": 128}})
    load = subprocess.Popen(["h2load", "-n", "100", "-c", "1", "-m", "100", "-H", "x-rhc-upstream: origin",
                             one.url("/gate")], stdout=subprocess.PIPE, text=True)
    origin.wait_current(100)
    origin.release()
    told, _ = load.communicate(timeout=60)
    assert "100 succeeded, 0 failed" in told, told


def test_nghttp_reads_and_verifies_every_byte(one):
    for path in ("/large", "/odd", "/empty", "/one"):
        done = subprocess.run(["nghttp", "-H", "x-rhc-upstream: h1", one.url(path)], capture_output=True, timeout=30)
        assert done.stdout == pattern(FILES[path[1:]])
    many = subprocess.run(["nghttp", "-ans", "-m", "20", "-H", "x-rhc-upstream: h1", one.url("/page")],
                          capture_output=True, text=True, timeout=30)
    assert len(re.findall(r"\b200\b.*/page", many.stdout)) == 20, many.stdout


@pytest.mark.parametrize("bits", ["14", "10"])
def test_a_small_window_holds_the_sender_back_and_nothing_is_lost(bits, one):
    done = subprocess.run(["nghttp", "-w", bits, "-W", "16" if bits == "10" else bits, "-H", "x-rhc-upstream: origin", one.url("/bytes/3000000")],
                          capture_output=True, timeout=60)
    assert done.stdout == pattern(3000000)


@pytest.mark.parametrize("kind", ["h1", "h2c", "h2-tls"])
def test_uploads_over_h2c_arrive_whole(kind, one, tmp_path):
    (tmp_path / "up").write_bytes(pattern(700001))
    path = "/up" if kind.startswith("h2") else "/origin/sha"
    got = curl(KNOW, "-H", f"x-rhc-upstream: {kind}", "--data-binary", f"@{tmp_path / 'up'}", one.url(path)).stdout
    assert got == pattern(700001) if kind.startswith("h2") else fnv1a64(pattern(700001)).encode() in got


def test_a_cancelled_stream_leaves_the_others_alone_and_gives_its_slot_back(sidecar, origin):
    one = sidecar({"origin": origin.url})
    with subprocess.Popen(["curl", "-sS", "-m", "1", KNOW, "-H", "x-rhc-upstream: origin", one.url("/hang")],
                          stderr=subprocess.DEVNULL) as hangs:
        until("it hangs", 10, lambda: one.in_use("origin") == 1)
        assert curl(KNOW, "-H", "x-rhc-upstream: origin", one.url("/bytes/5")).stdout == pattern(5)
        hangs.wait(20)
    until("the slot is back", 10, lambda: one.in_use("origin") == 0)


# ---- 100-continue: two versions below, two above ----

def silent_upload(connection):
    """Never says 100, waits for the body."""
    while head := connection.head():
        count = int(re.search(r"content-length: (\d+)", head, re.I).group(1))
        body = connection.exactly(count)
        connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


def polite_upload(connection):
    while head := connection.head():
        assert "expect: 100-continue" in head.lower(), head
        connection.send("HTTP/1.1 100 Continue\r\n\r\n")
        body = connection.exactly(int(re.search(r"content-length: (\d+)", head, re.I).group(1)))
        connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


def head_of(connection):
    while b"\r\n\r\n" not in connection.buffer:
        assert connection._more(), "closed before an answer"
    head, _, rest = bytes(connection.buffer).partition(b"\r\n\r\n")
    connection.buffer = bytearray(rest)
    return head.decode()


def ask_leave(one, upstream, count=5, version="1.1"):
    connection = Raw(one.port, timeout=10)
    connection.send(f"PUT /up HTTP/{version}\r\nHost: {upstream}\r\nContent-Length: {count}\r\n"
                    "Expect: 100-continue\r\n\r\n")
    return connection


@pytest.mark.parametrize("serve", [silent_upload, polite_upload])
def test_who_waits_for_100_gets_one_from_the_upstream_or_from_us(serve, sidecar):
    with Peer(serve) as peer:
        one = sidecar({"up": peer.url})
        connection = ask_leave(one, "up")
        assert head_of(connection) == "HTTP/1.1 100 Continue"
        connection.send("hello")
        answer = connection.read()
        assert answer.status == 200 and answer.body == b"hello" and not answer.informational
        connection.close()


def test_who_waits_for_100_gets_it_at_once_when_the_upstream_speaks_http_2(one):
    import time
    connection = ask_leave(one, "h2c")
    began = time.monotonic()
    assert head_of(connection) == "HTTP/1.1 100 Continue" and time.monotonic() - began < 0.9
    connection.send("hello")
    assert connection.read().body == b"hello"
    connection.close()


@pytest.mark.parametrize("kind", ["h1", "h2c", "h2-tls", "origin"])
@pytest.mark.parametrize("how", [KNOW, "--http1.1"])
def test_curl_that_expects_100_uploads_in_every_combination(kind, how, one, tmp_path):
    (tmp_path / "up").write_bytes(pattern(200000))
    path = {"h1": "/origin/sha", "origin": "/sha"}.get(kind, "/up")
    done = curl(how, "-v", "--expect100-timeout", "20", "-m", "10", "-H", "Expect: 100-continue", "-H",
                f"x-rhc-upstream: {kind}", "-T", tmp_path / "up", "-X", "POST", one.url(path))
    got = done.stdout
    assert got == pattern(200000) if kind.startswith("h2") else fnv1a64(pattern(200000)).encode() in got
    assert re.search(r"< HTTP/\S+ 100", done.stderr.decode()) or how == KNOW, done.stderr.decode()


def test_100_waits_for_the_slot(sidecar):
    with Peer(polite_upload) as peer:
        one = sidecar({"up": peer.url}, defaults={"bulkhead": {"max_concurrency": 1, "acquisition_timeout": 0.3}})
        holder = ask_leave(one, "up")
        assert "100" in head_of(holder)
        waiter = ask_leave(one, "up")
        assert "503" in head_of(waiter), "the refusal comes instead of 100, so the body is never sent"
        waiter.close()
        holder.send("hello")
        assert holder.read().body == b"hello"
        holder.close()


def test_an_open_circuit_answers_instead_of_100(sidecar, origin):
    one = sidecar({"up": "http://127.0.0.1:1"}, defaults={"circuit_breaker": {"failure_threshold": 1},
                                                          "retry": {"max_attempts": 1}})
    for word in ("connect_refused", "circuit_open"):
        connection = ask_leave(one, "up")
        assert word in connection.read().problem["type"]
        connection.close()


def test_a_final_answer_instead_of_100_is_passed_on(sidecar):
    def refuse(connection):
        connection.head()
        connection.send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        connection.to_the_end()
    with Peer(refuse) as peer:
        one = sidecar({"up": peer.url})
        connection = ask_leave(one, "up", count=1000000)
        answer = connection.read()
        assert (answer.status, answer.body) == (413, b"no") and connection.closed()


def test_after_a_failed_attempt_leave_comes_from_the_next_one(sidecar):
    turns = []

    def stumble(connection):
        turns.append(1)
        if len(turns) == 1:
            connection.head()
            connection.send("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        else:
            polite_upload(connection)
    with Peer(stumble) as peer:
        one = sidecar({"up": peer.url})
        connection = ask_leave(one, "up")
        assert "100" in head_of(connection)
        connection.send("hello")
        answer = connection.read()
        assert answer.body == b"hello" and answer["x-rhc-attempts"] == "2"
        connection.close()


def test_an_attempt_after_the_leave_does_not_ask_for_it_again(sidecar):
    seen = []

    def fail_late(connection):
        while head := connection.head():
            seen.append("expect" in head.lower())
            if len(seen) == 1:
                connection.send("HTTP/1.1 100 Continue\r\n\r\n")
            connection.exactly(5)
            status = "503 Busy" if len(seen) == 1 else "200 OK"
            connection.send(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")
    with Peer(fail_late) as peer:
        one = sidecar({"up": peer.url})
        connection = ask_leave(one, "up")
        assert "100" in head_of(connection)
        connection.send("hello")
        answer = connection.read()
        assert answer.status == 200 and seen == [True, False] and not answer.informational
        connection.close()


def test_an_http_1_0_caller_never_sees_1xx(sidecar, origin):
    def hint(connection):
        head = connection.head()
        assert "expect" not in head.lower(), head
        connection.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
        connection.exactly(5)
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    with Peer(hint) as peer:
        one = sidecar({"up": peer.url})
        connection = ask_leave(one, "up", version="1.0")
        connection.send("hello")
        answer = connection.read()
        assert (answer.status, answer.body) == (200, b"ok") and not answer.informational
        connection.close()


def test_hints_reach_both_versions_and_a_stray_100_nobody(sidecar):
    def hint(connection):
        while connection.head():
            connection.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
                            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    with Peer(hint) as peer:
        one = sidecar({"up": peer.url})
        answer = one.call("up", "GET", "/")
        assert answer.body == b"ok" and [i.status for i in answer.informational] == [103]
        told = subprocess.run(["nghttp", "-v", "-H", "x-rhc-upstream: up", one.url("/")], capture_output=True,
                              text=True, timeout=20).stdout
        assert ":status: 103" in told and ":status: 100" not in told and ":status: 200" in told


# ---- trailers: two versions below, two above ----

def chunked_echo(connection):
    """HTTP/1.1: the trailers of the request come back as those of the answer, with one more."""
    while head := connection.head():
        assert "transfer-encoding: chunked" in head.lower(), head
        body, rest = bytearray(), b""
        while True:
            while b"\r\n" not in connection.buffer:
                assert connection.more()
            line, _, rest = bytes(connection.buffer).partition(b"\r\n")
            connection.buffer = bytearray(rest)
            size = int(line, 16)
            if size == 0:
                break
            body += connection.exactly(size)
            assert connection.exactly(2) == b"\r\n"
        trailers = ""
        while True:
            while b"\r\n" not in connection.buffer:
                assert connection.more()
            line, _, rest = bytes(connection.buffer).partition(b"\r\n")
            connection.buffer = bytearray(rest)
            if not line:
                break
            trailers += line.decode() + "\r\n"
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum, x-end\r\n\r\n"
                        f"{len(body):x}\r\n{body.decode()}\r\n0\r\n{trailers}x-end: yes\r\nContent-Type: bad\r\n\r\n"
                        .replace("Content-Type: bad\r\n", ""))


def send_with_trailers(one, upstream, te="TE: trailers\r\n"):
    connection = Raw(one.port, timeout=10)
    connection.send(f"POST /t HTTP/1.1\r\nHost: {upstream}\r\nTransfer-Encoding: chunked\r\n{te}Trailer: x-sum\r\n"
                    "\r\n5\r\nhello\r\n0\r\nx-sum: 12\r\n\r\n")
    return connection.read()


def test_trailers_go_both_ways_over_http_1_1(sidecar):
    with Peer(chunked_echo) as peer:
        one = sidecar({"up": peer.url})
        answer = send_with_trailers(one, "up")
        assert answer.body == b"hello" and answer.trailers == [("x-sum", "12"), ("x-end", "yes")]
        assert answer["trailer"] == "x-sum, x-end"


def test_trailers_are_neither_sent_nor_announced_to_who_does_not_accept_them(sidecar):
    with Peer(chunked_echo) as peer:
        one = sidecar({"up": peer.url})
        answer = send_with_trailers(one, "up", te="")
        assert answer.body == b"hello" and not answer.trailers and answer["trailer"] is None


def test_request_trailers_of_http_2_reach_an_upstream_of_http_1_1_and_come_back(sidecar, tmp_path):
    (tmp_path / "up").write_bytes(b"hello")
    with Peer(chunked_echo) as peer:
        one = sidecar({"up": peer.url})
        # nghttp --trailer sends them behind the upload
        told = subprocess.run(["nghttp", "-v", "-d", tmp_path / "up", "--no-content-length", "--trailer", "x-sum: 34",
                               "-H", "x-rhc-upstream: up", one.url("/t")], capture_output=True, timeout=20)
        text = told.stdout.decode(errors="replace")
        assert "x-sum: 34" in text.split(":status: 200")[1] and "x-end: yes" in text, text


@pytest.fixture(params=["h1", "h2-stream", "h2-length"])
def trailing(request, sidecar, tmp_path):
    """(a sidecar whose upstream `up` sends the trailers back, that one's version and framing)."""
    if request.param == "h1":
        with Peer(chunked_echo) as peer:
            yield sidecar({"up": peer.url}), request.param
        return
    server = Server(tmp_path, "trailers_h2.js", "server", request.param[3:])
    try:
        yield sidecar({"up": {"url": f"http://127.0.0.1:{server.port}", "pool": {"http2": "prior_knowledge"}}}), request.param
    finally:
        server.stop()


def test_trailers_of_http_1_1_go_both_ways_whatever_the_upstream_speaks(trailing):
    one, kind = trailing
    answer = send_with_trailers(one, "up")
    assert answer.body == b"hello" and answer.trailers == [("x-sum", "12"), ("x-end", "yes")], (kind, answer)
    assert answer["trailer"] == "x-sum, x-end" and answer["content-length"] is None


@pytest.mark.parametrize("framing", ["stream", "length"])
def test_trailers_of_http_2_go_both_ways_whatever_the_upstream_speaks(framing, trailing):
    one, kind = trailing
    seen = run("trailers_h2.js", one.url(), "up", framing)
    assert seen["body"] == "hello" and seen["head"][":status"] == 200
    assert seen["trailers"] == {"x-sum": "12", "x-end": "yes"}, (kind, seen)
    assert seen["head"].get("content-length") == ("5" if kind == "h2-length" else None)
    if kind != "h1":
        assert seen["head"]["x-length-seen"] == ("5" if framing == "length" else "none"), "HTTP/2 has room for both"


def test_a_length_of_http_2_stays_one_for_who_takes_no_trailers_or_was_told_of_none(sidecar, tmp_path):
    server = Server(tmp_path, "trailers_h2.js", "server", "length")
    try:
        one = sidecar({"up": {"url": f"http://127.0.0.1:{server.port}", "pool": {"http2": "prior_knowledge"}}})
        for path, te in (("/t", ""), ("/unannounced", "TE: trailers\r\n")):
            connection = Raw(one.port, timeout=10)
            connection.send(f"POST {path} HTTP/1.1\r\nHost: up\r\nContent-Length: 5\r\n{te}\r\nhello")
            answer = connection.read()
            assert answer.body == b"hello" and answer["content-length"] == "5", answer
            assert not answer.trailers and answer["trailer"] is None
            connection.close()
    finally:
        server.stop()


def test_response_trailers_of_http_1_1_reach_http_2(one):
    told = subprocess.run(["nghttp", "-v", "-H", "x-rhc-upstream: origin", one.url("/chunked/3000?chunk=100")],
                          capture_output=True, timeout=20).stdout.decode(errors="replace")
    assert "x-checked: 3000" in told


def test_a_thousand_calls_of_many_connections_mix_both_versions(one):
    errors = []

    def load(how):
        done = subprocess.run(["h2load", *how, "-n", "500", "-c", "8", "-H", "x-rhc-upstream: origin",
                               one.url("/bytes/20000")], capture_output=True, text=True, timeout=60)
        if "500 succeeded, 0 failed, 0 errored" not in done.stdout:
            errors.append(done.stdout)
    threads = [threading.Thread(target=load, args=(how,)) for how in (["--h1"], ["-m", "16"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(70)
    assert not errors
