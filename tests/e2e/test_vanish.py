"""A caller vanishes, at every state of its call, over HTTP/1.1 and HTTP/2, towards upstreams of both: slot, probe, place in
the queue, connection, stream, buffers and descriptors come back, and the next calls are served."""
import os
import socket
import struct
import threading

import hpack
import pytest

from lib import hostile
from lib.h2_client import H2Client
from lib.hostile import END_HEADERS, OK, Gone, H2, Upstream, field, frame
from lib.wait import until

SECONDS = 10
BIG = 50_000_000
RING_STOCK = 32
HINT, BUSY = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", b"HTTP/1.1 503 Busy\r\nContent-Length: %d\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"


# ---- upstreams that stop where the path says ----

class Stops:
    """open: what the sidecar has begun and neither it nor we have ended; seen: requests by path."""

    def __init__(self, serve):
        self.lock, self.open, self.seen, self.streams = threading.Lock(), 0, {}, None
        self.server = Upstream(lambda connection: serve(self, connection))

    def begun(self, path):
        with self.lock:
            self.open += 1
            self.seen[path] = self.seen.get(path, 0) + 1

    def ended(self, count=1):
        with self.lock:
            self.open -= count


def stops_h1(stops, connection):
    while True:
        path = connection.head().split(" ")[1]
        stops.begun(path)
        try:
            if path == "/ok":
                connection.send(OK)
                continue
            if path == "/busy":
                connection.send(BUSY % 0)
                continue
            connection.send({"/hint": HINT, "/body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf of it",
                             "/busy-long": BUSY % 1000 + b"half of it", "/switch": SWITCH,
                             "/big": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG + bytes(BIG)}.get(path, b""))
            connection.wait_end()
            raise Gone
        finally:
            stops.ended()


def stops_h2(stops, connection):
    session, decoder, streams = H2(connection, hostile.settings(streams=stops.streams or 100)), hpack.Decoder(), set()
    try:
        while True:
            kind, _, stream, payload = session.frame()
            if kind == hostile.RST and stream in streams:
                streams.remove(stream)
                stops.ended()
            if kind != hostile.HEADERS:
                continue
            path = dict(decoder.decode(payload))[":path"]
            stops.begun(path)
            head = frame(hostile.HEADERS, END_HEADERS, stream, hostile.STATUS_200)
            busy = field(b":status", b"503")
            if path in ("/ok", "/busy"):
                if path == "/ok":
                    session.ok(stream)
                else:
                    connection.send(frame(hostile.HEADERS, 5, stream, busy))
                stops.ended()
                continue
            streams.add(stream)
            connection.send({"/hint": frame(hostile.HEADERS, END_HEADERS, stream, field(b":status", b"103")),
                             "/body": head + frame(hostile.DATA, 0, stream, b"half of it"),
                             "/busy-long": frame(hostile.HEADERS, END_HEADERS, stream, busy) +
                             frame(hostile.DATA, 0, stream, b"half of it"),
                             "/big": head + frame(hostile.DATA, 0, stream, bytes(15000)) * 4}.get(path, b""))
    finally:
        stops.ended(len(streams))


# ---- callers ----

class H1Caller:
    ways = ["reset", "fin"]

    def __init__(self, one, upstream):
        self.raw, self.upstream = one.connect(), upstream
        self.raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def head(self, path, length=None, more="", method=None):
        method = method or ("GET" if length is None else "POST")
        length = "" if length is None else f"Content-Length: {length}\r\n"
        self.raw.send(f"{method} {path} HTTP/1.1\r\nHost: {self.upstream}\r\n{length}{more}\r\n")

    def body(self, data):
        self.raw.send(data)

    def expects(self, path):
        self.head(path, 100, "Expect: 100-continue\r\n")

    def half_head(self):
        self.raw.send(f"GET /ok HTTP/1.1\r\nHost: {self.upstream}\r\nX: ")

    def vanish(self, way):
        self.raw.reset() if way == "reset" else self.raw.close()


