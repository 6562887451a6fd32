"""What is tried again, what is not, and that the reason is told."""
import time
import uuid

import pytest

from lib.raw import Incomplete
from lib.servers import fnv1a64, pattern
from lib.wait import free_port


@pytest.fixture
def one(sidecar, origin):
    return sidecar({"orders": origin.url}, defaults={"timeout": {"read": 0.4}, "circuit_breaker": {"enabled": False}})


def ask(one, method, path, **kw):
    """(answer, line of the access log)."""
    request_id = str(uuid.uuid4())
    headers = {"x-request-id": request_id, **kw.pop("headers", {})}
    answer = one.call("orders", method, path, headers, **kw)
    return answer, one.access(request_id)


# ---- what is retried ----

@pytest.mark.parametrize("how, reason", [("reset", "reset"), ("close", "reset"), ("hang", "timeout"),
                                         ("502", "status"), ("503", "status"), ("504", "status")])
def test_a_get_that_fails_twice_succeeds_at_the_third_attempt(how, reason, one, origin):
    answer, line = ask(one, "GET", f"/fail-first/2?key=k&how={how}")
    assert answer.status == 200 and answer["x-rhc-attempts"] == "3" and origin.attempts("k") == 3
    assert line["attempts"] == 3 and len(line["retry_reasons"]) == 2
    one.counted(2, "rhc_retries_total", upstream="orders", reason=reason)
    one.counted(1, "rhc_retry_calls_total", upstream="orders", outcome="successful_with_retry")


def test_a_refused_connection_is_tried_three_times_whatever_the_method(sidecar):
    one = sidecar({"orders": f"http://127.0.0.1:{free_port()}"}, defaults={"circuit_breaker": {"enabled": False}})
    for count, method in enumerate(("GET", "POST"), 1):
        answer, line = ask(one, method, "/", body=b"pay")
        assert answer.status == 502 and answer.problem["type"] == "urn:rhc:error:connect_refused"
        assert line["attempts"] == 3 and "URX" in line["response_flags"].split(",")
        one.counted(2 * count, "rhc_retries_total", upstream="orders", reason="connect")
    one.counted(2, "rhc_retry_calls_total", upstream="orders", outcome="failed_with_retry")


def test_a_post_is_sent_again_after_a_refused_connection_and_arrives_once(one, origin):
    origin.mode("refuse")
    with one.connect() as connection:
        connection.request("POST", "/sha?key=post", {"x-rhc-debug": "1"}, body=pattern(5000), host="orders")
        origin.mode("ok")
        answer = connection.read()
    # either an attempt met the open port, or all three came before it
    assert answer.status in (200, 502) and origin.attempts("post") == (answer.status == 200)


def test_a_post_is_not_repeated_once_it_was_sent(one, origin):
    answer, line = ask(one, "POST", "/fail-first/1?key=pay&how=reset", body=b"pay")
    assert answer.status == 502 and origin.attempts("pay") == 1 and line["attempts"] == 1
    assert "method" in str(line["retry_skipped"])
    one.counted(1, "rhc_retry_skipped_total", upstream="orders", reason="method")
    answer, _ = ask(one, "POST", "/fail-first/1?key=late&how=hang", body=b"pay")
    assert answer.status == 504 and origin.attempts("late") == 1
    answer, _ = ask(one, "PATCH", "/fail-first/1?key=patch&how=503", body=b"pay")
    assert answer.status == 503 and origin.attempts("patch") == 1


def test_a_post_with_an_idempotency_key_is_repeated_with_the_same_body(one, origin):
    data = pattern(3000)
    answer, line = ask(one, "POST", "/fail-first/1?key=idem&how=reset", headers={"Idempotency-Key": "7"}, body=data)
    assert answer.status == 200 and origin.attempts("idem") == 2 and line["attempts"] == 2
    assert fnv1a64(data).encode() in answer.body


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_put_is_replayed_byte_by_byte(framing, one, origin):
    data = pattern(60000)
    body = {"body": data} if framing == "length" else {"chunks": [data[:1], data[1:30000], data[30000:]]}
    answer, line = ask(one, "PUT", "/fail-first/2?key=put&how=503", **body)
    assert answer.status == 200 and line["attempts"] == 3
    assert f'"body_length":60000,"fnv1a64":"{fnv1a64(data)}"'.encode() in answer.body


def test_a_body_beyond_the_replay_buffer_is_not_retried_and_the_reason_is_told(one, origin):
    answer, line = ask(one, "PUT", "/fail-first/1?key=big&how=reset", body=pattern(200000))
    assert answer.status == 502 and origin.attempts("big") == 1
    assert "body_too_large" in str(line["retry_skipped"])
    one.counted(1, "rhc_retry_skipped_total", upstream="orders", reason="body_too_large")


