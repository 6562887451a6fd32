#!/usr/bin/python3
"""Writes the hand-made seeds of the corpora: tests/fuzz/corpus/<target>/seed-*.  Run it after a change; they are committed."""
import pathlib
import struct

FOLDER = pathlib.Path(__file__).parent / "corpus"


def write(target, seeds):
    folder = FOLDER / target
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in seeds.items():
        (folder / f"seed-{name}").write_bytes(data if isinstance(data, bytes) else data.replace("\n", "\r\n").encode("latin-1"))


write("h1_request", {
    "get": "GET / HTTP/1.1\nHost: a\n\n",
    "get-1.0": "GET /x?y HTTP/1.0\nConnection: keep-alive\n\n",
    "post-length": "POST /orders HTTP/1.1\nHost: orders:80\nContent-Length: 5\nIdempotency-Key: k\n\nhello",
    "post-chunked": "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nTE: trailers\nTrailer: x\n\n0\n\n",
    "absolute": "GET http://a.b:80/c?d HTTP/1.1\nHost: a.b:80\n\n",
    "connect": "CONNECT [::1]:443 HTTP/1.1\nHost: [::1]:443\n\n",
    "options": "OPTIONS * HTTP/1.1\nHost: a\nConnection: close, x-hop\nX-Hop: 1\n\n",
    "upgrade": "GET / HTTP/1.1\nHost: a\nUpgrade: websocket\nConnection: upgrade\nExpect: 100-continue\n\n",
    "two-lengths": "POST / HTTP/1.1\nHost: a\nContent-Length: 1\nContent-Length: 1\n\n",
    "both": "POST / HTTP/1.1\nHost: a\nContent-Length: 1\nTransfer-Encoding: chunked\n\n",
    "comma": "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked,\n\n",
    "fold": "GET / HTTP/1.1\nHost: a\nX: 1\n 2\n\n",
    "empty-line": "\nPUT /%20 HTTP/1.1\nhost:a\nx-rhc-timeout:1s \n\n",
    "many": "GET / HTTP/1.1\nHost: a\n" + "".join(f"X-{i}: {i}\n" for i in range(40)) + "\n",
})
write("h1_response", {
    "ok": "HTTP/1.1 200 OK\nContent-Length: 2\nServer: x\n\nhi",
    "chunked": "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nhi\n0\n\n",
    "close": "HTTP/1.0 200 OK\n\nhi",
    "no-reason": "HTTP/1.1 503 \nRetry-After: 1\nConnection: close\n\n",
    "no-space": "HTTP/1.1 404\nContent-Length: 0\n\n",
    "continue": "HTTP/1.1 100 Continue\n\nHTTP/1.1 204 No Content\n\n",
    "switch": "HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade\n\n",
    "not-modified": "HTTP/1.1 304 Not Modified\nContent-Length: 7\nETag: x\n\n",
    "bad": "HTTP/1.1 20 OK\n\n",
    "comma": "HTTP/1.1 200 OK\nTransfer-Encoding: chunked,\n\n",
    "switch-framed": "HTTP/1.1 101 S\nTransfer-Encoding: chunked\n\n",
})
write("h1_body", {
    "one": "5\nhello\n0\n\n",
    "two": "5;a=b;c=\"d\"\nhello\n0A\n0123456789\n0\nX-Sum: 1\nDigest: x\n\nGET",
    "forbidden": "0\nContent-Length: 1\n\n",
    "long": "0000000000000001\na\n000\n\n",
    "signed": "+1\na\n0\n\n",
    "trailers": "A: b\nC: d\n\n",
    "plain": "hello, this is a body with a length",
})


def frame(kind, flags, stream, payload=b"", times=1):
    """Op 0 of h2_target.h."""
    return bytes([(times - 1) << 3, kind, flags, stream, len(payload)]) + payload


def head(stream, lines=(), end=True, good=True, whole=True):
    """Op 1: HEADERS; lines are (index of the name, value)."""
    data = bytes([1 | (8 if end else 0) | (0 if whole else 0x10), stream, (0x80 if good else 0) | len(lines)])
    return data + b"".join(bytes([name, len(value)]) + value for name, value in lines)


def data(stream, n, end=False):
    return bytes([3 | (8 if end else 0), stream, n >> 8, n & 255])


def call(which, stream=0, n=0):
    return bytes([4 | which << 3, stream, n])