class H2Caller:
    """A connection with one stream; vanish("stream") leaves the connection open."""
    ways = ["stream", "reset", "fin"]

    def __init__(self, one, upstream):
        # a window so small that an answer of some size is held back by it
        self.client, self.upstream, self.stream = H2Client(one, hostile.settings(window=100)), upstream.encode(), 1
        self.decoder = hpack.Decoder()

    def head(self, path, length=None, more="", method=None):
        fields = [] if length is None else [(b"content-length", b"%d" % length)]
        fields += [(b"expect", b"100-continue")] if more else []
        block = H2Client.block(b"GET" if length is None else b"POST", path.encode(), self.upstream, *fields)
        self.stream, data = self.client.request(end=length is None, block=block)
        self.client.send(data)

    def body(self, data):
        self.client.send(frame(hostile.DATA, 0, self.stream, data))

    def expects(self, path):
        self.head(path, 100, "expect")

    def half_head(self):
        self.client.send(frame(hostile.HEADERS, 0, 1, H2Client.block(b"GET", b"/ok", self.upstream)))

    def vanish(self, way):
        if way == "stream":
            self.client.send(frame(hostile.RST, 0, self.stream, struct.pack("!I", hostile.CANCEL)))
        elif way == "reset":
            self.client.raw.reset()
        else:
            self.client.raw.close()

    def status(self):
        """Of the next final answer to the last request."""
        while True:
            _, _, stream, block = self.client.until(hostile.HEADERS)
            status = int(dict(self.decoder.decode(block)).get(":status", 0))
            if stream == self.stream and status >= 200:
                return status

    def close(self):
        self.client.raw.close()


# ---- the world ----

class World:
    def __init__(self, sidecar, h2_streams=None, **defaults):
        self.h1, self.h2 = Stops(stops_h1), Stops(stops_h2)
        self.h2.streams = h2_streams
        self.deaf = socket.socket()  # its queue is full: a SYN stays without an answer
        self.deaf.bind(("127.0.0.1", 0))
        self.deaf.listen(0)
        self.crowd = []
        for _ in range(3):
            self.crowd.append(socket.socket())
            self.crowd[-1].setblocking(False)
            self.crowd[-1].connect_ex(self.deaf.getsockname())
        self.silent = socket.create_server(("127.0.0.1", 0), backlog=128)  # takes a ClientHello and says nothing
        self.one = sidecar({
            "h1": self.h1.server.url,
            "h2": {"url": self.h2.server.url, "pool": {"http2": "prior_knowledge"}},
            "deaf": f"http://127.0.0.1:{self.deaf.getsockname()[1]}",
            "tls": f"https://127.0.0.1:{self.silent.getsockname()[1]}"}, defaults={
                "circuit_breaker": {"enabled": False}, "retry": {"min_wait_seconds": 30, "max_wait_seconds": 30},
                **defaults})
        # what lies ready in the rings of io_uring counts as used
        self.stock = RING_STOCK if 'engine="io_uring"' in self.one.metrics().text else 0

    def stops(self, upstream):
        return self.h2 if upstream == "h2" else self.h1

    def gauge(self, name, **labels):
        return int(self.one.metrics().sum(name, **labels))

    def descriptors(self):
        """Of the worker, without those of connections to upstreams that its counters know."""
        return len(os.listdir(f"/proc/{self.one.workers[0]}/fd")) - self.gauge("rhc_upstream_connections")

    def serves(self, upstream):
        if upstream in ("h1", "h2"):
            assert self.one.call(upstream, "GET", "/ok", timeout=SECONDS).status == 200

    def nothing_is_left(self, upstream):
        one = self.one
        for name in ("rhc_requests_in_flight", "rhc_attempts_in_flight", "rhc_upstream_connections_connecting",
                     "rhc_bulkhead_waiting"):
            until(f"{name} is 0", SECONDS, lambda name=name: self.gauge(name) == 0)
        until("no slot is held", SECONDS, lambda: one.in_use(upstream) == 0)
        until("the upstream has nothing to do", SECONDS, lambda: self.stops(upstream).open == 0)
        until("every connection to the upstream is idle", SECONDS, lambda: self.gauge("rhc_upstream_connections") ==
              self.gauge("rhc_upstream_connections_idle"))
        assert one.ctl("audit").code == 0

    def all_is_back(self):
        until("no call is in memory", SECONDS, lambda: self.gauge("rhc_calls_in_memory") == 0)
        until("no buffer is in use", SECONDS, lambda: self.gauge("rhc_buffers_in_use") <= self.stock)

    def stop(self):
        for one in (self.h1, self.h2):
            one.server.stop()
            assert not one.server.errors, one.server.errors
        for one in [self.deaf, self.silent, *self.crowd]:
            one.close()


@pytest.fixture
def world(sidecar):
    made = []

    def make(**options):
        made.append(World(sidecar, **options))
        for upstream in ("h1", "h2"):
            made[-1].serves(upstream)
        return made[-1]
    yield make
    for one in made:
        one.stop()


