"""Upgrade: after 101 the bytes go both ways until both sides have ended (RFC 9110 section 7.8)."""
import hashlib
import ssl
import subprocess
import threading

import pytest

from lib.peer import Peer
from lib.raw import Incomplete, Raw
from lib.servers import pattern
from lib.wait import until

ASK = [("Connection", "Upgrade"), ("Upgrade", "shout/1")]
SWITCH = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout/1\r\nX-Told: yes\r\n\r\n"


def shout(connection):
    """Answers 101, then every byte in upper case; after FIN a last word."""
    head = connection.head()
    if not head:
        return
    assert "connection: upgrade" in head.lower() and "upgrade: shout/1" in head.lower(), head
    connection.send(SWITCH)
    while True:
        if connection.buffer:
            connection.send(bytes(connection.buffer).upper())
            connection.buffer.clear()
        if not connection.more():
            break
    connection.send("bye")


def open_tunnel(one, upstream="shout", path="/", behind=b""):
    """A connection after its 101, and the answer."""
    connection = Raw(one.port, timeout=10)
    fields = "".join(f"{name}: {value}\r\n" for name, value in [("Host", upstream), *ASK])
    connection.send(f"GET {path} HTTP/1.1\r\n{fields}\r\n".encode() + behind)
    while b"\r\n\r\n" not in connection.buffer:
        assert connection._more(), "closed before an answer"
    head, _, rest = bytes(connection.buffer).partition(b"\r\n\r\n")
    connection.buffer = bytearray(rest)
    return connection, head.decode("latin-1")


def read(connection, count):
    while len(connection.buffer) < count:
        assert connection._more(), f"closed after {bytes(connection.buffer[-100:])!r}"
    data = bytes(connection.buffer[:count])
    del connection.buffer[:count]
    return data


def read_all(connection):
    while connection._more():
        pass
    data = bytes(connection.buffer)
    connection.buffer.clear()
    return data


@pytest.fixture
def shouter():
    with Peer(shout) as peer:
        yield peer


@pytest.fixture
def one(sidecar, shouter, origin):
    return sidecar({"shout": shouter.url, "orders": origin.url})


def test_101_is_passed_on_and_then_bytes_both_ways_and_half_close(one):
    import socket
    connection, head = open_tunnel(one)
    assert head.startswith("HTTP/1.1 101 ")
    lower = head.lower()
    assert "connection: upgrade" in lower and "upgrade: shout/1" in lower and "x-told: yes" in lower
    assert "content-length" not in lower and "transfer-encoding" not in lower
    for word in (b"hello", b"a" * 3000, b"x"):
        connection.send(word)
        assert read(connection, len(word)) == word.upper()
    connection.socket.shutdown(socket.SHUT_WR)
    assert read_all(connection) == b"bye"
    line = until("the call is logged", 10, lambda: one.access_lines())[0]
    assert (line["response_code"], line["response_flags"]) == (101, "-")
    assert line["bytes_received"] == 3006 and line["bytes_sent"] == 3009
    one.counted(1, "rhc_requests_total", upstream="shout", code="1xx")


def test_bytes_right_behind_the_heads_are_the_tunnels(one):
    connection, head = open_tunnel(one, behind=b"early bird")
    assert " 101 " in head and read(connection, 10) == b"EARLY BIRD"
    connection.close()


def test_bytes_right_behind_the_101_are_the_tunnels(sidecar):
    def first(connection):
        connection.head()
        connection.send(SWITCH + "I speak first")
        connection.to_the_end()
    with Peer(first) as peer:
        one = sidecar({"shout": peer.url})
        connection, _ = open_tunnel(one)
        assert read(connection, 13) == b"I speak first"
        connection.close()


def test_a_slot_is_held_as_long_as_the_tunnel_lives(sidecar, shouter):
    one = sidecar({"shout": shouter.url}, workers=2,
                  defaults={"bulkhead": {"max_concurrency": 1, "acquisition_timeout": 0.2}})
    connection, _ = open_tunnel(one)
    assert one.in_use("shout") == 1
    assert one.call("shout", "GET", "/", ASK).problem["type"] == "urn:rhc:error:bulkhead_timeout"
    connection.send("x")
    assert read(connection, 1) == b"X" and one.in_use("shout") == 1
    connection.close()
    until("the slot is back", 10, lambda: one.in_use("shout") == 0)


def test_the_verdict_is_that_of_the_handshake(sidecar):
    def break_off(connection):
        if connection.head():
            connection.send(SWITCH)
            connection.exactly(1)
            connection.reset()
    with Peer(break_off) as peer:
        one = sidecar({"shout": peer.url}, defaults={"circuit_breaker": {"failure_threshold": 1}, "retry": {"max_attempts": 1}})
        for _ in range(3):
            connection, head = open_tunnel(one)
            assert " 101 " in head
            connection.send("x")
            with pytest.raises(Incomplete):
                read_all(connection)
        assert one.breaker("shout") == "closed"
        lines = until("three calls are logged", 10, lambda: len(one.access_lines()) == 3 and one.access_lines())
        assert {line["response_code"] for line in lines} == {101}
        assert {line["response_flags"] for line in lines} == {"UC"}
        one.counted(3, "rhc_upstream_attempts_total", upstream="shout", outcome="success")


def test_a_failed_handshake_is_retried_and_the_second_upstream_answer_switches(sidecar):
    turns = []

    def stumble(connection):
        turns.append(1)
        if len(turns) == 1:
            connection.head()
            connection.reset()
        else:
            shout(connection)
    with Peer(stumble) as peer:
        one = sidecar({"shout": peer.url})
        connection, head = open_tunnel(one)
        assert " 101 " in head and "x-rhc-attempts: 2" in head.lower() and len(turns) == 2
        connection.send("ok")
        assert read(connection, 2) == b"OK"
        connection.close()


