"""The forward proxy: absolute targets (HTTP_PROXY), CONNECT by policy, and who the upstream is told it serves."""
import json
import os
import signal
import socket
import subprocess
import threading

import pytest

from lib import parallel
from lib.peer import Peer
from lib.raw import Raw
from lib.servers import pattern
from lib.wait import free_port, until
from test_tunnel import read, read_all

ALLOW = {"enabled": True, "allow": ["127.0.0.1", "localhost", "*.localhost"]}


def curl(*args, timeout=30, check=True):
    return subprocess.run(["curl", "-sS", "-m", str(timeout), *map(str, args)], check=check, capture_output=True,
                          timeout=timeout + 10)


def connect(one, target, fields=""):
    """(connection, head of the answer) of a CONNECT."""
    connection = Raw(one.port, timeout=10)
    connection.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{fields}\r\n")
    while b"\r\n\r\n" not in connection.buffer:
        assert connection._more(), "closed before an answer"
    if connection.buffer.startswith(b"HTTP/1.1 200 "):
        head, _, rest = bytes(connection.buffer).partition(b"\r\n\r\n")
        connection.buffer = bytearray(rest)
        return connection, head.decode("latin-1")
    return connection, connection.read("CONNECT")


def proxied(one, url):
    """The answer to a GET with an absolute target."""
    with one.connect() as connection:
        return connection.call("GET", url, host=url.split("/")[2])


def echo(connection):
    while connection.more():
        connection.send(bytes(connection.buffer))
        connection.buffer.clear()
    connection.send("bye")


@pytest.fixture
def echoer():
    with Peer(echo) as peer:
        yield peer


@pytest.fixture
def proxy(sidecar, origin):
    return sidecar({"orders": origin.url}, forward_proxy={**ALLOW, "connect": "allow"},
                   defaults={"retry": {"max_attempts": 1}})


# ---- absolute targets ----

def test_curl_as_its_http_proxy_reaches_allowed_hosts_and_configured_upstreams(proxy, origin):
    through = ["-x", proxy.url()]
    assert curl(*through, f"{origin.url}/bytes/500").stdout == pattern(500)
    assert curl(*through, "http://orders/bytes/600").stdout == pattern(600)
    assert curl(*through, f"http://api.localhost:{origin.port}/bytes/7").stdout == pattern(7)
    names = [line["upstream_cluster"] for line in until("three lines", 10, lambda: len(proxy.access_lines()) == 3 and proxy.access_lines())]
    assert names == ["orders", "orders", f"_forward:api.localhost:{origin.port}"], "the url of orders is its address"


def test_an_absolute_target_without_a_path_means_the_root_or_the_server_itself(sidecar):
    seen = []

    def note(connection):
        while head := connection.head():
            seen.append(head.split("\r\n")[0])
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    with Peer(note) as peer:
        h1 = sidecar({"orders": "http://127.0.0.1:1"}, forward_proxy=ALLOW)
        for method, path in (("GET", ""), ("GET", "?x=1"), ("OPTIONS", ""), ("OPTIONS", "?x")):
            with h1.connect() as connection:
                answer = connection.call(method, f"http://localhost:{peer.port}{path}", host=f"localhost:{peer.port}")
                assert answer.status == 200, answer
        with h1.connect() as connection:
            answer = connection.call("GET", f"http://localhost:{peer.port}?x=1", host="localhost")
            assert answer.status == 400 and connection.closed(), "the target and Host name two places"
    assert seen == ["GET / HTTP/1.1", "GET /?x=1 HTTP/1.1", "OPTIONS * HTTP/1.1", "OPTIONS /?x HTTP/1.1"]
    lines = until("they are logged", 10, lambda: len(h1.access_lines()) >= 4 and h1.access_lines())
    assert [line["path"] for line in lines[:4]] == ["/", "/", "*", "/"]


# ---- one sidecar behind another ----

def test_sidecars_of_the_same_name_can_stand_behind_each_other(sidecar, origin):
    behind = sidecar({"orders": origin.url})
    middle = sidecar({"orders": {"url": behind.url()}}, workers=2)
    front = sidecar({"orders": {"url": middle.url(), "pool": {"http2": "prior_knowledge"}}})
    for _ in range(8):
        answer = front.call("orders", "GET", "/headers", {"x-rhc-upstream": "orders"})
        assert answer.status == 200, answer


