"""What is measured."""
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    kind: str = "requests"  # requests, churn, rate, down, up, idle, refuse, scale, workers
    down: str = "h1"
    up: str = "h1"
    size: int = 0           # bytes of the body, of the answer or (up) of the request
    connections: int = 64
    hosts: int = 1
    workers: int = 1
    group: str = ""         # what --scenario may say besides the name
    quick: bool = True
    full_only: bool = False

    @property
    def unit(self):
        return "ms/GB" if self.kind in ("down", "up") else "us/request"

    @property
    def path(self):
        return "/0" if self.kind == "up" else f"/{self.size}"


def _scale():
    base = Scenario("", "", kind="scale", size=1024, group="scale", quick=False)
    for n in (1, 8, 64, 512):
        yield replace(base, name=f"scale-c{n}", title=f"h1→h1 1 KiB, {n} connections", connections=n)
    for n in (1, 16, 256):
        yield replace(base, name=f"scale-u{n}", title=f"h1→h1 1 KiB, {n} upstreams", hosts=n, kind="upstreams")
    for n in (1, 2, 4):
        yield replace(base, name=f"scale-w{n}", title=f"h1→h1 1 KiB, {n} workers", workers=n, kind="workers")


MIB = 1 << 20
ALL = [
    Scenario("h1-0", "h1→h1, 0 B"),
    Scenario("h1-1k", "h1→h1, 1 KiB", size=1024),
    Scenario("h1-tls", "h1→h1 TLS, 1 KiB", up="h1tls", size=1024),
    Scenario("h1-h2tls", "h1→h2 TLS, 1 KiB", up="h2tls", size=1024),
    Scenario("h2c-h1", "h2c→h1, 1 KiB, 8×8", down="h2c", size=1024),
    Scenario("h2c-h2tls", "h2c→h2 TLS, 1 KiB, 8×8", down="h2c", up="h2tls", size=1024),
    Scenario("down-1m", "1 MiB responses", kind="down", size=MIB, connections=8),
    Scenario("down-64m", "64 MiB responses", kind="down", size=64 * MIB, connections=2, quick=False),
    Scenario("up-1m", "1 MiB uploads", kind="up", size=MIB, connections=8),
    Scenario("up-64m", "64 MiB uploads", kind="up", size=64 * MIB, connections=2, quick=False),
    Scenario("churn", "one request per connection", kind="churn", connections=16),
    Scenario("refuse", "refused by an open circuit", kind="refuse", size=1024),
    Scenario("latency", "fixed rate, 1 KiB", kind="rate", size=1024),
    Scenario("idle", "idle connections", kind="idle"),
    *_scale(),
]