PUMP = b"\x05"
WINDOW = lambda stream, n: bytes([6, stream, n >> 8, n & 255])  # noqa: E731
RESET = lambda stream, code: bytes([7 | code << 3, stream])  # noqa: E731
ANSWERS, RESETS, KEEPS, NO_MEMORY, REFUSES, ECHO = 1, 2, 4, 16, 32, 64

write("h2_server", {
    "get": bytes([ANSWERS]) + head(1) + PUMP + head(3) + PUMP,
    "post": bytes([0]) + head(1, [(0, b"POST"), (6, b"9")], end=False, good=False) + head(3, [(6, b"9")], end=False)
    + data(3, 9, True) + call(0, 0) + call(1, 0, 50) + call(2) + PUMP,
    "trailers": bytes([ECHO | ANSWERS]) + head(1, end=False) + data(1, 100) + head(1, [(12, b"v"), (8, b"a=b")], good=False) + PUMP,
    "cookies": bytes([ANSWERS]) + head(1, [(8, b"a=b"), (8, b"c=d"), (13, b"secret")]) + PUMP,
    "bad-length": bytes([0]) + head(1, [(6, b"3")], end=False) + data(1, 9, True) + PUMP,
    "connection": bytes([0]) + head(1, [(9, b"close")]) + head(3, [(10, b"chunked")]) + PUMP,
    "rapid-reset": bytes([ANSWERS]) + b"".join(head(i, end=False) + RESET(i, 8) for i in range(1, 41, 2)) + PUMP,
    "made-you-reset": bytes([0]) + b"".join(head(i) + WINDOW(i, 0) for i in range(1, 41, 2)) + PUMP,
    "continuation": bytes([0]) + head(1, [(12, b"x" * 90)] * 5, whole=False) + frame(9, 0, 1, b"\0\1a\1b", 30) + frame(9, 4, 1) + PUMP,
    "pings": bytes([0]) + frame(6, 0, 0, b"12345678", 30) + PUMP + frame(6, 0, 0, b"12345678", 30) + PUMP,
    "settings": bytes([0]) + frame(4, 0, 0, bytes([0, 4, 0, 0, 0, 0]), 9) + head(1) + call(0) + call(1, 0, 99) + PUMP
    + WINDOW(1, 9) + PUMP + frame(4, 1, 0),
    "hpack-bomb": bytes([0]) + head(1, [(12, b"y" * 90)]) + frame(1, 5, 3, b"\x82\x84\x86\x40\1a\x40" + b"a" * 64 + b"\xbe" * 150) + PUMP,
    "goaway": bytes([ANSWERS]) + head(1) + frame(7, 0, 0, bytes(8)) + call(7) + PUMP + call(8) + PUMP,
    "no-memory": bytes([NO_MEMORY | REFUSES]) + head(1, [(12, b"z" * 90)] * 4) + head(3, [(12, b"z" * 90)] * 4) + head(5) + PUMP,
    "raw": bytes([0]) + b"\x02\x11PRI * HTTP/2.0\r\n\r\n" + PUMP,
    "keeps": bytes([KEEPS]) + head(1, end=False) + data(1, 16000) * 5 + call(5) + data(1, 100, True) + PUMP,
})
write("h2_client", {
    "get": bytes([0]) + call(0, 0, 4) + PUMP + head(1, end=False) + data(1, 50, True) + PUMP,
    "post": bytes([0]) + call(0, 0, 1) + PUMP + call(1, 0, 90) + PUMP + head(1, [(6, b"5")], end=False) + data(1, 5, True)
    + call(2) + PUMP,
    "interim": bytes([0]) + call(0, 0, 4) + PUMP + head(1, [(4, b"103")], end=False, good=False) * 3 + head(1) + PUMP,
    "head": bytes([0]) + call(0, 0, 6) + PUMP + head(1, [(6, b"500")]) + PUMP,
    "connect": bytes([0]) + call(0, 0, 3) + PUMP + head(1, end=False) + data(1, 10) + call(1, 0, 9) + PUMP,
    "refused": bytes([0]) + call(0, 0, 4) * 3 + PUMP + RESET(1, 7) + RESET(3, 13) + frame(7, 0, 0, bytes([0, 0, 0, 3, 0, 0, 0, 0])) + PUMP,
    "push": bytes([0]) + call(0, 0, 4) + PUMP + frame(5, 4, 1, b"\0\0\0\2\x82\x84\x86\x41\1a") + PUMP,
    "zero-window": bytes([0]) + frame(4, 0, 0, bytes([0, 4, 0, 0, 0, 0])) + call(0, 0, 1) + call(1, 0, 200) + PUMP + WINDOW(1, 100) + PUMP,
    "trailers": bytes([0]) + call(0, 0, 4) + PUMP + head(1, end=False) + data(1, 3) + head(1, [(12, b"t")], good=False) + PUMP,
    "streams": bytes([0]) + frame(4, 0, 0, bytes([0, 3, 0, 0, 0, 1])) + call(0, 0, 4) * 4 + PUMP,
    "no-settings": bytes([2]) + call(0, 0, 4) + PUMP + call(6, 0, 7) + PUMP + frame(6, 1, 0, bytes(8)),
})
write("uri", {name: text for name, text in {
    "host": "orders", "port": "orders.prod:8080", "v6": "[::1]:4640", "v6-zone": "[fe80::1%25lo]:1", "v4": "127.0.0.1:4640",
    "unix": "unix:/run/rhc.sock", "abstract": "unix:@rhc", "userinfo": "a@b:80", "list": " a , chunked,, b\t", "empty-port": "a:",
    "zero-port": "a:0", "big-port": "a:65536", "seconds": "120", "date": "Sun, 06 Nov 1994 08:49:37 GMT",
    "date-850": "Sunday, 06-Nov-94 08:49:37 GMT", "date-c": "Sun Nov  6 08:49:37 1994", "absolute": "http://a/b?c", "star": "*",
    "encoded": "a%2fb", "old": "0177.0.0.1:80",
}.items()})
GOLDEN = FOLDER.parents[1] / "sidecar/config/golden"
write("config", {path.stem: path.read_bytes() for path in sorted(GOLDEN.glob("*.yaml")) if path.stat().st_size < 4096})
EXAMPLES = FOLDER.parents[2] / "deploy/examples"
write("config", {path.stem: path.read_bytes() for path in sorted(EXAMPLES.glob("*.yaml"))})


