"""max_concurrency is exact over all workers, and nobody is lost in the queue."""
from lib import parallel
from lib.wait import until


def test_two_hundred_calls_through_three_workers_never_show_the_upstream_an_eighth_at_once(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=3, defaults={"bulkhead": {"max_concurrency": 7}})
    statuses = parallel.run(200, lambda i: one.call("orders", "GET", "/delay/15").status)
    assert statuses == [200] * 200
    stats = origin.stats()
    assert stats["requests"] == 200 and stats["max"] == 7, stats
    until("every slot is back", 2, lambda: one.in_use("orders") == 0)


def test_the_limit_holds_while_calls_fail_are_retried_and_given_up(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=3, defaults={
        "bulkhead": {"max_concurrency": 5}, "circuit_breaker": {"enabled": False},
        "retry": {"budget": {"ratio": "100%", "min_per_second": 10000}}})

    def call(i):
        path = ("/delay/5", f"/fail-first/1?key=r{i}&how=503", f"/fail-first/1?key=x{i}&how=reset")[i % 3]
        return one.call("orders", "GET", path).status
    assert parallel.run(90, call) == [200] * 90
    assert origin.stats()["max"] <= 5
    until("every slot is back", 2, lambda: one.in_use("orders") == 0)


def test_a_slot_is_given_back_when_the_app_goes_away(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2, defaults={"bulkhead": {"max_concurrency": 2}})
    gone = [one.connect() for _ in range(2)]
    for connection in gone:
        connection.request("GET", "/gate", host="orders")
    origin.wait_current(2)
    assert one.in_use("orders") == 2
    for connection in gone:
        connection.reset()
    until("both slots are back", 2, lambda: one.in_use("orders") == 0)
    assert one.call("orders", "GET", "/").status == 200
    assert one.breaker("orders") == "closed"


def test_a_caller_who_leaves_the_queue_is_not_served_and_blocks_nobody(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2, defaults={"bulkhead": {"max_concurrency": 1}})
    holder = parallel.start(1, lambda _: one.call("orders", "GET", "/gate").status)
    origin.wait_current(1)
    impatient = one.connect()
    impatient.request("GET", "/?key=impatient", host="orders")
    until("it waits", 5, lambda: one.metrics().get("rhc_bulkhead_waiting", upstream="orders") == 1)
    impatient.reset()
    until("it waits no longer", 5, lambda: one.metrics().get("rhc_bulkhead_waiting", upstream="orders") == 0)
    patient = parallel.start(1, lambda _: one.call("orders", "GET", "/?key=patient").status)
    origin.release()
    assert parallel.finish(holder) == [200] and parallel.finish(patient) == [200]
    assert origin.attempts("impatient") == 0 and origin.attempts("patient") == 1


def test_two_upstreams_have_slots_of_their_own(sidecar, origin):
    one = sidecar({"a": origin.url, "b": origin.url}, workers=2, defaults={"bulkhead": {"max_concurrency": 1}})
    holder = parallel.start(1, lambda _: one.call("a", "GET", "/gate").status)
    origin.wait_current(1)
    assert one.call("b", "GET", "/").status == 200
    origin.release()
    assert parallel.finish(holder) == [200]


def test_without_a_bulkhead_nothing_is_limited(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2,
                  defaults={"bulkhead": {"enabled": False, "max_concurrency": 1}})
    handle = parallel.start(10, lambda i: one.call("orders", "GET", "/gate").status)
    origin.wait_current(10)
    origin.release()
    assert parallel.finish(handle) == [200] * 10