def test_a_circle_of_sidecars_ends_at_once_with_a_clear_answer(sidecar):
    there, back = free_port(), free_port()
    one = sidecar({"next": {"url": f"http://127.0.0.1:{there}", "listen": f"127.0.0.1:{back}"}}, workers=2)
    other = sidecar({"next": {"url": f"http://127.0.0.1:{back}", "listen": f"127.0.0.1:{there}"}}, workers=2)
    answer = one.call("next", "GET", "/")
    assert answer.status == 502 and answer.problem["type"] == "urn:rhc:error:loop", answer
    assert "proxy_loop_detected" in answer.all("proxy-status")[0]
    assert answer["x-rhc-attempts"] == "1"
    # went round once: who was asked first knows its own token again
    until("each has logged its calls", 10, lambda: (len(one.access_lines()), len(other.access_lines())) == (2, 1))


def test_a_host_that_is_not_allowed_is_denied(proxy):
    answer = proxied(proxy, "http://example.org/")
    assert answer.status == 403 and answer.problem["type"] == "urn:rhc:error:denied"
    assert "forward_proxy.allow" in answer.problem["detail"]


def test_https_targets_are_denied_rather_than_sent_in_the_clear(proxy, origin):
    answer = proxied(proxy, f"https://localhost:{free_port()}/")
    assert answer.status == 403 and "https" in answer.problem["detail"]


def test_a_forwarded_call_carries_the_authority_with_its_port(proxy, origin):
    seen = json.loads(curl("-x", proxy.url(), f"http://a.localhost:{origin.port}/echo").stdout)
    hosts = [value for name, value in seen["headers"] if name.lower() == "host"]
    assert hosts == [f"a.localhost:{origin.port}"]


def test_each_allowed_host_has_a_circuit_of_its_own(sidecar, origin):
    dead = free_port()
    one = sidecar({"orders": "http://127.0.0.1:1"}, workers=2, forward_proxy={"enabled": True, "allow": ["localhost", "other.localhost", "*.localhost"]},
                  defaults={"retry": {"max_attempts": 1}, "circuit_breaker": {"failure_threshold": 3}})
    for _ in range(3):
        answer = proxied(one, f"http://localhost:{dead}/")
        assert answer.problem["type"] == "urn:rhc:error:connect_refused"
        assert answer.problem["upstream"] == "_forward:localhost"
    until("the circuit is open", 5, lambda: one.breaker("_forward:localhost") == "open")
    for _ in range(4):  # whichever worker it is
        answer = proxied(one, f"http://localhost:{dead}/")
        assert answer.status == 503 and answer.problem["type"] == "urn:rhc:error:circuit_open"
    for host in ("other.localhost", "pattern.localhost"):
        assert proxied(one, f"http://{host}:{origin.port}/").status == 200
    assert one.breaker("_forward:other.localhost") == "closed"


def test_the_records_of_allowed_hosts_survive_a_reload(sidecar, origin):
    one = sidecar({"orders": origin.url}, forward_proxy={"enabled": True, "allow": ["localhost"]},
                  defaults={"retry": {"max_attempts": 1}})
    assert proxied(one, f"http://localhost:{origin.port}/").status == 200
    first = set(one.workers)
    one.child.kill(signal.SIGHUP)
    until("a new generation serves", 20, lambda: set(one.workers) and not set(one.workers) & first and one.get("/ready")[0] == 200)
    assert proxied(one, f"http://localhost:{origin.port}/").status == 200
    assert one.breaker("_forward:localhost") == "closed"


# ---- hosts of a pattern: a circuit and slots each, in records that workers claim ----

WILD = {"enabled": True, "allow": ["*.localhost"]}


def record(host, port):
    return f"_forward:{host}.localhost:{port}"


def wild(connection, host, port, path="/"):
    return connection.call("GET", f"http://{host}.localhost:{port}{path}", host=f"{host}.localhost:{port}")


def once(one, host, port, path="/"):
    with one.connect() as connection:
        return wild(connection, host, port, path)


def soon(one, host, port, path="/"):
    """An answer is here before its call has ended: until then the record of that host does not give way."""
    until(f"{host} has a record", 5, lambda: once(one, host, port, path).status == 200)