def test_an_answer_that_has_begun_is_not_retried_and_the_reason_is_told(one, origin):
    request_id = str(uuid.uuid4())
    with pytest.raises(Incomplete):
        one.call("orders", "GET", "/reset-mid-body?of=1000&at=400&key=begun", {"x-request-id": request_id})
    assert origin.attempts("begun") == 1
    assert "headers_sent" in str(one.access(request_id)["retry_skipped"])
    one.counted(1, "rhc_retry_skipped_total", upstream="orders", reason="headers_sent")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 429, 500, 501])
def test_other_statuses_are_not_retried(status, one, origin):
    answer, line = ask(one, "GET", f"/status/{status}?key=s")
    assert answer.status == status and origin.attempts("s") == 1 and line["attempts"] == 1


def test_a_listed_status_is_retried(sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults={"retry": {"statuses": [429]}})
    assert one.call("orders", "GET", "/fail-first/1?key=l&how=429").status == 200
    assert one.call("orders", "GET", "/fail-first/1?key=m&how=503").status == 503
    assert (origin.attempts("l"), origin.attempts("m")) == (2, 1)


def test_max_attempts_1_never_retries(sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults={"retry": {"max_attempts": 1}})
    assert one.call("orders", "GET", "/fail-first/1?key=one&how=503").status == 503
    assert origin.attempts("one") == 1


def test_the_caller_may_ask_for_fewer_attempts_but_not_for_more(one, origin):
    one.call("orders", "GET", "/status/503?key=fewer", {"x-rhc-max-attempts": "1"})
    one.call("orders", "GET", "/status/503?key=more", {"x-rhc-max-attempts": "9"})
    assert (origin.attempts("fewer"), origin.attempts("more")) == (1, 3)


def test_an_empty_budget_stops_retries_and_the_reason_is_told(sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults={"retry": {"budget": {"ratio": 0, "min_per_second": 0}},
                                                    "circuit_breaker": {"enabled": False}})
    answer, line = ask(one, "GET", "/fail-first/1?key=b&how=503")
    assert answer.status == 503 and origin.attempts("b") == 1
    assert "budget" in str(line["retry_skipped"])
    one.counted(1, "rhc_retry_skipped_total", upstream="orders", reason="budget")


def test_retry_after_of_the_upstream_is_honoured_and_clamped_to_max_wait(sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults={"retry": {"min_wait_seconds": 0.01, "max_wait_seconds": 1.2}})
    began = time.monotonic()
    assert one.call("orders", "GET", "/fail-first/1?key=ra&how=503&retry_after=1").status == 200
    assert 1.0 <= time.monotonic() - began < 6
    began = time.monotonic()
    assert one.call("orders", "GET", "/fail-first/1?key=rb&how=503&retry_after=60").status == 200
    assert 1.0 <= time.monotonic() - began < 6


def test_the_wait_before_a_retry_is_within_its_bounds_and_holds_no_slot(sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults={
        "retry": {"min_wait_seconds": 1.5, "max_wait_seconds": 2}, "bulkhead": {"max_concurrency": 1}})
    began = time.monotonic()
    with one.connect() as connection:
        connection.request("GET", "/fail-first/1?key=w&how=503", host="orders")
        while origin.attempts("w") == 0:
            assert time.monotonic() < began + 5
        assert one.call("orders", "GET", "/").status == 200, "the only slot was held during the backoff"
        assert origin.attempts("w") == 1, "the backoff was over too soon for this test to see"
        assert connection.read().status == 200
    assert 1.5 <= time.monotonic() - began < 7


def test_a_circuit_that_opens_within_a_call_ends_its_retries(sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults={"retry": {"max_attempts": 9}})
    answer, line = ask(one, "GET", "/status/503?key=trip")
    assert origin.attempts("trip") == 5 and line["attempts"] == 5
    assert one.breaker("orders") == "open"
    # what the app gets is the upstream's last answer or the refusal; in no case a sixth attempt
    assert answer.status == 503


def test_a_kept_connection_that_the_upstream_closed_is_replaced_without_the_app_noticing(sidecar, nginx, origin):
    one = sidecar({"orders": origin.url}, defaults={"retry": {"max_attempts": 1}})
    with one.connect() as connection:
        for turn in range(5):
            assert connection.call("POST", "/sha", body=b"x", host="orders").status == 200
            origin.mode("refuse")  # resets every connection the sidecar keeps
            origin.mode("ok")
    assert origin.stats()["requests"] == 5 and one.breaker("orders") == "closed"