def test_silence_is_bounded_by_timeout_tunnel(sidecar, shouter):
    one = sidecar({"shout": shouter.url}, defaults={"timeout": {"tunnel": 1, "read": 0.5, "total": 0.7, "connect": 0.4}})
    connection, _ = open_tunnel(one)
    for _ in range(3):  # longer than timeout.read, timeout.total and, together, than timeout.tunnel
        threading.Event().wait(0.6)
        connection.send("x")
        assert read(connection, 1) == b"X"
    with pytest.raises(Incomplete):
        read_all(connection)
    line = until("the call is logged", 10, lambda: one.access_lines())[0]
    assert line["response_code_details"] == "body_timeout" and "timeout.tunnel" in line["detail"]
    until("the slot is back", 10, lambda: one.in_use("shout") == 0)


def test_a_refused_upgrade_is_an_answer_like_any_other(one):
    with one.connect() as connection:
        answer = connection.call("GET", "/bytes/300", ASK, host="orders")
        assert (answer.status, answer.body) == (200, pattern(300)) and answer["upgrade"] is None
        assert connection.call("GET", "/status/404", ASK, host="orders").status == 404
        assert connection.call("GET", "/bytes/7", host="orders").body == pattern(7)


def test_an_upgrade_goes_over_http_1_1_also_where_the_upstream_speaks_http_2(sidecar, ours):
    spoken = []
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(ours.cert("good"), ours.key("good"))
    tls.set_alpn_protocols(["h2", "http/1.1"])

    def serve(connection):
        spoken.append(connection.socket.selected_alpn_protocol())
        if spoken[-1] != "h2":
            shout(connection)
    with Peer(serve, tls) as peer:
        one = sidecar({"shout": {"url": peer.url, "tls": {"ca_file": str(ours.ca_file)}}},
                      defaults={"retry": {"max_attempts": 1}})
        assert one.call("shout", "GET", "/").status == 502  # it closes what speaks h2
        connection, head = open_tunnel(one)
        assert " 101 " in head and spoken == ["h2", "http/1.1"]
        connection.send("over tls")
        assert read(connection, 8) == b"OVER TLS"
        connection.close()


def test_calls_stay_on_http_2_after_an_upgrade_was_refused(sidecar, nghttpd_tls, ours):
    one = sidecar({"h2": {"url": nghttpd_tls.url, "tls": {"ca_file": str(ours.ca_file)}}},
                  defaults={"retry": {"max_attempts": 1}})
    assert one.call("h2", "GET", "/small").status == 200
    refused = one.call("h2", "GET", "/small", ASK)
    assert refused.status == 502, "nghttpd has no HTTP/1.1"
    assert one.call("h2", "GET", "/small").status == 200


def test_an_upstream_that_has_http_2_alone_cannot_be_upgraded(sidecar, nghttpd_h2c):
    one = sidecar({"h2c": {"url": nghttpd_h2c.url, "pool": {"http2": "prior_knowledge"}}})
    answer = one.call("h2c", "GET", "/small", ASK)
    assert answer.status == 502 and answer.problem["type"] == "urn:rhc:error:upgrade_failed"
    assert "prior_knowledge" in answer.problem["detail"]


def test_an_upgrade_to_h2c_is_not_passed_on(one):
    seen = subprocess.run(["curl", "-sS", "-m", "10", "--http2", "-H", "Host: orders", one.url("/echo")],
                          capture_output=True, text=True, check=True).stdout.lower()
    assert "h2c" not in seen and "http2-settings" not in seen and '"upgrade"' not in seen


def test_an_upgrade_with_a_body_is_an_ordinary_call(one):
    answer = one.call("orders", "POST", "/echo", ASK, body=b"content")
    assert answer.status == 200 and b"shout" not in answer.body


def test_a_101_that_nobody_asked_for_is_a_protocol_error(sidecar):
    def rude(connection):
        while connection.head():
            connection.send(SWITCH)
    with Peer(rude) as peer:
        one = sidecar({"shout": peer.url}, defaults={"retry": {"max_attempts": 1}})
        answer = one.call("shout", "GET", "/")
        assert answer.status == 502 and answer.problem["type"] == "urn:rhc:error:protocol_error"


def test_megabytes_both_ways_at_once_arrive_whole_and_hold_each_other_back(one):
    data = pattern(4 << 20)
    connection, _ = open_tunnel(one)
    sender = threading.Thread(target=connection.send, args=(data,))
    sender.start()
    got = read(connection, len(data))
    sender.join(30)
    assert hashlib.sha256(got).digest() == hashlib.sha256(data.upper()).digest()
    connection.close()


def test_an_app_that_is_killed_ends_the_tunnel_at_the_upstream_too(sidecar):
    ended = threading.Event()

    def wait_for_end(connection):
        connection.head()
        connection.send(SWITCH)
        try:
            connection.to_the_end()
        finally:
            ended.set()
    with Peer(wait_for_end) as peer:
        one = sidecar({"shout": peer.url})
        connection, _ = open_tunnel(one)
        connection.reset()
        assert ended.wait(10)
        until("the slot is back", 10, lambda: one.in_use("shout") == 0)
        assert one.access_lines()[0]["response_code"] == 101


def test_draining_waits_for_a_tunnel_and_then_cuts_it(sidecar, shouter):
    one = sidecar({"shout": shouter.url}, shutdown={"max_wait": 1})
    connection, _ = open_tunnel(one)
    stopper = threading.Thread(target=one.stop)
    stopper.start()
    connection.send("still")
    assert read(connection, 5) == b"STILL"
    with pytest.raises(Incomplete):
        read_all(connection)
    stopper.join(30)
    assert not stopper.is_alive()