def hosts(one):
    """The names of the records there are for hosts, as rhcctl lists them."""
    return sorted(row["name"] for row in one.ctl("breaker").json["items"] if row["name"].startswith("_forward:"))


def at_the_gate(one, origin, hosts_, already=0):
    """Calls that are held at the origin, one per host named."""
    held = []
    for host in hosts_:
        connection = one.connect()
        connection.request("GET", f"http://{host}.localhost:{origin.port}/gate", host=f"{host}.localhost:{origin.port}")
        held.append(connection)
    origin.wait_current(len(held) + already)
    return held


def test_one_host_of_a_pattern_opens_its_own_circuit_at_the_threshold_over_all_workers(sidecar, origin):
    dead = free_port()
    one = sidecar({"orders": origin.url}, workers=3, forward_proxy=WILD,
                  defaults={"retry": {"max_attempts": 1}, "circuit_breaker": {"failure_threshold": 5, "recovery_timeout": 600}})
    workers = one.connection_per_worker("orders")
    assert wild(workers[0], "good", origin.port).status == 200
    for i in range(5):
        assert i == 0 or one.breaker(record("bad", dead)) == "closed"
        answer = wild(workers[i % 3], "bad", dead)
        assert answer.problem["type"] == "urn:rhc:error:connect_refused", (i, answer)
        assert answer.problem["upstream"] == record("bad", dead)
    assert one.breaker(record("bad", dead)) == "open", "the fifth failure, not the third of any worker"
    for connection in workers.values():
        answer = wild(connection, "bad", dead)
        assert answer.status == 503 and answer.problem["type"] == "urn:rhc:error:circuit_open"
        assert wild(connection, "good", origin.port).status == 200
    assert one.breaker(record("good", origin.port)) == "closed"
    assert one.shown("breaker", record("bad", dead))["name"] == record("bad", dead)
    one.counted(1, "rhc_circuit_breaker_transitions_total", upstream=record("bad", dead), **{"from": "closed", "to": "open"})


def test_the_slots_of_a_host_of_a_pattern_are_exact_over_all_workers(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=3, forward_proxy=WILD,
                  defaults={"retry": {"max_attempts": 1}, "bulkhead": {"max_concurrency": 4, "acquisition_timeout": 0.1}})
    workers = one.connection_per_worker("orders")
    held = at_the_gate(one, origin, ["a"] * 4)
    assert one.in_use(record("a", origin.port)) == 4
    for connection in workers.values():
        answer = wild(connection, "a", origin.port)
        assert answer.status == 503 and answer.problem["type"] == "urn:rhc:error:bulkhead_timeout"
        assert wild(connection, "b", origin.port).status == 200
    origin.release()
    for connection in held:
        assert connection.read().body == b"through the gate\n"
    until("every slot is back", 5, lambda: one.in_use(record("a", origin.port)) == 0)


def test_an_idle_host_gives_its_record_to_a_new_one_and_comes_back(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2, forward_proxy={**WILD, "max_hosts": 3}, defaults={"retry": {"max_attempts": 1}})
    for _ in range(3):
        for i in range(8):
            soon(one, f"h{i}", origin.port, "/bytes/10")
            assert record(f"h{i}", origin.port) in hosts(one)
    assert len(hosts(one)) == 3
    names = {labels["upstream"] for name, labels, _ in one.metrics().samples if name == "rhc_requests_total" and "upstream" in labels}
    assert {name for name in names if name.startswith("_forward")} == set(hosts(one))
    assert one.ctl("audit").code == 0
    text = one.ctl("events", output="table").text
    assert "host_claimed" in text and "host_evicted" in text