def seen(path):
    """The callers have come so far when the upstream has got their requests for a path."""
    return lambda w, upstream, before, count: w.stops(upstream).seen.get(path, 0) - before.get(path, 0) == count


def connecting(w, upstream, before, count):
    # over TLS it may be HTTP/2, so one handshake is for all of them
    return w.one.in_use(upstream) == count and \
        w.gauge("rhc_upstream_connections_connecting", upstream=upstream) == (1 if upstream == "tls" else count)


def in_backoff(path):
    def check(w, upstream, before, count):
        return seen(path)(w, upstream, before, count) and w.one.in_use(upstream) == 0 and \
            w.gauge("rhc_requests_in_flight", upstream=upstream) == count
    return check


def at_once(*unused):
    return True


STATES = {  # what a caller does; when it has come there; towards whom
    "connected": (lambda c: None, at_once, ["h1"]),
    "within the head": (lambda c: c.half_head(), at_once, ["h1"]),
    "before the body": (lambda c: c.head("/head", 100), seen("/head"), ["h1", "h2"]),
    "within the body": (lambda c: (c.head("/head", 100), c.body(b"x" * 50)), seen("/head"), ["h1", "h2"]),
    "waiting for 100": (lambda c: c.expects("/head"), seen("/head"), ["h1", "h2"]),
    "connecting": (lambda c: c.head("/"), connecting, ["deaf"]),
    "connecting with a body": (lambda c: (c.head("/", 100), c.body(b"x" * 50)), connecting, ["deaf"]),
    "within the TLS handshake": (lambda c: c.head("/"), connecting, ["tls"]),
    "waiting for the head": (lambda c: c.head("/head"), seen("/head"), ["h1", "h2"]),
    "behind an interim answer": (lambda c: c.head("/hint"), seen("/hint"), ["h1", "h2"]),
    "within the answer": (lambda c: c.head("/body"), seen("/body"), ["h1", "h2"]),
    "within the answer and the body": (lambda c: (c.head("/body", 100), c.body(b"x" * 50)), seen("/body"), ["h1", "h2"]),
    "held back by itself": (lambda c: c.head("/big"), seen("/big"), ["h1", "h2"]),
    "between two attempts": (lambda c: c.head("/busy"), in_backoff("/busy"), ["h1", "h2"]),
    "between two attempts, the first answer unfinished": (lambda c: c.head("/busy-long"), in_backoff("/busy-long"),
                                                          ["h1", "h2"]),
    "between two attempts, with a body": (lambda c: (c.head("/busy", 100), c.body(b"x" * 100)), in_backoff("/busy"),
                                          ["h1", "h2"]),
}


WAYS = [(kind, way) for kind in (H1Caller, H2Caller) for way in kind.ways] * 2


def come(w, upstream, ways, act, what, arrived):
    """Callers in that state, with the ways in which they are to vanish."""
    before = dict(w.stops(upstream).seen)
    callers = [(kind(w.one, upstream), way) for kind, way in ways]
    for caller, _ in callers:
        act(caller)
    until(f"all are {what}", SECONDS, lambda: arrived(w, upstream, before, len(callers)))
    return callers


def vanish(callers):
    for caller, way in callers:
        caller.vanish(way)


def go_on(callers, upstream):
    """A reset stream is no end of its connection."""
    for caller, way in callers:
        if way == "stream":
            caller.head("/ok")
            assert caller.status() == 200
            caller.close()


@pytest.mark.parametrize("state", STATES)
def test_a_caller_that_vanishes_leaves_nothing_behind_whatever_is_spoken(state, world):
    act, arrived, upstreams = STATES[state]
    w = world(retry={"min_wait_seconds": 30, "max_wait_seconds": 30, "methods": ["GET", "POST"]}, timeout={"connect": 1.5})
    rest = w.descriptors()
    for upstream in upstreams:
        ways = [(kind, way) for kind, way in WAYS if way != "stream" or state not in ("connected", "within the head")]
        callers = come(w, upstream, ways, act, state, arrived)
        vanish(callers)
        w.nothing_is_left(upstream)
        if upstream in ("h1", "h2"):
            go_on(callers, upstream)
        w.serves(upstream)
        for caller, way in callers:
            if way == "stream":
                caller.close()
        until(f"descriptors are {rest}", SECONDS, lambda: w.descriptors() <= rest)
    w.all_is_back()