def edit(region, at, payload):
    return bytes([region << 6 | at >> 16, at >> 8 & 255, at & 255, len(payload) - 1]) + payload


write("segment", {
    "sound": b"\0", "sound-json": b"\5", "sound-wide": b"\x09", "cut": b"\3\xc0\x10\0",
    "counts": b"\1" + edit(0, 0x70, b"\xff" * 24), "offsets": b"\1" + edit(0, 0x98, b"\xff" * 32), "magic": b"\0" + edit(0, 0, b"X"),
    "major": b"\1" + edit(0, 8, b"\7"), "minor": b"\1" + edit(0, 10, b"\7"), "layout": b"\1" + edit(0, 16, b"12345678"),
    "upstream": b"\4" + edit(1, 0, b"\xff" * 32) + edit(1, 64, b"\xff" * 32) + edit(1, 256, b"\xff" * 32),
    "descriptions": b"\0" + edit(2, 0, b"\xff" * 32) + edit(2, 96, b"\xff" * 32),
    "anywhere": b"\4" + edit(3, 0x8000, b"\xff" * 32) + edit(3, 0x18000, b"\xff" * 32), "text": b"\5" + edit(0, 0x140, b"A" * 32) * 4,
})


def down(text):
    """Ops of fuzz_exchange.c."""
    raw = text.replace("\n", "\r\n").encode("latin-1")
    return b"".join(b"\0" + bytes([len(raw[i:i + 200])]) + raw[i:i + 200] for i in range(0, len(raw), 200))


def up(text):
    raw = text if isinstance(text, bytes) else text.replace("\n", "\r\n").encode("latin-1")
    return b"".join(b"\1" + bytes([len(raw[i:i + 200])]) + raw[i:i + 200] for i in range(0, len(raw), 200))