def test_when_no_host_may_give_way_the_next_one_is_refused_and_told_why(sidecar, origin):
    dead = free_port()
    one = sidecar({"orders": origin.url}, workers=2, forward_proxy={**WILD, "max_hosts": 3},
                  defaults={"retry": {"max_attempts": 1}, "circuit_breaker": {"failure_threshold": 5}})
    held = at_the_gate(one, origin, ["a", "b"])
    assert once(one, "failing", dead).status == 502
    for _ in range(6):  # whichever worker it is
        answer = once(one, "new", origin.port)
        assert answer.status == 503 and answer.problem["type"] == "urn:rhc:error:hosts_full"
        assert "forward_proxy.max_hosts" in answer.problem["detail"] and answer["x-rhc-error"] == "PoolTimeoutError"
        assert answer["retry-after"] == "1"
    assert once(one, "a", origin.port).status == 200, "those that are there go on"
    assert one.call("orders", "GET", "/").status == 200
    origin.release()
    for connection in held:
        assert connection.read().status == 200
    soon(one, "new", origin.port)
    assert one.shown("breaker", record("failing", dead))["state"].lower() == "closed", "the failing one stays"


def test_the_circuit_of_a_host_of_a_pattern_survives_a_restart_and_a_reload(sidecar, origin):
    dead = free_port()
    one = sidecar({"orders": origin.url}, workers=2, forward_proxy=WILD,
                  defaults={"retry": {"max_attempts": 1}, "circuit_breaker": {"failure_threshold": 2, "recovery_timeout": 600}})
    for _ in range(2):
        assert once(one, "bad", dead).status == 502
    assert one.breaker(record("bad", dead)) == "open"
    one.restart()
    for _ in range(4):
        assert once(one, "bad", dead).problem["type"] == "urn:rhc:error:circuit_open"
    first = set(one.workers)
    one.child.kill(signal.SIGHUP)
    until("a new generation serves", 20, lambda: set(one.workers) and not set(one.workers) & first and one.get("/ready")[0] == 200)
    assert once(one, "bad", dead).problem["type"] == "urn:rhc:error:circuit_open"
    assert one.breaker(record("bad", dead)) == "open"


def test_a_killed_worker_gives_back_the_slots_of_hosts_and_their_records_may_go(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2, forward_proxy={**WILD, "max_hosts": 2}, defaults={"retry": {"max_attempts": 1}})
    workers = one.connection_per_worker("orders")
    for host, worker in (("a", 0), ("b", 0)):
        connection = one.connection_per_worker("orders")[worker]
        connection.request("GET", f"http://{host}.localhost:{origin.port}/gate", host=f"{host}.localhost:{origin.port}")
        workers[host] = connection
    origin.wait_current(2)
    assert once(one, "c", origin.port).problem["type"] == "urn:rhc:error:hosts_full"
    before = one.workers
    os.kill(before[0], signal.SIGKILL)
    until("the dead worker's slots are back", 5, lambda: one.in_use(record("a", origin.port)) == 0 and one.in_use(record("b", origin.port)) == 0)
    origin.release()
    until("a new worker stands in its place", 10, lambda: len(one.workers) == 2 and one.workers != before)
    soon(one, "c", origin.port)
    assert record("c", origin.port) in hosts(one) and len(hosts(one)) == 2
    until("nothing is left behind", 5, lambda: one.ctl("audit", check=False).code == 0)


def test_rhcctl_changes_the_circuit_and_the_limit_of_a_host_of_a_pattern(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2, forward_proxy={**WILD, "max_hosts": 2},
                  defaults={"retry": {"max_attempts": 1}, "bulkhead": {"acquisition_timeout": 0.1}})
    name = record("a", origin.port)
    assert once(one, "a", origin.port).status == 200
    one.ctl("breaker", "isolate", name, "--reason", "test")
    assert once(one, "a", origin.port).problem["type"] == "urn:rhc:error:circuit_open"
    for i in range(4):
        soon(one, f"other{i}", origin.port)
    assert name in hosts(one), "a host that was isolated by hand does not give way"
    one.ctl("breaker", "close", name)
    assert once(one, "a", origin.port).status == 200
    one.ctl("bulkhead", "set", name, "--max-concurrency", "1")
    held = at_the_gate(one, origin, ["a"])
    assert once(one, "a", origin.port).problem["type"] == "urn:rhc:error:bulkhead_timeout"
    origin.release()
    assert held[0].read().status == 200
    assert one.ctl("breaker", "open", record("nobody", 1), check=False).code != 0
    one.ctl("breaker", "open", name)
    assert once(one, "a", origin.port).problem["type"] == "urn:rhc:error:circuit_open"


