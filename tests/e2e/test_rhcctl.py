"""rhcctl: each command, its table, its JSON, its exit code; what audit finds; without workers and without supervisor."""
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

from lib import parallel
from lib.segment import Segment, upstream_index
from lib.servers import TOP
from lib.wait import clean_environment, free_port, until


@pytest.fixture
def one(sidecar, origin):
    return sidecar({"orders": origin.url, "billing": f"http://127.0.0.1:{free_port()}"}, workers=2,
                   defaults={"retry": {"max_attempts": 1}, "bulkhead": {"max_concurrency": 5}},
                   supervisor={"hang_timeout": "off"}, shm={"max_workers": 4})


@contextlib.contextmanager
def stopped(*pids):
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


# ---- every command ----

READS = {
    "status": ("UPSTREAM CIRCUIT FAILS IN_USE WAIT OLDEST CALLS SUCCESS EFF_SUCC RETRIED P50 P95 P99 CONNS REACHABLE",
               "version instance lifecycle supervisor_alive engine preset config_hash config_age_seconds "
               "uptime_seconds workers_alive upstreams", 0),
    "upstreams": ("NAME CIRCUIT CALLS SUCCESS EFF_SUCC RETRIED P50 P95 P99 CONNS IDLE CONNECTING CONNECTS FAILED REACHABLE",
                  "items", 0),
    "breaker": ("NAME STATE SINCE OUTAGE FAILURES THRESHOLD RECOVERY_TIMEOUT NEXT_PROBE PROBES OPENED_TOTAL REJECTED "
                "LAST_FAILURE OVERRIDE", "items", 0),
    "breaker show": ("NAME STATE SINCE OUTAGE FAILURES THRESHOLD RECOVERY_TIMEOUT NEXT_PROBE PROBES OPENED_TOTAL "
                     "REJECTED LAST_FAILURE OVERRIDE", "items", 0),
    "bulkhead": ("NAME IN_USE UTILIZATION CONFIGURED WAITING OLDEST_WAIT OLDEST_HELD ACQUIRED WAITED TIMEOUTS QUEUE_FULL "
                 "REAPED OVERRIDE", "items", 0),
    "bulkhead show orders": ("NAME IN_USE UTILIZATION CONFIGURED WAITING OLDEST_WAIT OLDEST_HELD ACQUIRED WAITED TIMEOUTS "
                             "QUEUE_FULL REAPED OVERRIDE", "items holders", 0),
    "overrides": ("nothing was changed by hand", "items", 0),
    "workers": ("ID PID STATE HEARTBEAT UP CONNS IN_FLIGHT SLOTS RESTARTS LAST_END", "items", 0),
    "audit": ("every slot, waiter and probe is accounted for", "findings items", 0),
    "health": ("UPSTREAM CIRCUIT AVAILABLE_SLOTS REACHABLE CHECKED", "client_initialized upstreams status", None),
    "version": (None, "version segment_major segment_minor", 0),
}


@pytest.mark.parametrize("command", READS)
def test_a_reading_command_has_its_table_and_its_json(one, command):
    one.call("orders", "GET", "/")
    header, keys, code = READS[command]
    table = one.ctl(*command.split(), output="table", check=False)
    parsed = one.ctl(*command.split(), check=False)
    assert code is None or table.code == parsed.code == code, table
    assert parsed.json["apiVersion"] == "rhc.dev/v1"
    assert set(parsed.json) >= set(keys.split()), parsed.text
    if header:
        assert header.split() in [line.split() for line in table.text.splitlines()], table.text
    wide = one.ctl(*command.split(), output="wide", check=False)
    assert wide.code == table.code and len(wide.text) >= len(table.text.rstrip()) * 0.8
    assert not table.errors and not parsed.errors