TURNS, HEAR, AGAIN = b"\xff", b"\x09", b"\x08"
FIN_DOWN, FIN_UP, RST_DOWN, RST_UP = b"\4", b"\5", b"\6", b"\7"
GET, OK = "GET / HTTP/1.1\nHost: a\n\n", "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
H2_OK = b"\0\0\1\1\5\0\0\0\1\x88"
write("exchange", {
    "get": down(GET) + TURNS + up(OK) + TURNS + HEAR,
    "two": down(GET) + TURNS + up(OK) + TURNS + down(GET) + TURNS + up(OK) + TURNS + HEAR,
    "pipeline": down(GET * 3) + TURNS + up(OK) + TURNS + up(OK) + TURNS + up(OK) + TURNS,
    "post": down("POST / HTTP/1.1\nHost: a\nContent-Length: 5\n\nhello") + TURNS + up(OK) + TURNS + HEAR,
    "chunked": down("PUT / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n5\nhello\n0\nX: y\n\n") + TURNS
    + up("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nhi\n0\nT: u\n\n") + TURNS,
    "stale": down(GET) + TURNS + up(OK) + TURNS + down(GET) + RST_UP + TURNS * 3 + up(OK) + TURNS,
    "retry": down(GET) + TURNS + RST_UP + TURNS + RST_UP + TURNS + RST_UP + TURNS + HEAR,
    "status": down(GET) + TURNS + up("HTTP/1.1 503 No\nContent-Length: 0\n\n") + TURNS + up(OK) + TURNS,
    "interim": down("POST / HTTP/1.1\nHost: a\nExpect: 100-continue\nContent-Length: 2\n\n") + TURNS + up("HTTP/1.1 100 C\n\n")
    + TURNS + down("hi") + TURNS + up("HTTP/1.1 103 E\nLink: x\n\n" + OK) + TURNS,
    "early": down("POST / HTTP/1.1\nHost: a\nContent-Length: 50000\n\n") + b"\2\xff" + TURNS + up("HTTP/1.1 413 Big\nContent-Length: 0\n\n") + TURNS + b"\2\xff" + TURNS,
    "short": down(GET) + TURNS + up("HTTP/1.1 200 OK\nContent-Length: 9\n\nhi") + FIN_UP + TURNS + HEAR,
    "close": down(GET) + TURNS + up("HTTP/1.0 200 OK\n\nhi") + FIN_UP + TURNS + HEAR,
    "garbage": down(GET) + TURNS + up("garbage\n\n") + TURNS + HEAR,
    "behind": down(GET) + TURNS + up(OK + "more") + TURNS + down(GET) + TURNS + up(OK) + TURNS,
    "gone": down(GET) + TURNS + RST_DOWN + TURNS + up(OK) + TURNS,
    "half": down(GET) + FIN_DOWN + TURNS + up(OK) + TURNS + HEAR,
    "queue": down(GET) + AGAIN + b"\x10\x1a" + GET.replace("\n", "\r\n").encode() + AGAIN + b"\x20\x1a" + GET.replace("\n", "\r\n").encode() + TURNS + up(OK) + TURNS * 4,
    "upgrade": down("GET / HTTP/1.1\nHost: a\nUpgrade: x\nConnection: upgrade\n\n") + TURNS
    + up("HTTP/1.1 101 S\nUpgrade: x\nConnection: upgrade\n\n") + TURNS + up("bytes") + down("bytes") + TURNS + FIN_UP + TURNS,
    "large": down(GET) + TURNS + up("HTTP/1.1 200 OK\nContent-Length: 65280\n\n") + (b"\3\xff" + TURNS) * 4 + HEAR,
    "too-large": down(GET) + TURNS + up("HTTP/1.1 200 OK\nContent-Length: 999999\n\n") + b"\3\xff" + TURNS + HEAR,
    "bad-request": down("GET / HTTP/1.1\nHost: a\nHost: b\n\n") + TURNS + HEAR,
    "no-route": down("GET / HTTP/1.1\nHost: nobody\n\n") + TURNS + HEAR,
    "h2-up": down(GET.replace("Host: a", "Host: b")) + TURNS + up(SETTINGS) + TURNS + up(H2_OK) + TURNS + HEAR,
    "h2-refused": down(GET.replace("Host: a", "Host: b")) + TURNS + up(SETTINGS + b"\0\0\4\3\0\0\0\0\1\0\0\0\7") + TURNS
    + up(SETTINGS + b"\0\0\4\3\0\0\0\0\1\0\0\0\x0d") + TURNS,
    "h2-goaway": down(GET.replace("Host: a", "Host: b")) + TURNS + up(SETTINGS + b"\0\0\x08\7\0\0\0\0\0" + bytes(8)) + TURNS * 2,
    "h2-down": b"\0\x21PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SETTINGS + b"\0\x0f\0\0\6\1\5\0\0\0\1\x82\x84\x86\x41\1a" + TURNS + up(OK) + TURNS + HEAR,
    "connect": down("CONNECT a:80 HTTP/1.1\nHost: a:80\n\n") + TURNS + up("tunnel") + down("tunnel") + TURNS,
})
