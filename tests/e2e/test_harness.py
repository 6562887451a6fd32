"""The test's own tools against the real servers, without a sidecar: what they say must be right first."""
import http.client
import json
import ssl
import subprocess

import pytest

from lib import parallel
from lib.metrics import Metrics
from lib.raw import Incomplete, Raw
from lib.servers import FILES, fnv1a64, fnv1a64_zeros, pattern
from lib.sidecar import merge, yaml


def direct(origin, method, path, *args, **kw):
    with Raw(origin.port, timeout=10) as connection:
        return connection.call(method, path, *args, **kw)


def test_the_origin_sends_the_pattern_plain_chunked_and_until_close(origin):
    for size in (0, 1, 250, 251, 70000, 300000):
        assert direct(origin, "GET", f"/bytes/{size}").body == pattern(size)
    chunked = direct(origin, "GET", "/chunked/5000?chunk=7")
    assert chunked.body == pattern(5000) and chunked.trailers == [("X-Checked", "5000")]
    ended = direct(origin, "GET", "/until-close?n=3000")
    assert ended.body == pattern(3000) and ended.ended_by_close


def test_the_origin_digests_uploads_of_both_framings(origin):
    data = pattern(200001)
    for kind in ({"body": data}, {"chunks": [data[:1], data[1:70000], data[70000:]]}):
        answer = json.loads(direct(origin, "PUT", "/sha", **kind).body)
        assert answer == {"bytes": len(data), "fnv1a64": fnv1a64(data)}
    assert fnv1a64(bytes(1000)) == fnv1a64_zeros(1000)


def test_the_origin_fails_the_first_requests_of_a_key_only(origin):
    assert [direct(origin, "GET", "/fail-first/2?key=a").status for _ in range(3)] == [503, 503, 200]
    with pytest.raises(Incomplete):
        direct(origin, "GET", "/fail-first/1?key=b&how=reset")
    assert direct(origin, "GET", "/fail-first/1?key=b&how=reset").status == 200
    assert origin.stats()["keys"] == {"a": 3, "b": 2}


def test_the_origin_counts_how_many_requests_it_has_at_once(origin):
    handle = parallel.start(9, lambda i: direct(origin, "GET", "/gate").status)
    origin.wait_current(9)
    origin.release()
    assert parallel.finish(handle) == [200] * 9
    assert origin.stats()["max"] == 9 and origin.stats()["current"] == 0


def test_the_origin_refuses_connections_and_comes_back_on_its_port(origin):
    origin.mode("refuse")
    with pytest.raises(ConnectionRefusedError):
        Raw(origin.port)
    origin.mode("ok")
    assert direct(origin, "GET", "/").status == 200
    origin.mode("503")
    assert direct(origin, "GET", "/").status == 503
    origin.mode("reset")
    with pytest.raises(Incomplete):
        direct(origin, "GET", "/")


def test_the_origin_ends_bodies_early_in_each_way(origin):
    for path in ("/close-mid-body?of=1000&at=400", "/reset-mid-body?of=1000&at=400",
                 "/close-mid-body?chunked=1&at=400"):
        with pytest.raises(Incomplete):
            direct(origin, "GET", path)


def test_the_origin_refuses_what_no_proxy_should_send(origin):
    for request in ("GET / HTTP/1.1\nHost: x\n\n", "GET / HTTP/1.1\r\nHost : x\r\n\r\n", "nonsense\r\n\r\n",
                    "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                    "POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"):
        with Raw(origin.port, timeout=10) as connection:
            connection.send(request)
            connection.send("\r\n\r\n")
            assert connection.read().status == 400, request


def test_nginx_serves_the_files_over_each_kind_of_tls_it_should(nginx, ours):
    context = ssl.create_default_context(cafile=str(ours.ca_file))

    def get(name, path="/odd"):
        connection = http.client.HTTPSConnection("127.0.0.1", nginx.ports[name], context=context, timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    assert get("good") == (200, pattern(FILES["odd"]))
    assert get("good", "/origin/bytes/5000") == (200, pattern(5000))
    for name, reason in (("expired", "expired"), ("wrong-host", "mismatch"), ("stranger", "unable to get local issuer")):
        with pytest.raises(ssl.SSLCertVerificationError, match=reason):
            get(name)
    assert get("client")[0] == 400
    context.load_cert_chain(ours.cert("client"), ours.key("client"))
    status, text = get("client", "/who")
    assert status == 200 and text.startswith(b"CN=the-app|TLSv1.")


@pytest.mark.parametrize("kind", ["tls", "h2c"])
def test_nghttpd_serves_the_files_and_echoes_uploads(kind, nghttpd_tls, nghttpd_h2c, ours):
    server, how = {"tls": (nghttpd_tls, ["--cacert", str(ours.ca_file)]),
                   "h2c": (nghttpd_h2c, ["--http2-prior-knowledge"])}[kind]

    def curl(path, *args):
        return subprocess.run(["curl", "-sS", "--fail", "-m", "10", *how, *args, server.url + path], check=True,
                              capture_output=True, input=pattern(3000)).stdout
    assert curl("/edge") == pattern(FILES["edge"])
    assert curl("/up", "-X", "POST", "--data-binary", "@-") == pattern(3000)


def test_the_raw_client_notices_broken_framing(origin):
    for name in ("noise", "bare-lf", "half-head"):
        with pytest.raises((AssertionError, Incomplete)):
            direct(origin, "GET", f"/raw/{name}")


def test_two_hundred_calls_start_together(origin):
    assert parallel.run(200, lambda i: direct(origin, "GET", f"/bytes/{i}").body == pattern(i)) == [True] * 200


def test_metrics_are_summed_by_label():
    text = '# TYPE a counter\na{x="1",y="2"} 3\na{x="1",y="q\\"q"} 4.5\nb 1e3\n'
    metrics = Metrics(text)
    assert metrics.sum("a", x="1") == 7.5 and metrics.sum("a", y="2") == 3 and metrics.sum("b") == 1000
    assert metrics.get("c") == 0
    with pytest.raises(AssertionError):
        metrics.sum("c")


def test_a_configuration_is_written_as_yaml():
    config = merge({"a": {"b": 1, "c": ["x", 2]}, "l": [{"n": "m"}]}, {"a": {"b": 2.5}, "e": [], "t": True})
    assert yaml(config) == 'a:\n  b: 2.5\n  c:\n    - "x"\n    - 2\nl:\n  -\n    n: "m"\ne: []\nt: true\n'
