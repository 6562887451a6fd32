"""Bad input gets a clear answer or a close; nothing crashes, nothing ambiguous goes on."""
import os
import random

import pytest

from lib import hostile
from lib.h2_client import H2Client
from lib.raw import Incomplete, Raw
from lib.servers import pattern
from lib.wait import free_port, until

HEAD = "GET /?key=seen HTTP/1.1\r\nHost: orders\r\n"


@pytest.fixture
def one(sidecar, origin):
    return sidecar({"orders": origin.url})


@pytest.fixture
def workers_live(one):
    """The same worker serves before and after: a restarted one would be a crash."""
    before = one.workers
    yield
    assert one.call("orders", "GET", "/bytes/10").body == pattern(10)
    assert one.workers == before, f"a worker was replaced:\n{one.log()[-4000:]}"


def answer_of(one, data):
    """The status that the bytes are answered with, or "closed"."""
    with one.connect(timeout=15) as connection:
        try:
            connection.send(data)
        except ConnectionError:
            pass
        try:
            answer = connection.read()
        except (Incomplete, ConnectionError):
            return "closed"
        if answer.status in (400, 413, 431, 501, 505):
            assert connection.closed(), "a connection out of step must not go on"
        return answer.status


BAD_HEADS = {
    "garbage bytes": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(128, 256)) + b"\r\n\r\n", {400}),
    "only a newline flood": (b"\r\n" * 70000, {400, "closed"}),
    "no version": ("GET /\r\n\r\n", {400}),
    "a version of the future": ("GET / HTTP/3.0\r\nHost: orders\r\n\r\n", {400, 505}),
    "no host": ("GET / HTTP/1.1\r\n\r\n", {400}),
    "two hosts": (HEAD + "Host: orders\r\n\r\n", {400}),
    "a host with a space": ("GET / HTTP/1.1\r\nHost: or ders\r\n\r\n", {400}),
    "a space before the colon": (HEAD + "X-A : 1\r\n\r\n", {400}),
    "a folded line": (HEAD + "X-A: 1\r\n 2\r\n\r\n", {400}),
    "a name with a control byte": (HEAD + "X\x01A: 1\r\n\r\n", {400}),
    "a value with a NUL": (HEAD + "X-A: a\0b\r\n\r\n", {400}),
    "a value with a bare CR": (HEAD + "X-A: a\rb\r\n\r\n", {400}),
    "a line without a colon": (HEAD + "nonsense\r\n\r\n", {400}),
    "bare LF": (HEAD.replace("\r\n", "\n") + "\n", {400}),
    "bare LF in one field": (HEAD + "X-A: 1\nX-B: 2\r\n\r\n", {400}),
    "a method that is no token": ("G{T / HTTP/1.1\r\nHost: orders\r\n\r\n", {400}),
    "length and chunked": (HEAD + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
    "two lengths": (HEAD + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", {400}),
    "one length twice": (HEAD + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", {400}),
    "a coding in HTTP/1.0": ("POST / HTTP/1.0\r\nHost: orders\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
    "a Host that is not the target's": ("GET http://orders/ HTTP/1.1\r\nHost: other\r\n\r\n", {400}),
    "a target with a user": ("GET http://me@orders/ HTTP/1.1\r\nHost: orders\r\n\r\n", {400}),
    "a NUL in a name": (HEAD + "X\0A: 1\r\n\r\n", {400}),
    "white space before the first field": ("GET / HTTP/1.1\r\n Host: orders\r\n\r\n", {400}),
    "two lengths in a list": (HEAD + "Content-Length: 3, 4\r\n\r\nabcd", {400}),
    "a negative length": (HEAD + "Content-Length: -3\r\n\r\n", {400}),
    "a signed length": (HEAD + "Content-Length: +3\r\n\r\nabc", {400}),
    "a length beyond 64 bits": (HEAD + "Content-Length: 99999999999999999999999\r\n\r\n", {400}),
    "a hexadecimal length": (HEAD + "Content-Length: 0x3\r\n\r\nabc", {400}),
    "an unknown coding": (HEAD + "Transfer-Encoding: squeezed\r\n\r\n", {400, 501}),
    "chunked not last": (HEAD + "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", {400, 501}),
    "chunked twice": (HEAD + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", {400, 501}),
    "two transfer codings": (HEAD + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400, 501}),
    "a disguised coding": (HEAD + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", {400, 501}),
    "a head of 1 MiB": (HEAD + "X-Big: " + "a" * (1 << 20) + "\r\n\r\n", {431}),
    "ten thousand fields": (HEAD + "X-A: 1\r\n" * 10000 + "\r\n", {400, 431}),
    "a target of 1 MiB": ("GET /" + "a" * (1 << 20) + " HTTP/1.1\r\nHost: orders\r\n\r\n", {414, 431, 400}),
    "a target with a fragment of a URL": ("GET htp:/x HTTP/1.1\r\nHost: orders\r\n\r\n", {400, 500}),
    "CONNECT": ("CONNECT orders:443 HTTP/1.1\r\nHost: orders:443\r\n\r\n", {400, 403, 405, 501}),
    "half an HTTP/2 preface": ("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", {400, 505, "closed"}),
    "an HTTP/2 preface and garbage": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100, {"closed"}),
}


@pytest.mark.parametrize("what", list(BAD_HEADS))
def test_a_bad_head_is_refused_and_never_reaches_the_upstream(what, one, origin, workers_live):
    data, expected = BAD_HEADS[what]
    if what == "an HTTP/2 preface and garbage":
        with one.connect(timeout=15) as connection:
            connection.send(data)
            got = b""
            try:
                while piece := connection.socket.recv(4096):
                    got += piece
            except ConnectionError:
                pass
            assert not got.startswith(b"HTTP/1.1 200")
    else:
        assert answer_of(one, data) in expected
    assert origin.stats()["requests"] == 0


BAD_CHUNKS = {
    "a size that is no number": "zz\r\nab\r\n0\r\n\r\n",
    "a size beyond 64 bits": "fffffffffffffffff\r\n",
    "a size with a sign": "+2\r\nab\r\n0\r\n\r\n",
    "a chunk longer than its size": "2\r\nabc\r\n0\r\n\r\n",
    "bare LF after a size": "2\nab\r\n0\r\n\r\n",
    "an endless extension": "2;" + "x" * 200000 + "\r\nab\r\n0\r\n\r\n",
    "a bad trailer": "2\r\nab\r\n0\r\nbad trailer\r\n\r\n",
}


@pytest.mark.parametrize("what", list(BAD_CHUNKS))
def test_broken_chunks_are_refused_and_never_become_a_whole_body_for_the_upstream(what, one, origin, workers_live):
    head = "POST /sha HTTP/1.1\r\nHost: orders\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert answer_of(one, head + BAD_CHUNKS[what]) in (400, 413, "closed")
    assert origin.stats()["answered"] == 0


def test_a_smuggled_request_is_not_seen_by_the_upstream(one, origin, workers_live):
    for lines in ("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
                  "Content-Length: 6\r\nTransfer-Encoding : chunked\r\n", "Transfer-Encoding: xchunked\r\n"):
        answer_of(one, f"POST /sha HTTP/1.1\r\nHost: orders\r\n{lines}\r\n0\r\n\r\nGET /?key=smuggled HTTP/1.1\r\nHost: orders\r\n\r\n")
    assert origin.attempts("smuggled") == 0


H2_SMUGGLED = {  # method, path, authority, fields: what HTTP/1.1 would read as lines of its own, or frame by
    "CR LF in the path": (b"GET", b"/ HTTP/1.1\r\nx-a: b", b"orders", ()),
    "a space in the path": (b"GET", b"/ HTTP/1.1", b"orders", ()),
    "CR LF in the method": (b"GET / HTTP/1.1\r\n", b"/", b"orders", ()),
    "a space in the method": (b"GET /x", b"/", b"orders", ()),
    "CR LF in the authority": (b"GET", b"/", b"orders\r\nx-a: b", ()),
    "CR LF in a value": (b"GET", b"/", b"orders", ((b"x-a", b"b\r\nx-c: d"),)),
    "LF in a value": (b"GET", b"/", b"orders", ((b"x-a", b"b\nx-c: d"),)),
    "NUL in a value": (b"GET", b"/", b"orders", ((b"x-a", b"b\0c"),)),
    "a colon in a name": (b"GET", b"/", b"orders", ((b"x-a: b\r\nx-c", b"d"),)),
    "a space in a name": (b"GET", b"/", b"orders", ((b"x a", b"b"),)),
    "a capital in a name": (b"GET", b"/", b"orders", ((b"X-A", b"b"),)),
    "Transfer-Encoding": (b"POST", b"/", b"orders", ((b"transfer-encoding", b"chunked"),)),
    "Connection": (b"GET", b"/", b"orders", ((b"connection", b"x-a"),)),
    "Upgrade to h2c": (b"GET", b"/", b"orders", ((b"upgrade", b"h2c"),)),
    "TE other than trailers": (b"GET", b"/", b"orders", ((b"te", b"chunked"),)),
    "a Host of another": (b"GET", b"/", b"orders", ((b"host", b"other"),)),
    "two lengths": (b"POST", b"/", b"orders", ((b"content-length", b"0"), (b"content-length", b"0"))),
    "a length without its body": (b"POST", b"/", b"orders", ((b"content-length", b"7"),)),
}


@pytest.mark.parametrize("what", list(H2_SMUGGLED))
def test_what_http_2_could_smuggle_into_http_1_1_never_reaches_the_upstream(what, one, origin, workers_live):
    method, path, authority, fields = H2_SMUGGLED[what]
    client = H2Client(one)
    _, bad = client.request(block=H2Client.block(method, path, authority, *fields))
    client.send(bad)
    # nothing but its stream, or with a name that breaks the framing of heads the connection, ends
    found = client.until(hostile.RST, hostile.GOAWAY, hostile.HEADERS)
    assert found is not None and found[0] != hostile.HEADERS, found
    assert origin.stats()["requests"] == 0
    client.raw.close()
    client = H2Client(one)
    _, good = client.request(block=H2Client.block(b"GET", b"/", b"orders"))
    client.send(good)
    assert client.until(hostile.HEADERS, hostile.RST, hostile.GOAWAY)[0] == hostile.HEADERS
    client.raw.close()


def test_a_half_head_ends_with_the_header_timeout(sidecar, origin):
    port = free_port()
    one = sidecar({"orders": origin.url}, listeners=[
        {"name": "main", "address": f"127.0.0.1:{port}", "header_timeout": "500ms"}])
    one.port = port
    with one.connect(timeout=5) as connection:
        connection.send("GET / HTTP/1.1\r\nHo")
        try:
            assert connection.read().status == 408
        except Incomplete as ended:
            assert not ended.got
    assert one.call("orders", "GET", "/").status == 200


def test_an_app_that_leaves_in_the_middle_harms_nobody(one, origin, workers_live):
    for cut in range(1, 60, 3):
        connection = one.connect()
        connection.send((HEAD + "\r\n").encode()[:cut])
        connection.reset() if cut % 2 else connection.close()
    for cut in (0, 1, 500, 999):
        connection = one.connect()
        connection.send("POST /sha HTTP/1.1\r\nHost: orders\r\nContent-Length: 1000\r\n\r\n" + "x" * cut)
        connection.reset()
    assert one.breaker("orders") == "closed", "the app's own leaving counted against the upstream"


def test_random_bytes_never_kill_a_worker(one, origin, workers_live):
    seed = int(os.environ.get("TEST_SEED", "20260101"))
    chance = random.Random(seed)
    valid = (HEAD + "Content-Length: 5\r\nConnection: close\r\n\r\nhello").encode()
    for _ in range(300):
        data = bytearray(valid)
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(data))
            choice = chance.randrange(3)
            if choice == 0:
                data[at] = chance.randrange(256)
            elif choice == 1:
                del data[at:at + chance.randint(1, 9)]
            else:
                data[at:at] = bytes(chance.randrange(256) for _ in range(chance.randint(1, 9)))
            data = data or bytearray(b"x")
        with one.connect(timeout=0.3) as connection:
            connection.send(bytes(data))
            try:
                connection.socket.recv(65536)
            except OSError:
                pass


def test_every_split_of_a_request_means_the_same(one, workers_live):
    request = (b"POST /echo HTTP/1.1\r\nHost: orders\r\nTransfer-Encoding: chunked\r\nX-Mark: 1\r\n\r\n"
               b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-T: 1\r\n\r\n")
    with one.connect() as connection:
        for cut in range(1, len(request)):
            connection.send(request[:cut])
            connection.send(request[cut:])
            answer = connection.read()
            assert answer.status == 200 and b'"body":"abcde"' in answer.body, (cut, answer)


def test_a_request_body_beyond_its_limit_is_413(sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults={"limits": {"max_request_body": 1000}})
    assert one.call("orders", "POST", "/sha", body=pattern(1000)).status == 200
    assert one.call("orders", "POST", "/sha", body=pattern(1001)).status == 413
    assert one.call("orders", "POST", "/sha", chunks=[pattern(600), pattern(600)]).status == 413


def test_a_connection_beyond_the_limit_is_told_so_and_there_is_room_again_when_another_leaves(sidecar, origin):
    port = free_port()
    one = sidecar({"orders": origin.url}, listeners=[
        {"name": "main", "address": f"127.0.0.1:{port}", "max_connections": 5}])
    one.port = port
    kept = [one.connect() for _ in range(5)]
    for connection in kept:
        assert connection.call("GET", "/", host="orders").status == 200
    with Raw(port, timeout=10) as sixth:
        refused = sixth.read()
        assert refused.status == 503 and refused["retry-after"] == "1"
        assert b"max_connections" in refused.body
    for connection in kept:
        assert connection.call("GET", "/", host="orders").status == 200
    kept.pop().close()

    def served():
        try:
            with one.connect(timeout=10) as again:
                return again.call("GET", "/", host="orders").status == 200
        except (Incomplete, ConnectionError):
            return False
    until("a connection is served in the place of the one that left", 10, served)
    for connection in kept:
        connection.close()


def test_the_telemetry_port_answers_bad_input_as_well(one, workers_live):
    for data in (b"\xff" * 100 + b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n",
                 b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n"):
        with Raw(one.telemetry_port, timeout=5) as connection:
            connection.send(data)
            try:
                assert connection.read().status >= 400
            except (Incomplete, ConnectionError):
                pass
    assert one.get("/live")[0] == 200