ROWS = {
    "breaker": "name state since_seconds outage_seconds failures failure_threshold recovery_timeout_seconds "
               "next_probe_seconds probes opened_total rejected_total last_error last_failure_seconds generation override",
    "bulkhead": "name in_use max_concurrency utilization_ratio configured waiting max_waiting oldest_wait_seconds "
                "oldest_held_seconds "
                "acquired_total waited_total rejected_timeout_total rejected_queue_full_total reaped_total override",
    "workers": "id pid state heartbeat_age_seconds uptime_seconds connections in_flight slots restarts last_end",
}


@pytest.mark.parametrize("noun", ROWS)
def test_the_rows_of_a_list_have_their_keys(one, noun):
    for row in one.ctl(noun).json["items"]:
        assert set(row) >= set(ROWS[noun].split()), row


CHANGES = [
    # command, kind of the answer, state afterwards, a word of the table
    ("breaker open orders", "BreakerChange", "open", "orders: closed -> open"),
    ("breaker isolate orders --for 1h --reason why", "BreakerChange", "isolated", "orders: closed -> isolated for 1h00m"),
    ("breaker disable orders", "BreakerChange", "disabled", "orders: closed -> disabled"),
    ("breaker close orders", "BreakerChange", "closed", "orders: closed -> closed"),
    ("breaker enable orders", "BreakerChange", "closed", "orders: closed -> closed (no change)"),
    ("breaker reset orders", "BreakerChange", "closed", "orders: closed -> closed"),
]


@pytest.mark.parametrize("command,kind,state,text", CHANGES)
def test_a_change_of_a_breaker_says_what_it_did(one, command, kind, state, text):
    assert one.ctl(*command.split(), output="table").text.startswith(text)
    assert one.breaker("orders") == state and one.breaker("billing") == "closed"
    one.ctl("breaker", "close", "orders")
    answer = one.ctl(*command.split())
    assert answer.json["kind"] == kind
    assert [set(row) >= {"name", "from", "to", "changed", "generation"} for row in answer.json["items"]] == [True]
    assert one.ctl(*command.split(), "-q", output="table").text == ""


def test_all_means_every_upstream(one):
    one.ctl("breaker", "isolate", "--all", "--reason", "maintenance")
    assert one.breaker("orders") == one.breaker("billing") == "isolated"
    rows = one.ctl("overrides").json["items"]
    assert {row["upstream"] for row in rows} >= {"orders", "billing"}
    assert {row["reason"] for row in rows} == {"maintenance"} and {row["value"] for row in rows} == {"isolated"}
    one.ctl("breaker", "enable", "--all")
    assert one.ctl("overrides").json["items"] == [] and one.breaker("orders") == "closed"


def test_a_disabled_breaker_counts_but_never_trips_until_it_is_enabled(one):
    one.ctl("breaker", "disable", "billing")
    for _ in range(8):
        assert one.call("billing", "GET", "/").problem["type"] != "urn:rhc:error:circuit_open"
    assert one.breaker("billing") == "disabled"
    one.ctl("breaker", "enable", "billing")
    for _ in range(5):
        one.call("billing", "GET", "/")
    assert one.breaker("billing") == "open"


def test_an_override_with_an_end_reverts_by_itself(one):
    one.ctl("breaker", "isolate", "orders", "--for", "300ms", "--reason", "short")
    one.ctl("bulkhead", "set", "orders", "--max-concurrency", "2", "--for", "300ms", "--reason", "small")
    rows = {row["kind"]: row for row in one.ctl("overrides").json["items"]}
    assert rows["breaker"]["reason"] == "short" and 0 < rows["breaker"]["left_seconds"] <= 0.3
    assert rows["limit"]["reason"] == "small"
    assert one.shown("bulkhead", "orders")["max_concurrency"] == 2
    until("both have ended", 5, lambda: one.breaker("orders") == "closed" and
          one.shown("bulkhead", "orders")["max_concurrency"] == 5)
    assert one.ctl("overrides").json["items"] == []
    assert "override_ended" in one.ctl("events", output="table").text