def test_many_hosts_at_once_each_keep_to_their_own_limit(sidecar, origin):
    """More hosts than records, from many callers: every answer is the origin's or says that the records are in use."""
    one = sidecar({"orders": origin.url}, workers=3, forward_proxy={**WILD, "max_hosts": 4},
                  defaults={"retry": {"max_attempts": 1}, "bulkhead": {"max_concurrency": 8, "acquisition_timeout": 5}})

    def load(i):
        seen = []
        with one.connect() as connection:
            for k in range(40):
                answer = wild(connection, f"h{(i * 7 + k) % 9}", origin.port, "/bytes/100")
                seen.append(answer.status if answer.status == 200 else answer.problem["type"])
        return seen
    answers = [answer for them in parallel.run(8, load, 120) for answer in them]
    assert set(answers) <= {200, "urn:rhc:error:hosts_full"} and answers.count(200) > 0
    until("no slot is left", 5, lambda: all(one.in_use(name) == 0 for name in hosts(one)))
    assert one.ctl("audit").code == 0 and len(hosts(one)) == 4


# ---- CONNECT ----

def test_connect_is_denied_by_default(sidecar, origin):
    one = sidecar({"orders": origin.url}, forward_proxy=ALLOW)
    connection, answer = connect(one, f"127.0.0.1:{origin.port}")
    assert answer.status == 403 and "forward_proxy.connect" in answer.problem["detail"]
    connection.close()


def test_connect_makes_a_tunnel_of_bytes_with_half_close(proxy, echoer):
    connection, head = connect(proxy, f"localhost:{echoer.port}")
    assert head.startswith("HTTP/1.1 200 ") and "content-length" not in head.lower()
    assert "transfer-encoding" not in head.lower() and "x-request-id" in head.lower()
    for word in (b"anything", b"\0\1\2" * 1000):
        connection.send(word)
        assert read(connection, len(word)) == word
    connection.socket.shutdown(socket.SHUT_WR)
    assert read_all(connection) == b"bye"
    line = until("it is logged", 10, lambda: proxy.access_lines())[0]
    assert (line["method"], line["response_code"], line["upstream_cluster"]) == ("CONNECT", 200, "_forward:localhost")
    assert line["bytes_received"] == 3008 and line["bytes_sent"] == 3011


def test_a_server_that_speaks_first_is_heard(proxy):
    def greet(connection):
        connection.send("220 hello\r\n")
        connection.to_the_end()
    with Peer(greet) as peer:
        for _ in range(20):
            connection, _ = connect(proxy, f"127.0.0.1:{peer.port}")
            assert read(connection, 11) == b"220 hello\r\n"
            connection.close()


def test_tls_goes_through_a_tunnel_end_to_end(proxy, nginx, ours):
    done = curl("-x", proxy.url(), "--cacert", ours.ca_file, f"{nginx.url('good')}/page")
    assert done.stdout == pattern(16384)
    from lib.metrics import Metrics  # noqa: F401 - the counters are read through it
    proxy.counted(1, "rhc_requests_total", upstream="_forward:127.0.0.1", code="2xx")


@pytest.mark.parametrize("target, status, error", [
    ("localhost", 400, "bad_request"), ("localhost:", 400, "bad_request"), ("example.org:443", 403, "denied"),
    ("localhost:0", 400, "bad_request")])
def test_a_target_that_is_not_host_and_port_or_not_allowed_is_refused(target, status, error, proxy):
    connection, answer = connect(proxy, target)
    assert answer.status == status, answer
    assert answer["content-type"] == "application/problem+json" and error in answer.body.decode()
    connection.close()


def test_errors_of_a_connect_come_from_the_table_and_open_the_circuit_of_that_host(sidecar, echoer):
    one = sidecar({"orders": "http://127.0.0.1:1"}, forward_proxy={**ALLOW, "connect": "allow"},
                  defaults={"retry": {"max_attempts": 1}, "circuit_breaker": {"failure_threshold": 2}})
    dead = free_port()
    for _ in range(2):
        connection, answer = connect(one, f"127.0.0.1:{dead}")
        assert answer.status == 502 and answer.problem["type"] == "urn:rhc:error:connect_refused"
        assert answer["x-rhc-error"] == "APIConnectionError"
        connection.close()
    connection, answer = connect(one, f"127.0.0.1:{echoer.port}")
    assert answer.status == 503 and answer.problem["type"] == "urn:rhc:error:circuit_open"
    connection.close()
    connection, head = connect(one, f"localhost:{echoer.port}")
    assert " 200 " in head
    connection.close()