@pytest.mark.parametrize("upstream", ["h1", "h2"])
def test_a_caller_that_vanishes_while_it_waits_for_a_slot_leaves_its_place_and_not_the_others(upstream, world):
    w = world(bulkhead={"max_concurrency": 2})
    holders = come(w, upstream, [(H1Caller, "reset")] * 2, lambda c: c.head("/head"), "served", seen("/head"))
    waiters = come(w, upstream, WAYS, lambda c: c.head("/head"), "waiting for a slot",
                   lambda w, upstream, before, count: w.one.shown("bulkhead", upstream)["waiting"] == count)
    last = w.one.connect()  # behind all who vanish
    last.request("GET", "/ok", host=upstream)
    until("it waits too", SECONDS, lambda: w.one.shown("bulkhead", upstream)["waiting"] == len(waiters) + 1)
    vanish(waiters)
    until("the places are free", SECONDS, lambda: w.one.shown("bulkhead", upstream)["waiting"] == 1)
    assert w.one.in_use(upstream) == 2 and w.stops(upstream).open == 2 and w.one.ctl("audit").code == 0
    vanish(holders)
    assert last.read().status == 200
    w.nothing_is_left(upstream)
    go_on(waiters, upstream)
    w.all_is_back()


@pytest.mark.parametrize("upstream", ["h1", "h2"])
def test_a_caller_that_vanishes_while_it_waits_for_a_connection_leaves_its_place_and_not_the_others(upstream, world):
    w = world(h2_streams=1, pool={"max_connections": 1}, timeout={"pool": 30})
    holder = come(w, upstream, [(H1Caller, "reset")], lambda c: c.head("/head"), "served", seen("/head"))
    waiters = come(w, upstream, WAYS, lambda c: c.head("/head"), "waiting for a connection",
                   lambda w, upstream, before, count: w.one.in_use(upstream) == count + 1)
    last = w.one.connect()
    last.request("GET", "/ok", host=upstream)
    until("it waits too", SECONDS, lambda: w.one.in_use(upstream) == len(waiters) + 2)
    vanish(waiters)
    until("the places are free", SECONDS, lambda: w.one.in_use(upstream) == 2)
    assert w.stops(upstream).seen["/head"] == 1 and w.one.ctl("audit").code == 0
    vanish(holder)
    assert last.read().status == 200
    w.nothing_is_left(upstream)
    go_on(waiters, upstream)
    w.all_is_back()


def test_a_caller_that_vanishes_from_its_tunnel_ends_it_at_the_other_side(world):
    w = world()
    ways = [(H1Caller, way) for way in H1Caller.ways] * 3
    switch = come(w, "h1", ways, lambda c: c.head("/switch", more="Connection: Upgrade\r\nUpgrade: x\r\n"),
                  "in a tunnel", seen("/switch"))
    for caller, _ in switch:
        assert b"101" in caller.raw.socket.recv(1000)
        caller.body(b"words" * 10)
    vanish(switch)
    w.nothing_is_left("h1")
    w.all_is_back()


@pytest.mark.parametrize("state", ["within the body", "connecting", "behind an interim answer"])
def test_a_probe_whose_caller_vanishes_is_given_back_without_a_verdict(state, world):
    act, arrived, upstreams = STATES[state]
    w = world(circuit_breaker={"enabled": True, "failure_threshold": 1, "recovery_timeout": "100ms"},
              retry={"max_attempts": 1}, timeout={"connect": 0.6})
    for upstream in upstreams:
        for kind, way in [(H1Caller, "reset"), (H2Caller, "stream")]:
            w.one.ctl("breaker", "open", upstream)
            until("a probe would be let through", SECONDS, lambda: w.one.shown("breaker", upstream)["next_probe_seconds"] == 0)
            callers = come(w, upstream, [(kind, way)], act, state, arrived)
            assert w.one.shown("breaker", upstream)["probes"] == 1
            vanish(callers)
            until("the probe is back", SECONDS, lambda: w.one.shown("breaker", upstream)["probes"] == 0)
            assert w.one.breaker(upstream) == "half_open", "neither a success nor a failure"
            if upstream == "deaf":
                until("the connect is over", SECONDS, lambda: not w.gauge("rhc_upstream_connections_connecting"))
                continue
            w.serves(upstream)
            assert w.one.breaker(upstream) == "closed"
            go_on(callers, upstream)
        w.nothing_is_left(upstream)