def test_the_limit_is_set_and_cleared(one):
    answer = one.ctl("bulkhead", "set", "orders", "--max-concurrency", "9", "--reason", "more").json
    assert (answer["kind"], answer["from"], answer["to"], answer["configured"]) == ("LimitChange", 5, 9, 5)
    text = one.ctl("bulkhead", "clear", "orders", output="table").text
    assert text == "orders: max_concurrency 9 -> 5 (configuration says 5)\n"
    over = one.ctl("bulkhead", "set", "orders", "--max-concurrency", "9999", check=False)
    assert over.code == 6 and "room for 1 to" in over.errors


def test_reap_drain_and_config_check(one):
    alive = one.ctl("reap", "0", check=False)
    assert alive.code == 6 and "it is alive" in alive.errors
    assert one.ctl("reap", "3").json["slots"] == 0
    assert one.ctl("reap", "99", check=False).code == 6
    assert one.ctl("config", "check", str(one.config_path), output="table").code == 0
    one.config_path.with_name("bad.yaml").write_text("version: 1\nnonsense: 1\n")
    assert one.ctl("config", "check", str(one.config_path.with_name("bad.yaml")), check=False).code == 78
    assert one.ctl("drain", "--reason", "over").json == {"apiVersion": "rhc.dev/v1", "kind": "Drain", "draining": True}
    until("it drains", 10, lambda: one.get("/ready")[0] == 503)


WRONG = [
    "", "nonsense", "bulkhead set a b --max-concurrency 1", "breaker open", "breaker open a b", "breaker open orders --all", "status extra",
    "bulkhead set orders", "bulkhead set", "bulkhead clear", "breaker open orders --for 5s", "status -o xml",
    "status --for nan", "breaker isolate orders --for 0", "breaker isolate orders --for -1s",
    "breaker isolate orders --for 100000d", "bulkhead set orders --max-concurrency 0", "events --type nonsense",
    "bulkhead set orders --max-concurrency x", "status --nonsense", "breaker reset orders -w", "status --watch=1ms",
    "completion", "completion tcsh", "config check", "events --since soon", "reap", "upstreams a b", "breaker show a b",
    "help a b",
]


@pytest.mark.parametrize("command", WRONG)
def test_wrong_usage_is_told_and_changes_nothing(one_shared, command):
    answer = one_shared.ctl(*command.split(), check=False)
    assert answer.code == 2, answer
    assert answer.errors.startswith("rhcctl: ") and answer.errors.count("\n") == 1 and not answer.text
    assert one_shared.breaker("orders") == "closed"


@pytest.fixture(scope="module")
def one_shared(tmp_path_factory, session_origin):
    from lib.sidecar import Sidecar
    one = Sidecar(tmp_path_factory.mktemp("rhcctl"), {"orders": session_origin.url})
    yield one
    one.stop()
    one.clean_up()


@pytest.mark.parametrize("command", ["breaker nobody", "breaker show nobody", "bulkhead nobody", "upstreams nobody",
                                     "breaker open nobody", "bulkhead set nobody --max-concurrency 3"])
def test_an_unknown_upstream_is_told_and_stdout_stays_empty(one_shared, command):
    answer = one_shared.ctl(*command.split(), check=False)
    assert (answer.code, answer.text, answer.errors) == (6, "", "rhcctl: no upstream 'nobody'\n")


# ---- events ----

def test_events_are_told_by_type_upstream_and_age(one):
    one.ctl("breaker", "isolate", "orders", "--reason", "first")
    one.ctl("bulkhead", "set", "billing", "--max-concurrency", "3", "--reason", "second")

    def told(*args):
        return [line for line in one.ctl("events", *args, output="table").text.splitlines()]
    assert any("brk_override" in line and "reason=first" in line for line in told())
    assert all(" breaker " in line for line in told("--type", "breaker")) and told("--type", "breaker")
    assert all(" billing " in line for line in told("--upstream", "billing")) and told("--upstream", "billing")
    assert told("--type", "limit_override") and "reason=second" in told("--type", "limit_override")[0]
    time.sleep(0.3)
    assert told("--since", "100ms") == [] and len(told("--since", "1h")) == len(told())
    assert one.ctl("events", "--upstream", "nobody", check=False).code == 6
    stamps = [line.split()[0] for line in told()]
    assert stamps == sorted(stamps) and all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}Z", s) for s in stamps)


