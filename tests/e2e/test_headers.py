"""Which fields go on, which end here, and who we say we are (RFC 9110 section 7.6)."""
import json
import re
import uuid

import pytest

from lib.raw import Raw


def echo(one, headers=(), path="/echo", **kw):
    """(the answer, the fields the upstream saw as pairs)."""
    answer = one.call("orders", "GET", path, headers, **kw)
    assert answer.status == 200, answer
    return answer, [(name.lower(), value) for name, value in json.loads(answer.body)["headers"]]


@pytest.fixture
def one(sidecar, origin):
    return sidecar({"orders": origin.url})


def test_hop_by_hop_fields_of_the_request_end_here(one):
    _, seen = echo(one, [("Connection", "close, X-Secret"), ("X-Secret", "1"), ("Keep-Alive", "timeout=1"),
                         ("Proxy-Connection", "keep-alive"), ("Proxy-Authorization", "Basic eA=="), ("TE", "gzip"),
                         ("Upgrade", "websocket-not"), ("X-Kept", "yes"), ("Accept", "a"), ("Accept", "b")])
    names = [name for name, _ in seen]
    for gone in ("x-secret", "keep-alive", "proxy-connection", "proxy-authorization", "upgrade"):
        assert gone not in names, seen
    assert ("x-kept", "yes") in seen
    assert [value for name, value in seen if name == "accept"] in (["a", "b"], ["a, b"])
    assert not any(name == "te" and "gzip" in value for name, value in seen)


def test_hop_by_hop_fields_of_the_answer_end_here(one):
    answer = one.call("orders", "GET", "/hop")
    for gone in ("x-hop-secret", "keep-alive", "proxy-authenticate"):
        assert not answer.all(gone), answer
    assert answer["x-end"] == "kept" and answer.all("set-cookie") == ["a=1", "b=2"]
    assert "x-hop-secret" not in (answer["connection"] or "").lower()


def test_via_names_us_in_both_directions_after_those_before(one):
    answer, seen = echo(one, {"Via": "1.0 before"})
    via = [value for name, value in seen if name == "via"]
    assert re.fullmatch(r"1\.0 before, 1\.1 \S+", ", ".join(via)), via
    assert re.search(r"^1\.1 behind, 1\.1 \S+", ", ".join(one.call("orders", "GET", "/hop").all("via")))
    assert answer["via"]


def test_our_own_request_fields_do_not_leak_to_the_upstream(one):
    _, seen = echo(one, {"x-rhc-timeout": "5s", "x-rhc-max-attempts": "2", "x-rhc-upstream": "orders",
                         "x-rhc-debug": "1"})
    assert not [name for name, _ in seen if name.startswith("x-rhc-")], seen


def test_the_upstream_is_asked_by_its_own_authority(one, origin):
    _, seen = echo(one)
    assert [value for name, value in seen if name == "host"] == [f"127.0.0.1:{origin.port}"]


def test_end_to_end_fields_arrive_as_they_were(one):
    odd = [("X-Empty", ""), ("X-Spaces", "a  b"), ("X-Quote", '"q\\"'), ("X-Long", "v" * 5000),
           ("Cookie", "a=1; b=2"), ("Authorization", "Bearer abc.def"), ("X-High", "\u00e9\u00ff")]
    _, seen = echo(one, odd)
    for name, value in odd:
        assert (name.lower(), value) in seen, name


def test_added_and_removed_fields_of_the_configuration_take_effect(sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults={"headers": {
        "add_request": {"X-Env": "test"}, "remove_request": ["X-Debug"], "forwarded": "x-forwarded"}})
    _, seen = echo(one, {"X-Debug": "1", "X-Env": "spoofed"})
    assert ("x-env", "test") in seen and ("x-env", "spoofed") not in seen
    assert "x-debug" not in [name for name, _ in seen] and ("x-forwarded-host", "orders") in seen


def test_path_and_query_arrive_byte_by_byte(one):
    for path, query in (("/echo", "a=1&b=%20%2F&c=%e2%82%ac&&=&d=?x"), ("/echo", "")):
        answer = json.loads(one.call("orders", "GET", f"{path}?{query}" if query else path).body)
        assert (answer["path"], answer["query"]) == (path, query)


def test_the_path_of_the_url_is_put_before_that_of_the_request(sidecar, origin):
    one = sidecar({"orders": origin.url + "/bytes"})
    assert len(one.call("orders", "GET", "/55").body) == 55


# ---- request ids ----

def test_a_request_id_is_kept_sent_on_and_returned(one):
    answer, seen = echo(one, {"x-request-id": "client-id.1/2=3"})
    assert answer["x-request-id"] == "client-id.1/2=3" and ("x-request-id", "client-id.1/2=3") in seen
    assert one.access("client-id.1/2=3")["path"] == "/echo"


def test_a_missing_request_id_is_made(one):
    ids = [echo(one) for _ in range(3)]
    for answer, seen in ids:
        uuid.UUID(answer["x-request-id"])
        assert ("x-request-id", answer["x-request-id"]) in seen
    assert len({answer["x-request-id"] for answer, _ in ids}) == 3


@pytest.mark.parametrize("bad", ["a b", "<script>", "x" * 200, '"'])
def test_a_request_id_that_could_harm_a_log_is_replaced(bad, one):
    answer, seen = echo(one, {"x-request-id": bad})
    assert answer["x-request-id"] != bad and bad not in [value for name, value in seen if name == "x-request-id"]


def test_the_request_id_stays_the_same_over_all_attempts_and_they_are_numbered(one, origin):
    answer, seen = echo(one, {"x-request-id": "same"}, path="/fail-first/2?key=same&how=503")
    assert origin.attempts("same") == 3
    assert ("x-request-id", "same") in seen and ("x-rhc-attempt", "3") in seen
    assert answer["x-request-id"] == "same"


def test_our_own_answers_carry_the_request_id(one, origin):
    origin.mode("refuse")
    answer = one.call("orders", "GET", "/", {"x-request-id": "own"})
    assert answer.status == 502 and answer["x-request-id"] == "own" and "own" in json.dumps(answer.problem)


def test_traceparent_goes_on_untouched(one):
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    _, seen = echo(one, {"traceparent": parent, "tracestate": "a=b"})
    assert ("traceparent", parent) in seen and ("tracestate", "a=b") in seen


def test_server_timing_tells_the_phases_when_asked(one):
    assert one.call("orders", "GET", "/")["server-timing"] is None
    timing = one.call("orders", "GET", "/", {"x-rhc-debug": "1"})["server-timing"]
    assert {"rhc", "queue", "connect", "upstream", "total"} <= set(re.findall(r"(\w+);dur=", timing))


def test_an_http_1_0_app_is_served_and_then_left(one):
    with Raw(one.port) as connection:
        connection.send("GET /chunked/3000 HTTP/1.0\r\nHost: orders\r\n\r\n")
        answer = connection.read()
        assert answer.status == 200 and len(answer.body) == 3000 and not answer.all("transfer-encoding")
        assert connection.closed()


def test_connection_close_is_honoured(one):
    with one.connect() as connection:
        answer = connection.call("GET", "/", {"Connection": "close"}, host="orders")
        assert answer.status == 200 and (answer["connection"] or "").lower() == "close" and connection.closed()