def test_a_refused_connect_is_retried(sidecar, echoer):
    one = sidecar({"orders": "http://127.0.0.1:1"}, forward_proxy={**ALLOW, "connect": "allow"})
    connection, answer = connect(one, f"127.0.0.1:{free_port()}")
    assert answer.status == 502 and answer["x-rhc-attempts"] == "3"
    connection.close()


def test_a_tunnel_holds_a_slot_of_its_host(sidecar, echoer):
    one = sidecar({"orders": "http://127.0.0.1:1"}, forward_proxy={**ALLOW, "connect": "allow"},
                  defaults={"bulkhead": {"max_concurrency": 1, "acquisition_timeout": 0.2}})
    held, head = connect(one, f"localhost:{echoer.port}")
    assert " 200 " in head and one.in_use("_forward:localhost") == 1
    other, answer = connect(one, f"localhost:{echoer.port}")
    assert answer.status == 503 and answer.problem["type"] == "urn:rhc:error:bulkhead_timeout"
    other.close()
    held.close()
    until("the slot is back", 10, lambda: one.in_use("_forward:localhost") == 0)


def test_connect_to_the_address_of_an_upstream_uses_its_record(proxy, origin):
    connection, head = connect(proxy, f"127.0.0.1:{origin.port}")
    assert " 200 " in head and proxy.in_use("orders") == 1
    connection.send("GET /bytes/9 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert read_all(connection).endswith(pattern(9))
    connection.close()
    until("the slot is back", 10, lambda: proxy.in_use("orders") == 0)


def test_a_listener_that_only_routes_makes_no_tunnels(sidecar, origin):
    port = free_port()
    one = sidecar({"orders": {"url": origin.url, "listen": f"127.0.0.1:{port}"}},
                  forward_proxy={**ALLOW, "connect": "allow"})
    with Raw(port) as connection:
        connection.send(f"CONNECT 127.0.0.1:{origin.port} HTTP/1.1\r\nHost: x:1\r\n\r\n")
        assert connection.read("CONNECT").status in (400, 403)
    assert one.get("/ready")[0] == 200


# ---- who we say the caller is ----

def echoed(one, headers=(), port=None):
    with Raw(port or one.port) as connection:
        answer = connection.call("GET", "/echo", headers, host="orders")
    assert answer.status == 200, answer
    return [(name.lower(), value) for name, value in json.loads(answer.body)["headers"]]


def values(seen, name):
    return [value for field, value in seen if field == name]


def test_nothing_is_said_of_the_caller_unless_asked_for(sidecar, origin):
    one = sidecar({"orders": origin.url})
    assert not [n for n, _ in echoed(one) if n.startswith("x-forwarded") or n == "forwarded"]
    kept = echoed(one, [("X-Forwarded-For", "10.0.0.1"), ("Forwarded", "for=10.0.0.1")])
    assert values(kept, "x-forwarded-for") == ["10.0.0.1"] and values(kept, "forwarded") == ["for=10.0.0.1"]


def test_x_forwarded_names_the_real_peer_behind_those_before(sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults={"headers": {"forwarded": "x-forwarded"}})
    seen = echoed(one)
    assert values(seen, "x-forwarded-for") == ["127.0.0.1"]
    assert values(seen, "x-forwarded-proto") == ["http"] and values(seen, "x-forwarded-host") == ["orders"]
    seen = echoed(one, [("X-Forwarded-For", "10.0.0.1"), ("X-Forwarded-For", "10.0.0.2"), ("X-Forwarded-Proto", "https"),
                        ("X-Forwarded-Host", "shop.example")])
    assert values(seen, "x-forwarded-for") == ["10.0.0.1, 10.0.0.2, 127.0.0.1"]
    assert values(seen, "x-forwarded-proto") == ["https"] and values(seen, "x-forwarded-host") == ["shop.example"]


def test_rfc_7239_names_the_real_peer(sidecar, origin):
    port = free_port()
    one = sidecar({"orders": origin.url}, defaults={"headers": {"forwarded": "rfc7239"}},
                  listeners=[{"name": "main", "address": f"127.0.0.1:{port}"}, {"name": "six", "address": f"[::1]:{port}"}])
    one.port = port
    assert values(echoed(one), "forwarded") == ['for=127.0.0.1;host="orders";proto=http']
    assert values(echoed(one, {"Forwarded": "for=10.0.0.1"}), "forwarded") == \
        ['for=10.0.0.1, for=127.0.0.1;host="orders";proto=http']
    with socket.create_connection(("::1", port), timeout=10) as s:
        s.sendall(b"GET /echo HTTP/1.1\r\nHost: orders\r\nConnection: close\r\n\r\n")
        answer = b""
        while data := s.recv(65536):
            answer += data
    assert 'for=\\"[::1]\\";host=' in answer.decode()


def test_a_request_that_came_through_us_is_a_loop_also_after_a_reload(sidecar):
    import signal
    asked = []

    def note(connection):
        while head := connection.head():
            asked.append([line.split(": ", 1)[1] for line in head.split("\r\n") if line.lower().startswith("via: ")])
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    with Peer(note) as peer:
        one = sidecar({"up": peer.url}, workers=2)
        assert one.call("up", "GET", "/", {"Via": "1.1 rhc, 2 other"}).status == 200
        own = asked[0][1].split()[1]
        assert asked[0] == ["1.1 rhc, 2 other", f"1.1 {own}"] and own.startswith("rhc-")
        first = set(one.workers)
        one.child.kill(signal.SIGHUP)
        until("a new generation serves", 20,
              lambda: set(one.workers) and not set(one.workers) & first and one.get("/ready")[0] == 200)
        for via in (f"1.1 {own}", f"1.0 a, 1.1 {own} (x), 2 b", f"HTTP/1.1 {own}"):
            answer = one.call("up", "GET", "/", {"Via": via})
            assert answer.status == 502 and answer.problem["type"] == "urn:rhc:error:loop", via
            assert own in answer.problem["detail"] and answer["via"] is None
        for via in ("1.1 rhc", f"1.1 {own}2", f"1.1 other ({own})", f"1.1 a.{own}"):
            assert one.call("up", "GET", "/", {"Via": via})["via"] == "1.1 rhc", "an answer says no more than the name"


def test_a_sidecar_that_calls_itself_notices(sidecar):
    port = free_port()
    one = sidecar({"self": f"http://127.0.0.1:{port}"}, listeners=[{"name": "main", "address": f"127.0.0.1:{port}"}],
                  defaults={"retry": {"max_attempts": 1}, "headers": {"add_request": {"x-rhc-upstream": "self"}}})
    one.port = port
    answer = one.call("self", "GET", "/", timeout=10)
    assert answer.status == 502 and "loop" in answer.body.decode()


# ---- unix sockets ----

def test_a_unix_socket_is_a_listener_like_any_other(sidecar, origin, tmp_path):
    path = tmp_path / "rhc.sock"
    one = sidecar({"orders": origin.url}, workers=2, defaults={"headers": {"forwarded": "rfc7239"}},
                  listeners=[{"name": "main", "address": f"127.0.0.1:{free_port()}"}, {"name": "sock", "address": f"unix:{path}"}])
    for how in (["--http1.1"], ["--http2-prior-knowledge"]):
        for _ in range(10):
            done = curl("--unix-socket", path, *how, "-H", "x-rhc-upstream: orders", "http://orders/bytes/1234")
            assert done.stdout == pattern(1234)
    seen = json.loads(curl("--unix-socket", path, "http://orders/echo").stdout)["headers"]
    assert [v for n, v in seen if n.lower() == "forwarded"] == ['for=unknown;host="orders";proto=http']
    assert one.get("/ready")[0] == 200


def test_many_callers_on_a_unix_socket_at_once(sidecar, origin, tmp_path):
    path = tmp_path / "rhc.sock"
    sidecar({"orders": origin.url}, workers=3, listeners=[{"name": "sock", "address": f"unix:{path}"}])
    wrong = []

    def ask():
        done = curl("--unix-socket", path, *[f"http://orders/bytes/{n}" for n in (1, 20, 300)], check=False)
        if done.stdout != pattern(1) + pattern(20) + pattern(300):
            wrong.append(done)
    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