def test_events_are_followed(one):
    with subprocess.Popen([one.build / "rhcctl", "--shm", one.shm, "events", "-f", "--type", "breaker"], text=True,
                          stdout=subprocess.PIPE) as follower:
        try:
            time.sleep(0.5)
            one.ctl("breaker", "open", "orders", "--reason", "seen live")
            line = follower.stdout.readline()
            assert "brk_override" in line and "reason=seen live" in line
        finally:
            follower.kill()


def test_a_watch_shows_again_and_again(one):
    with subprocess.Popen([one.build / "rhcctl", "--shm", one.shm, "breaker", "-w100ms", "-o", "json"], text=True,
                          stdout=subprocess.PIPE) as watcher:
        try:
            assert "closed" in watcher.stdout.readline()
            one.ctl("breaker", "isolate", "orders")
            until("the watch shows it", 5, lambda: "isolated" in watcher.stdout.readline())
        finally:
            watcher.kill()


def test_an_event_tells_what_it_is_about(one):
    told = {line["type"]: line for line in map(json.loads, one.ctl("events").text.splitlines())}
    assert re.fullmatch(r"bytes=\d+ set_aside=none", told["segment_new"]["message"])
    assert re.fullmatch(r"generation=1 hash=[0-9a-f]{16}", told["config"]["message"])
    assert told["lifecycle"]["message"] == "starting->ready" and told["lifecycle"]["severity"] == "info"
    one.ctl("drain", "--reason", "why not")
    assert re.search(r"drain uid=\d+ pid=\d+ reason=why not$", one.ctl("events", output="table").text, re.M)


# ---- what reaches nobody ----

def closed(*numbers):
    def close():
        for number in numbers:
            os.close(number)
    return close


@pytest.mark.parametrize("numbers", [(1,), (0, 1, 2)], ids=str)
def test_closed_descriptors_do_not_lead_into_the_segment(one, numbers):
    before = one.shm.read_bytes()[:64]
    done = subprocess.run([one.build / "rhcctl", "--shm", one.shm, "breaker", "isolate", "orders"], timeout=20,
                          preexec_fn=closed(*numbers), env=clean_environment())
    assert done.returncode == 1, "what could not be told was not told"
    assert one.shm.read_bytes()[:64] == before
    assert one.breaker("orders") == "isolated"


def test_what_cannot_be_written_is_no_success(one_shared):
    for form in "table", "json":
        with open("/dev/full", "w") as full:
            done = subprocess.run([one_shared.build / "rhcctl", "--shm", one_shared.shm, "-o", form, "status"], stdout=full,
                                  stderr=subprocess.PIPE, text=True, timeout=20, env=clean_environment())
        assert (done.returncode, done.stderr) == (1, "rhcctl: cannot write the answer: No space left on device\n")


