"""TLS upwards: who is trusted, what is told when somebody is not, sessions that resume, our certificate."""
import calendar
import subprocess
import time

import pytest

from lib.servers import pattern
from lib.sidecar import run_sidecar, yaml
from lib.wait import free_port

ONE_TRY = {"retry": {"max_attempts": 1}}


@pytest.fixture
def tls(sidecar, nginx, ours):
    def start(server, one_tls=None, **options):
        policy = {"ca_file": str(ours.ca_file), **(one_tls or {})}
        return sidecar({"secure": {"url": nginx.url(server), "tls": policy}}, **options)
    return start


DETAILS = {"wrong-host": ("name", "match", "host"), "expired": ("expired",), "stranger": ("issuer", "unknown", "self")}


@pytest.mark.parametrize("server", list(DETAILS))
def test_a_certificate_that_cannot_be_trusted_is_refused_with_its_own_reason(server, tls):
    one = tls(server)
    answer = one.call("secure", "GET", "/small")
    assert answer.status == 502 and answer.problem["type"] == "urn:rhc:error:tls_certificate"
    assert answer["x-rhc-error"] == "APIConnectionError"
    assert "error=tls_certificate_error" in answer["proxy-status"] and "UTLS" in answer["proxy-status"]
    told = answer.problem["detail"].lower()
    others = {word for name, words in DETAILS.items() if name != server for word in words}
    assert any(word in told for word in DETAILS[server]), told
    if server == "expired":
        assert not any(word in told for word in others - {"host", "name"}), told
    line = one.access(answer["x-request-id"])
    assert line["response_code_details"] == "tls_certificate" and line["attempts"] == 1
    assert "UTLS" in line["response_flags"].split(",") and line["detail"] == answer.problem["detail"]
    one.counted(1, "rhc_upstream_tls_handshakes_total", upstream="secure", result="failure")


def test_the_three_reasons_differ(tls):
    told = {server: tls(server).call("secure", "GET", "/small").problem["detail"] for server in DETAILS}
    assert len(set(told.values())) == 3, told


def test_server_name_is_the_name_that_is_asked_for_and_checked(tls):
    one = tls("wrong-host", {"server_name": "elsewhere.test"})
    answer = one.call("secure", "GET", "/who")
    assert answer.status == 200 and answer.body.strip().endswith(b"|elsewhere.test")


def test_without_verification_anybody_is_talked_to(tls):
    assert tls("stranger", {"verify": False}).call("secure", "GET", "/small").body == pattern(1000)


def test_a_certificate_error_counts_for_the_circuit(tls):
    one = tls("expired", defaults=ONE_TRY)
    for _ in range(5):
        one.call("secure", "GET", "/")
    assert one.breaker("secure") == "open"


@pytest.mark.parametrize("server, version", [("no-keepalive", "TLSv1.3"), ("no-keepalive-1.2", "TLSv1.2")])
def test_a_second_connection_resumes_the_session(server, version, tls):
    one = tls(server)
    answers = [one.call("secure", "GET", "/who").body.decode().split("|") for _ in range(4)]
    assert [answer[1:3] for answer in answers] == [[version, "."]] + [[version, "r"]] * 3, answers
    one.counted(1, "rhc_upstream_tls_handshakes_total", upstream="secure", result="success", resumed="full")
    one.counted(3, "rhc_upstream_tls_handshakes_total", upstream="secure", result="success", resumed="resumed")


def test_a_client_certificate_is_presented_where_one_is_asked_for(tls, ours):
    one = tls("client", {"client_cert_file": str(ours.cert("client")), "client_key_file": str(ours.key("client"))})
    answer = one.call("secure", "GET", "/who")
    assert answer.status == 200 and answer.body.startswith(b"CN=the-app|TLSv1.3|")


def test_without_a_client_certificate_the_upstreams_refusal_reaches_the_app(tls):
    answer = tls("client", defaults=ONE_TRY).call("secure", "GET", "/who")
    assert answer.status == 400 and b"No required SSL certificate was sent" in answer.body


def test_a_client_key_of_another_certificate_stops_the_start(nginx, ours, tmp_path):
    path = tmp_path / "rhc.yaml"
    path.write_text(yaml({
        "version": 1, "listeners": [{"name": "main", "address": f"127.0.0.1:{free_port()}"}],
        "admin": {"address": f"127.0.0.1:{free_port()}", "socket": str(tmp_path / "admin.sock")},
        "telemetry": {"address": f"127.0.0.1:{free_port()}"}, "shm": {"path": str(tmp_path / "state.shm")},
        "upstreams": {"secure": {"url": nginx.url("client"), "tls": {
            "client_cert_file": str(ours.cert("client")), "client_key_file": str(ours.key("good"))}}}}))
    done = run_sidecar("--allow-disk", "--config", path)
    assert done.returncode in (1, 78) and "secure" in done.stderr, (done.returncode, done.stderr)


def test_plain_text_on_a_port_that_speaks_tls_is_no_crash(sidecar, nginx):
    one = sidecar({"secure": {"url": nginx.url("good").replace("https", "http")}}, defaults=ONE_TRY)
    assert one.call("secure", "GET", "/small").status in (400, 502)


def test_tls_to_a_port_that_speaks_plain_text_is_a_tls_failure(sidecar, nginx):
    one = sidecar({"secure": {"url": nginx.url("plain").replace("http", "https")}}, defaults=ONE_TRY)
    answer = one.call("secure", "GET", "/small")
    assert answer.status == 502 and answer.problem["type"] == "urn:rhc:error:tls_failure"


@pytest.mark.parametrize("choice, status", [("auto", 200), ("off", 502)])
def test_alpn_chooses_the_protocol(choice, status, sidecar, nghttpd_tls, ours):
    """nghttpd speaks HTTP/2 alone: without h2 in ALPN it hangs up, and that must be an answer too."""
    one = sidecar({"secure": {"url": nghttpd_tls.url, "tls": {"ca_file": str(ours.ca_file)},
                              "pool": {"http2": choice}}}, defaults=ONE_TRY)
    assert one.call("secure", "GET", "/small").status == status


def test_a_server_without_http2_is_spoken_to_in_http1(tls):
    assert tls("good", {"alpn": ["h2", "http/1.1"]}).call("secure", "GET", "/small").body == pattern(1000)


def test_metrics_tell_when_certificates_end(tls, ours):
    one = tls("good", {"client_cert_file": str(ours.cert("good")), "client_key_file": str(ours.key("good"))})

    def ends(path):
        text = subprocess.run(["openssl", "x509", "-in", path, "-noout", "-enddate"], capture_output=True, text=True,
                              check=True).stdout
        return calendar.timegm(time.strptime(text, "notAfter=%b %d %H:%M:%S %Y GMT\n"))

    def told(side):
        return one.metrics().get("rhc_tls_certificate_expiry_timestamp_seconds", upstream="secure", side=side)
    assert told("ca") == ends(ours.ca_file) and told("client") == ends(ours.cert("good"))
    assert told("peer") == 0, "nobody was asked yet"
    assert one.call("secure", "GET", "/small").status == 200
    assert told("peer") == ends(ours.cert("good"))
