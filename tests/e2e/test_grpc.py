"""gRPC from h2c to h2c with trailers: unary, streams, deadlines, cancelling, and grpc-status for verdict and retry."""
import time

import pytest

from lib import node
from lib.wait import until

UP = {"http2": "prior_knowledge"}
ONE_TRY = {"retry": {"max_attempts": 1}}


@pytest.fixture
def server(tmp_path):
    node.need()
    one = node.Server(tmp_path, "grpc_server.js")
    yield one
    one.stop()


@pytest.fixture
def start(sidecar, server):
    def begin(**defaults):
        return sidecar({"echo": {"url": f"http://127.0.0.1:{server.port}", "pool": UP}}, defaults=defaults)
    return begin


def ask(one, scenario, *args, authority="echo"):
    return node.run("grpc_client.js", f"127.0.0.1:{one.port}", authority, scenario, *args)


def test_a_unary_call_arrives_with_its_trailers(start):
    one = start()
    got = ask(one, "unary", "hello")
    assert (got["code"], got["value"], got["trailers"]["x-trailer"]) == (0, "hello", "kept")
    line = until("it is logged", 10, lambda: one.access_lines())[0]
    assert (line["response_code"], line["grpc_status"]) == (200, 0)


def test_large_messages_arrive_whole(start):
    assert ask(start(), "large", 3000000) == {"code": 0, "bytes": 3000000}


def test_a_server_streams_a_thousand_messages(start):
    assert ask(start(), "down", 1000) == {"code": 0, "count": 1000, "bytes": 1000000}


def test_a_client_streams_a_thousand_messages(start):
    assert ask(start(), "up", 1000) == {"code": 0, "value": "1000000"}


def test_both_sides_stream_and_every_word_is_answered_before_the_next(start):
    assert ask(start(), "chat", 200) == {"code": 0, "count": 200}


def test_a_hundred_calls_share_one_connection(start):
    assert ask(start(bulkhead={"max_concurrency": 100}), "many", 100) == {"ok": 100}


def test_what_grpc_needs_reaches_the_server_and_the_deadline_is_what_is_left(start):
    import json
    told = json.loads(ask(start(), "told", 5000)["value"])
    assert told["metadata"]["user-agent"].startswith("grpc-node")
    assert 0 < told["deadline"] <= 5000


def test_a_deadline_ends_the_call_on_time_and_gives_the_slot_back(start):
    one = start()
    got = ask(one, "deadline", 500)
    assert got["code"] == 4 and 400 < got["took"] < 3000
    until("the slot is back", 10, lambda: one.in_use("echo") == 0)


def test_our_own_total_time_is_a_deadline_exceeded(start):
    one = start(timeout={"total": 0.3, "connect": 0.1, "read": 0.2}, **ONE_TRY)
    got = ask(one, "slow", 10000)
    assert got["code"] == 4 and got["details"].startswith("Request timed out"), got


def test_a_cancelled_call_is_cancelled_at_the_server(start):
    import json
    one = start()
    assert ask(one, "cancel", 200)["code"] == 1
    until("the slot is back", 10, lambda: one.in_use("echo") == 0)
    until("the server knows", 10, lambda: json.loads(ask(one, "told")["value"])["calls"]["cancelled"] == 1)
    line = one.access_lines()[0]
    assert (line["response_code"], line["response_flags"]) == (499, "DC")


@pytest.mark.parametrize("code, opens", [(14, True), (4, True), (13, False), (5, False), (2, False), (8, False)])
def test_the_status_in_the_trailers_is_the_verdict(code, opens, start):
    one = start(circuit_breaker={"failure_threshold": 2}, **ONE_TRY)
    for _ in range(2):
        got = ask(one, "fail", code)
        assert (got["code"], got["details"]) == (code, f"code {code}")
    assert one.breaker("echo") == ("open" if opens else "closed")


def test_the_codes_that_count_follow_count_statuses(start):
    one = start(circuit_breaker={"failure_threshold": 1, "count_statuses": [500]}, **ONE_TRY)
    ask(one, "fail", 14)
    assert one.breaker("echo") == "closed"
    ask(one, "fail", 13)
    assert one.breaker("echo") == "open"


def test_a_stream_that_fails_late_counts_and_its_status_arrives(start):
    one = start(circuit_breaker={"failure_threshold": 1}, **ONE_TRY)
    assert ask(one, "late", 14) == {"code": 14, "details": "code 14", "count": 1}
    until("the circuit is open", 5, lambda: one.breaker("echo") == "open")


def test_unavailable_is_retried_where_the_policy_says_that_a_post_may_be(start):
    one = start(retry={"methods": ["GET", "POST"], "min_wait_seconds": 0.01, "max_wait_seconds": 0.05})
    got = ask(one, "fail", "14:2")
    assert (got["code"], got["value"], got["headers"]["x-rhc-attempts"]) == (0, "recovered", "3")


def test_unavailable_is_retried_with_an_idempotency_key(start):
    assert ask(start(), "fail", "14:2+key")["value"] == "recovered"


def test_a_call_that_may_have_been_acted_on_is_not_retried(start):
    one = start()
    assert ask(one, "fail", "14:2")["code"] == 14
    line = until("it is logged", 10, lambda: one.access_lines())[0]
    assert line["attempts"] == 1 and line["retry_skipped"] and line["grpc_status"] == 14


def test_refusals_of_ours_are_grpc_answers(sidecar, start):
    one = start(circuit_breaker={"failure_threshold": 1}, **ONE_TRY)
    ask(one, "fail", 14)
    refused = ask(one, "unary")
    assert refused["code"] == 14 and refused["details"] == "Circuit breaker is OPEN - failing fast"
    assert refused["metadata"]["x-rhc-error"] == "APIConnectionError" and "retry-after" in refused["metadata"]
    nowhere = ask(one, "unary", authority="nobody")
    assert nowhere["code"] == 12
    down = sidecar({"echo": {"url": "http://127.0.0.1:1", "pool": UP}}, defaults=ONE_TRY)
    assert ask(down, "unary")["code"] == 14 and ask(down, "unary")["details"] == "Connection refused"


def test_a_full_bulkhead_is_unavailable(start):
    import threading
    one = start(bulkhead={"max_concurrency": 1, "acquisition_timeout": 0.2})
    holder = threading.Thread(target=ask, args=(one, "slow", 3000))
    holder.start()
    until("the slot is taken", 10, lambda: one.in_use("echo") == 1)
    got = ask(one, "unary")
    assert got["code"] == 14 and got["details"].startswith("Failed to acquire connection slot within 0.2s"), got
    holder.join(30)


def test_grpc_load_leaves_no_slot_behind(start):
    one = start(bulkhead={"max_concurrency": 100})
    began = time.monotonic()
    assert ask(one, "many", 500) == {"ok": 500} and time.monotonic() - began < 30
    until("no slot is in use", 10, lambda: one.in_use("echo") == 0)
