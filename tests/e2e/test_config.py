"""--check-config: one look says everything that is wrong, and the exit code says whether it is."""
import json

import pytest

from lib.sidecar import run_sidecar
from lib.wait import free_port

GOOD = "version: 1\nupstreams:\n  orders:\n    url: http://127.0.0.1:9\n"


@pytest.fixture
def check(tmp_path):
    def run(text, *args, env=None):
        path = tmp_path / "rhc.yaml"
        path.write_text(text)
        done = run_sidecar("--check-config", path, *args, env=env)
        return done.returncode, done.stdout + done.stderr
    return run


def test_a_good_configuration_is_0(check):
    code, text = check(GOOD)
    assert code == 0, text


BAD = [
    ("not yaml", "version: 1\nupstreams: [\n", "rhc.yaml:"),
    ("an unknown key", GOOD + "    retry: {max_atempts: 3}\n", "max_attempts"),
    ("a wrong type", GOOD + "    retry: {max_attempts: many}\n", "rhc.yaml:5:"),
    ("out of range", GOOD + "    retry: {max_attempts: 0}\n", "rhc.yaml:5:"),
    ("a number without a unit in a string", GOOD + "    timeout: {read: 5parsecs}\n", "rhc.yaml:5:"),
    ("a negative duration", GOOD + "    timeout: {read: -1s}\n", "rhc.yaml:5:"),
    ("no version", GOOD.replace("version: 1\n", ""), "version"),
    ("another version", GOOD.replace("version: 1", "version: 7"), "version"),
    ("no url", "version: 1\nupstreams:\n  orders: {}\n", "url"),
    ("a key twice", GOOD + "    url: http://127.0.0.1:10\n", "rhc.yaml:5:"),
    ("an anchor", "version: 1\nx: &a 1\nupstreams: {}\n", "rhc.yaml:2:"),
    ("max_wait below min_wait", GOOD + "    retry: {min_wait_seconds: 5, max_wait_seconds: 1}\n", "max_wait"),
    ("an upstream that is not there", GOOD + "listeners:\n- {mode: upstream, upstream: cart}\n", "cart"),
    ("a file that is not there", GOOD + "    tls: {ca_file: /no/such/file.pem}\n", "/no/such/file.pem"),
]


@pytest.mark.parametrize("what, text, said", BAD, ids=[row[0] for row in BAD])
def test_a_bad_configuration_is_78_and_says_where_and_what(what, text, said, check):
    code, out = check(text)
    assert code == 78, (what, code, out)
    assert said in out and "error" in out, out


def test_everything_wrong_is_said_at_once(check):
    code, out = check(GOOD + "    retry: {max_atempts: 3}\n    timeout: {read: x}\n    bulkhead: {max_concurrency: -1}\n")
    assert code == 78
    assert all(f"rhc.yaml:{line}:" in out for line in (5, 6, 7)), out


DOUBTFUL = [
    ("read below connect", "    timeout: {connect: 60, read: 5}\n", "read"),
    ("attempts above threshold", "    retry: {max_attempts: 10}\n    circuit_breaker: {failure_threshold: 3}\n",
     "max_attempts"),
    ("no retries at all", "    retry: {max_attempts: 1}\n", "max_attempts"),
]


@pytest.mark.parametrize("what, text, said", DOUBTFUL, ids=[row[0] for row in DOUBTFUL])
def test_what_the_guide_calls_a_mistake_is_a_warning_and_0(what, text, said, check):
    code, out = check(GOOD + text)
    assert code == 0 and "warning" in out and said in out, (what, code, out)


def test_a_file_that_is_not_there_is_78(tmp_path):
    assert run_sidecar("--check-config", tmp_path / "none.yaml").returncode == 78


def test_a_wrong_option_is_2(tmp_path):
    assert run_sidecar("--no-such-option").returncode == 2
    assert run_sidecar("--check-config").returncode == 2


def test_a_bad_configuration_at_start_is_78_too(tmp_path):
    path = tmp_path / "rhc.yaml"
    path.write_text("version: 1\nnonsense: 1\n")
    done = run_sidecar("--config", path)
    assert done.returncode == 78 and "nonsense" in done.stderr


def test_an_unknown_variable_of_ours_is_an_error_and_a_known_one_overrides_the_file(check):
    assert check(GOOD, env={"RHC_DEFAULTS__TIMEOUT__REED": "5s"})[0] == 78
    assert check(GOOD, env={"RHC_DEFAULTS__TIMEOUT__READ": "5s"})[0] == 0


def test_version_and_help_are_0():
    version = run_sidecar("--version")
    assert version.returncode == 0 and "0.1.0" in version.stdout
    usage = run_sidecar("--help")
    assert usage.returncode == 0 and "--check-config" in usage.stdout


def test_an_address_that_is_taken_is_said_and_no_success(tmp_path, origin):
    path = tmp_path / "rhc.yaml"
    path.write_text(json.dumps({
        "version": 1, "upstreams": {"orders": {"url": origin.url}},
        "listeners": [{"name": "main", "address": f"127.0.0.1:{origin.port}"}],
        "admin": {"address": f"127.0.0.1:{free_port()}", "socket": str(tmp_path / "s")},
        "telemetry": {"address": f"127.0.0.1:{free_port()}"}, "shm": {"path": str(tmp_path / "state.shm")}}))
    done = run_sidecar("--allow-disk", "--config", path)
    assert done.returncode not in (0, 2) and str(origin.port) in done.stderr, (done.returncode, done.stderr)
