"""Callers in a process of their own: calls without a pause, every answer judged, counted once a second on stdout."""
import json
import selectors
import socket
import sys
import time

KNOWN = ("circuit_open", "bulkhead_timeout", "bulkhead_queue_full", "connect", "reset", "response", "read_timeout", "timeout",
         "upstream", "draining")
BODY = b"slow\n"


class Caller:
    """One connection, one call at a time."""

    def __init__(self, load):
        self.load, self.socket, self.data = load, None, b""

    def begin(self):
        if self.load.pausing:
            return self.rest()
        if self.socket is None:
            self.socket = socket.socket()
            self.socket.settimeout(5)
            try:
                self.socket.connect(("127.0.0.1", self.load.port))
            except OSError:
                return self.lost("unreachable")
            self.socket.setblocking(False)
            self.load.selector.register(self.socket, selectors.EVENT_READ, self)
        self.data, self.began = b"", time.monotonic()
        try:
            self.socket.send(b"GET /delay/%d HTTP/1.1\r\nHost: orders\r\n\r\n" % self.load.delay_ms)
        except OSError:
            return self.lost("broken")
        self.load.busy.add(self)

    def rest(self):
        self.load.busy.discard(self)
        self.load.resting.append(self)

    def lost(self, how):
        self.load.count(how)
        if self.socket is not None:
            if self.socket.fileno() in self.load.selector.get_map():
                self.load.selector.unregister(self.socket)
            self.socket.close()
            self.socket = None
        self.rest()

    def readable(self):
        try:
            got = self.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            got = b""
        if not got:
            return self.lost("broken")
        self.data += got
        head, blank, body = self.data.partition(b"\r\n\r\n")
        if not blank:
            return
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if len(body) < int(fields[b"content-length"]):
            return
        self.judge(int(head.split()[1]), fields, body)
        if fields.get(b"connection") == b"close":
            return self.lost("closed")
        self.rest()

    def judge(self, status, fields, body):
        took = time.monotonic() - self.began
        self.load.longest = max(self.load.longest, took)
        if status == 200 and body == BODY:
            self.load.count("ok")
            self.load.last_ok = time.monotonic()
        elif fields.get(b"content-type") == b"application/problem+json":
            kind = json.loads(body)["type"].rsplit(":", 1)[-1]
            self.load.count(kind)
        else:
            self.load.count("WRONG")
            print(json.dumps({"wrong": [status, str(body[:200])]}), flush=True)


class Load:
    def __init__(self, port, callers, delay_ms):
        self.port, self.delay_ms, self.pausing = port, delay_ms, False
        self.selector, self.counts, self.busy, self.longest = selectors.DefaultSelector(), {}, set(), 0
        self.last_ok = self.longest_gap = 0
        self.resting = [Caller(self) for _ in range(callers)]

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    def command(self):
        word = sys.stdin.readline().strip()
        if word in ("", "end"):
            sys.exit(0)
        self.pausing = word == "pause"
        if word == "go":
            self.last_ok, self.longest_gap = time.monotonic(), 0

    def report(self):
        print(json.dumps({"counts": self.counts, "busy": len(self.busy), "longest": self.longest,
                          "longest_gap": self.longest_gap}), flush=True)

    def run(self):
        self.selector.register(sys.stdin, selectors.EVENT_READ, None)
        told = 0
        while True:
            again, self.resting = self.resting, []
            for caller in again:
                caller.begin()
            for key, _ in self.selector.select(0.005):
                if key.data is None:
                    self.command()
                else:
                    key.data.readable()
            now = time.monotonic()
            if not self.pausing and self.last_ok:
                self.longest_gap = max(self.longest_gap, now - self.last_ok)
            if now - told > 0.1:
                told = now
                self.report()


if __name__ == "__main__":
    Load(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])).run()