def test_a_reader_that_leaves_ends_a_watch_without_a_word(one_shared):
    with subprocess.Popen([one_shared.build / "rhcctl", "--shm", one_shared.shm, "status", "-w100ms"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as watcher:
        watcher.stdout.readline()
        watcher.stdout.close()
        assert watcher.wait(20) == -signal.SIGPIPE and watcher.stderr.read() == ""


def test_a_long_reason_is_cut_and_that_is_told(one):
    answer = one.ctl("breaker", "isolate", "orders", "--reason", "x" * 50)
    assert answer.errors == "rhcctl: --reason: only the first 40 bytes are kept\n"
    assert one.ctl("overrides").json["items"][0]["reason"] == "x" * 40


# ---- statistics and health ----

def test_reset_begins_the_statistics_anew(one):
    def calls():
        return one.ctl("upstreams", "orders").json["items"][0]
    for _ in range(3):
        one.call("orders", "GET", "/")
    until("all are counted", 5, lambda: calls()["calls"] == 3)
    one.ctl("breaker", "reset", "orders")
    row = calls()
    assert (row["calls"], row["p50_seconds"], row["attempt_success_ratio"]) == (0, None, None)
    one.call("orders", "GET", "/")
    until("it is counted", 5, lambda: calls()["calls"] == 1)


def test_health_has_the_fields_of_the_guide_as_the_telemetry_has_them(sidecar, origin):
    one = sidecar({"orders": origin.url, "dead": f"http://127.0.0.1:{free_port()}",
                   "free": {"url": origin.url, "bulkhead": {"enabled": False}, "circuit_breaker": {"enabled": False}}})
    asked = json.loads(one.get("/health")[1])
    told = one.ctl("health", check=False)
    assert told.code == 1 and set(told.json) == set(asked) and told.json["status"] == "degraded"
    for name, row in asked["upstreams"].items():
        mine = told.json["upstreams"][name]
        assert {key: mine[key] for key in row} == row, name
    assert asked["upstreams"]["free"]["pool_available_slots"] is None
    assert asked["upstreams"]["free"]["circuit_breaker_state"] == "unknown"


def test_a_sidecar_that_hangs_is_not_healthy(one):
    with stopped(one.child.pid, *one.workers):
        until("its beats are old", 20, lambda: one.ctl("health", check=False).code == 1)
        text = one.ctl("health", output="table", check=False).text
        assert "! worker 0: its last beat is" in text and text.endswith("degraded\n")
        assert "STALE" in one.ctl("status", output="table").text
    until("they turn again", 10, lambda: one.ctl("health", check=False).code == 0)


# ---- without workers, without supervisor ----

def test_everything_works_while_every_worker_is_stopped_and_after_the_supervisor_died(one, origin):
    handle = parallel.start(2, lambda i: one.call("orders", "GET", "/gate"))
    origin.wait_current(2)
    supervisor, workers = one.child.pid, one.workers
    with stopped(*workers):
        assert one.in_use("orders") == 2
        os.kill(supervisor, signal.SIGKILL)
        one.child.process.wait(10)
        assert one.ctl("status").json["supervisor_alive"] is False
        assert "NO SUPERVISOR" in one.ctl("status", output="table").text
        one.ctl("breaker", "isolate", "orders", "--reason", "nobody is there")
        one.ctl("bulkhead", "set", "orders", "--max-concurrency", "3")
        assert one.breaker("orders") == "isolated" and one.shown("bulkhead", "orders")["max_concurrency"] == 3
        assert one.ctl("audit").code == 0 and len(one.ctl("workers").json["items"]) == 2
        assert one.ctl("reap", "0", check=False).code == 6  # stopped is not dead
        os.kill(workers[0], signal.SIGKILL)
        until("the killed one can be reaped", 5, lambda: one.ctl("reap", "0", check=False).code == 0)
        assert one.in_use("orders") <= 2 and one.ctl("audit").code == 0
        os.kill(workers[1], signal.SIGKILL)
    parallel.finish(handle)


# ---- audit ----

def plant(s, up, what):
    """Writes one thing that must not be."""
    live, dead = 0, 14
    if what == "slot_of_dead_worker":
        s.poke(s.slot(up, 1), s.slot_word(dead, 1))
    elif what == "slot_of_impossible_owner":
        s.poke(s.slot(up, 1), s.slot_word(700, 1))
    elif what == "slot_of_earlier_incarnation":
        s.poke(s.slot(up, 1), s.slot_word(live, s.incarnation(live) + 7))
    elif what == "probe_of_dead_worker":
        s.poke(s.up(up, "permit"), s.permit_word(dead, 60000))
    elif what == "probe_of_impossible_owner":
        s.poke(s.up(up, "permit"), s.permit_word(700, 60000))
    elif what == "probe_beyond_its_lease":
        s.poke(s.up(up, "permit"), s.permit_word(live, -60000))
    elif what == "ticket_of_dead_worker":
        s.poke(s.up(up, "head") + 8 * dead, 1 << 48 | 5)
    elif what == "waitmask_differs":
        s.poke(s.up(up, "waitmask"), 1 << live)
    elif what == "free_slot_without_hint":
        s.poke(s.hints(up), s.word(s.hints(up)) & ~2)
    elif what == "limit_differs":
        s.poke(s.up(up, "ctl"), 17 | 17 << 20 | 5 << 40)
    elif what == "more_held_than_limit":
        for index in range(6):  # the limit is 5
            s.poke(s.slot(up, index), s.slot_word(live, s.incarnation(live)))
    elif what == "impossible_breaker_state":
        s.poke(s.up(up, "brk"), 6 << 61)
    elif what == "dead_worker_not_cleaned_up":
        s.poke(s.worker(dead), 3 << 32 | 1)
    elif what == "host_claim_of_dead_worker":
        s.poke(s.up(s.host_up(0), "id"), 1 << 32 | dead + 1 << 16 | 3)
    elif what == "host_use_of_dead_worker":
        s.poke(s.pin(0, dead), 1)
    elif what == "two_records_of_one_host":
        for index in range(2):
            s.poke(s.up(s.host_up(index), "id"), 1 << 32 | 1)


FINDINGS = """slot_of_dead_worker slot_of_impossible_owner slot_of_earlier_incarnation probe_of_dead_worker
probe_of_impossible_owner probe_beyond_its_lease ticket_of_dead_worker waitmask_differs free_slot_without_hint limit_differs
more_held_than_limit impossible_breaker_state dead_worker_not_cleaned_up host_claim_of_dead_worker host_use_of_dead_worker
two_records_of_one_host""".split()
LEFT_TO_TIME_OR_OWNER = {"probe_beyond_its_lease", "waitmask_differs", "more_held_than_limit", "two_records_of_one_host"}


def test_every_finding_that_audit_knows_is_planted_here():
    source = (TOP / "shm/audit.c").read_text()
    assert sorted(re.findall(r"\[RHC_FIND_\w+\] = \"(\w+)\"", source)) == sorted(FINDINGS)


@pytest.mark.parametrize("what", FINDINGS)
def test_audit_finds_and_repair_puts_right(one_to_damage, what):
    one = one_to_damage
    segment = Segment(one.shm)
    up = upstream_index(segment, "orders")
    keep = bytes(segment.map[:])
    with stopped(one.child.pid, *one.workers):
        try:
            assert one.ctl("audit").code == 0
            plant(segment, up, what)
            found = one.ctl("audit", check=False)
            assert found.code == 1 and what in {row["finding"] for row in found.json["items"]}, found.text
            assert what in one.ctl("audit", output="table", check=False).text
            one.ctl("status"), one.ctl("breaker"), one.ctl("bulkhead", "show", "orders")  # none falls over it
            one.ctl("repair")
            left = {row["finding"] for row in one.ctl("audit", check=False).json["items"]}
            assert left <= {what} and (not left or what in LEFT_TO_TIME_OR_OWNER), left
        finally:
            for at, size in ((segment.up(up, "brk"), 16), (segment.up(up, "waitmask"), 8), (segment.up(up, "permit"), 64),
                             (segment.up(up, "head"), 512), (segment.worker(14), 8), (segment.up(segment.host_up(0), "id"), 8),
                             (segment.up(segment.host_up(1), "id"), 8), (segment.pin(0, 14), 8)):
                segment.map[at:at + size] = keep[at:at + size]
            for index in range(8):
                at = segment.slot(up, index)
                segment.map[at:at + 8] = keep[at:at + 8]
            segment.close()


@pytest.fixture(scope="module")
def one_to_damage(tmp_path_factory, session_origin):
    from lib.sidecar import Sidecar
    one = Sidecar(tmp_path_factory.mktemp("audit"), {"orders": session_origin.url}, workers=1,
                  defaults={"bulkhead": {"max_concurrency": 5}}, supervisor={"hang_timeout": "off"},
                  shm={"max_workers": 16}, forward_proxy={"allow": ["*.localhost"], "max_hosts": 2})
    yield one
    one.stop()
    one.clean_up()


# ---- help, completion, man page ----

def commands():
    text = (TOP / "ctl/commands.def").read_text()
    return re.findall(r'^COMMAND\("(\w+)",\s*"(\w*)"', text, re.M)


def options():
    return re.findall(r'^OPTION\(\w+,\s*(?:0|\'(.)\'),\s*"([\w-]+)"', (TOP / "ctl/options.def").read_text(), re.M)


def rhcctl(one, *args):
    return subprocess.run([one.build / "rhcctl", *args], capture_output=True, text=True, timeout=20,
                          env=clean_environment())


def test_help_tells_of_every_command_and_option(one_shared):
    text = rhcctl(one_shared, "help").stdout
    for noun, verb in commands():
        assert re.search(rf"^  {noun}{' ' + verb if verb else ''}\b", text, re.M), (noun, verb)
    for letter, name in options():
        assert f"--{name}" in text and (not letter or f"-{letter}, --{name}" in text)


@pytest.mark.parametrize("words", [["help", "breaker"], ["breaker", "--help"], ["-h", "cb"]], ids=" ".join)
def test_help_of_a_noun_tells_what_it_can_do_and_nothing_else(one_shared, words):
    done = rhcctl(one_shared, *words)
    assert done.returncode == 0 and done.stdout.startswith("usage: rhcctl ")
    told = re.findall(r"^  (\w+) ?(\w*)", done.stdout.split("options:")[0], re.M)
    assert [pair for pair in told if pair[0] == "breaker"] == [pair if pair[1] else ("breaker", "")
                                                             for pair in commands() if pair[0] == "breaker"]
    assert {noun for noun, _ in told} <= {"breaker", "short"}, done.stdout
    assert rhcctl(one_shared, "help", "nonsense").returncode == 2


def test_the_man_page_has_the_commands_and_options_of_the_tables():
    page = (TOP / "deploy/man/rhcctl.1").read_text()
    told = re.findall(r"^\.It Cm (\w+)(?: (?!Op|Ar)(\w+))?", page, re.M)
    assert told == commands()
    assert re.findall(r"^\.It (?:Fl (\w) , )?Fl \\-([\w-]+)", page, re.M) == options()


@pytest.mark.parametrize("shell,check", [("bash", "bash"), ("zsh", "bash"), ("fish", "fish")])
def test_a_completion_knows_every_command_and_its_shell_can_read_it(one_shared, tmp_path, shell, check):
    text = rhcctl(one_shared, "completion", shell).stdout
    for word in {word for pair in commands() for word in pair if word}:
        assert re.search(rf"\b{word}\b", text), word
    for _, name in options():
        assert re.search(rf"(--|-l ){name}\b", text), name
    script = tmp_path / "script"
    script.write_text(text)
    if pathlib.Path(f"/usr/bin/{check}").exists():
        assert subprocess.run([check, "-n", script], capture_output=True).returncode == 0


def test_bash_completes_verbs_and_names_of_upstreams(one_shared, tmp_path):
    script = tmp_path / "script"
    script.write_text(rhcctl(one_shared, "completion", "bash").stdout)

    def complete(*words):
        line = " ".join(f"'{word}'" for word in words)
        run = (f". {script}; export RHC_SHM={one_shared.shm} PATH={one_shared.build}:$PATH; COMP_WORDS=({line}); "
               f"COMP_CWORD={len(words) - 1}; _rhcctl; echo ${{COMPREPLY[@]}}")
        return subprocess.run(["bash", "-c", run], capture_output=True, text=True, timeout=20).stdout.split()
    assert complete("rhcctl", "bre") == ["breaker"]
    assert "isolate" in complete("rhcctl", "breaker", "")
    assert "orders" in complete("rhcctl", "breaker", "isolate", "o")
    assert complete("rhcctl", "status", "-o", "j") == ["json"]
    assert complete("rhcctl", "status", "--rea") == ["--reason"]
