"""Real clients of many makers: what they do to a proxy works."""
import asyncio
import hashlib
import re
import subprocess

import aiohttp
import httpx
import pytest
from aiohttp import web

from lib import node
from lib.peer import Peer
from lib.servers import FILES, fnv1a64, pattern
from lib.wait import clean_environment, until


@pytest.fixture
def one(sidecar, four, origin):
    return sidecar({**four, "origin": origin.url}, workers=2)


def run(*args, timeout=60, **environment):
    done = subprocess.run([str(a) for a in args], capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL,
                          env=clean_environment(environment))
    assert done.returncode == 0, f"{args}: {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done


# ---- curl ----

@pytest.mark.parametrize("how", ["--http1.0", "--http1.1", "--http2-prior-knowledge"])
def test_curl_downloads_and_uploads(how, one, tmp_path):
    (tmp_path / "up").write_bytes(pattern(300001))
    name = ["-H", "x-rhc-upstream: origin"]
    assert run("curl", "-sS", how, *name, one.url("/bytes/300001")).stdout == pattern(300001)
    for upload in (["-T", tmp_path / "up", "-X", "POST"], ["--data-binary", f"@{tmp_path / 'up'}"]):
        assert fnv1a64(pattern(300001)).encode() in run("curl", "-sS", how, *name, *upload, one.url("/sha")).stdout


def test_curl_uploads_what_has_no_length(one):
    with subprocess.Popen(["curl", "-sS", "-m", "20", "-H", "x-rhc-upstream: origin", "-X", "POST", "-T", "-",
                           one.url("/sha")], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as curl:
        told, _ = curl.communicate(pattern(123456), timeout=30)
    assert fnv1a64(pattern(123456)).encode() in told


def test_curl_uses_it_as_its_proxy_from_the_environment(sidecar, origin):
    one = sidecar({"origin": origin.url}, forward_proxy={"enabled": True, "allow": ["localhost"]})
    got = run("curl", "-sS", f"http://localhost:{origin.port}/bytes/4321", http_proxy=one.url(), no_proxy="")
    assert got.stdout == pattern(4321)
    until("the call went through", 10, lambda: [x for x in one.access_lines() if x["path"] == "/bytes/4321"])


def test_curl_keeps_its_connection_and_pipelines_nothing_wrong(one):
    urls = [one.url(f"/bytes/{n}") for n in range(0, 3000, 100)]
    got = run("curl", "-sS", "-w", "%{num_connects} ", "-H", "x-rhc-upstream: origin", *urls).stdout
    assert re.findall(rb"\d (?=\Z)", got) == [b"0 "] and len(got) == sum(range(0, 3000, 100)) + 2 * 30


def test_curl_retries_and_resumes_by_range(one, tmp_path):
    out = tmp_path / "out"
    out.write_bytes(pattern(1 << 20)[:5000])
    run("curl", "-sS", "-C", "-", "-o", out, "-H", "x-rhc-upstream: h1", one.url("/large"))
    assert out.read_bytes() == pattern(1 << 20)


@pytest.mark.parametrize("how", ["--http1.1", "--http2-prior-knowledge"])
def test_curl_that_runs_out_of_time_gives_its_slot_back(how, one):
    done = subprocess.run(["curl", "-sS", "-m", "0.5", how, "-H", "x-rhc-upstream: origin", one.url("/hang")],
                          capture_output=True, timeout=20)
    assert done.returncode == 28
    until("the slot is back", 5, lambda: one.in_use("origin") == 0)
    assert (one.access_lines()[0]["response_code"], one.access_lines()[0]["response_flags"]) == (499, "DC")


# ---- load generators ----

def test_wrk_sees_no_error(one):
    told = run("wrk", "-t", "1", "-c", "16", "-d", "2s", "-H", "x-rhc-upstream: h1", one.url("/small")).stdout.decode()
    assert "Socket errors" not in told and "Non-2xx" not in told, told
    assert int(re.search(r"(\d+) requests in", told).group(1)) > 100, told


def test_h2load_over_tls_upstreams_and_both_versions(one):
    for how in (["--h1"], ["-m", "32"]):
        for kind in ("h1-tls", "h2-tls"):
            told = run("h2load", *how, "-n", "1000", "-c", "8", "-H", f"x-rhc-upstream: {kind}", one.url("/page")).stdout
            assert b"1000 succeeded, 0 failed, 0 errored, 0 timeout" in told, told


# ---- Python ----

def test_httpx_calls_uploads_and_streams(one):
    with httpx.Client(base_url=one.url(), headers={"x-rhc-upstream": "origin"}, trust_env=False) as client:
        assert client.get("/bytes/100000").content == pattern(100000)
        assert fnv1a64(pattern(70000)) in client.post("/sha", content=pattern(70000)).text
        pieces = (pattern(70000)[i:i + 999] for i in range(0, 70000, 999))
        assert fnv1a64(pattern(70000)) in client.post("/sha", content=pieces).text
        with client.stream("GET", "/chunked/50000?chunk=777") as answer:
            assert b"".join(answer.iter_bytes()) == pattern(50000)
        refused = client.get("/", headers={"x-rhc-upstream": "nobody"})
        assert refused.status_code == 500 and refused.json()["type"] == "urn:rhc:error:no_route"


def test_httpx_speaks_http_2_by_prior_knowledge(one):
    with httpx.Client(http1=False, http2=True, base_url=one.url(), headers={"x-rhc-upstream": "origin"},
                      trust_env=False) as client:
        for count in (0, 1, 70000, 500000):
            answer = client.get(f"/bytes/{count}")
            assert answer.http_version == "HTTP/2" and answer.content == pattern(count)
        assert fnv1a64(pattern(300000)) in client.post("/sha", content=pattern(300000)).text


def test_httpx_uses_it_as_its_proxy_also_for_connect(sidecar, origin, nginx, ours):
    one = sidecar({"origin": origin.url}, forward_proxy={"enabled": True, "allow": ["localhost", "127.0.0.1"], "connect": "allow"})
    with httpx.Client(proxies=one.url(), verify=str(ours.ca_file), trust_env=False) as client:
        assert client.get(f"http://localhost:{origin.port}/bytes/77").content == pattern(77)
        assert client.get(f"{nginx.url('good')}/page").content == pattern(FILES["page"])


def test_aiohttp_makes_a_hundred_calls_at_once(one):

    async def all_of_them():
        connector = aiohttp.TCPConnector(limit=32)
        async with aiohttp.ClientSession(connector=connector, headers={"x-rhc-upstream": "origin"}) as session:
            async def get(n):
                async with session.get(one.url(f"/bytes/{n * 100}")) as answer:
                    return answer.status == 200 and await answer.read() == pattern(n * 100)
            got = await asyncio.gather(*[get(n) for n in range(100)])
            async with session.post(one.url("/sha"), data=pattern(200000), expect100=True) as answer:
                return got, await answer.text()
    got, told = asyncio.run(all_of_them())
    assert got == [True] * 100 and fnv1a64(pattern(200000)) in told


def test_aiohttp_talks_over_a_websocket(sidecar):

    async def talk():
        async def serve(request):
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            async for message in socket:
                await socket.send_str(message.data.upper())
            return socket
        app = web.Application()
        app.router.add_get("/ws", serve)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        one = await asyncio.to_thread(sidecar, {"ws": f"http://127.0.0.1:{port}"})
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(one.url("/ws"), headers={"x-rhc-upstream": "ws"}) as socket:
                for i in range(50):
                    await socket.send_str(f"word {i}")
                    assert (await socket.receive()).data == f"WORD {i}"
                await socket.close()
        await runner.cleanup()
    asyncio.run(talk())


# ---- Node ----

def test_nodes_fetch_calls_uploads_streams_and_aborts(one):
    got = node.run("fetch.js", one.url(), "direct")
    assert got == {"ok": 50, "same": True, "status": 503, "aborted": "TimeoutError"}
    until("no slot is in use", 10, lambda: one.in_use("origin") == 0)


def test_undicis_proxy_agent_makes_a_tunnel(sidecar, origin):
    one = sidecar({"origin": "http://127.0.0.1:1"}, forward_proxy={"enabled": True, "allow": ["localhost"], "connect": "allow"})
    got = node.run("fetch.js", one.url(), "proxy", f"http://localhost:{origin.port}/bytes/50000")
    assert got == {"status": 200, "hash": hashlib.sha256(pattern(50000)).hexdigest()}


def test_connect_over_http_2_makes_a_tunnel_of_one_stream(sidecar):
    def echo(connection):
        connection.send(connection.to_the_end().upper() + b"bye")
    with Peer(echo) as peer:
        one = sidecar({"origin": "http://127.0.0.1:1"}, forward_proxy={"enabled": True, "allow": ["localhost"], "connect": "allow"})
        got = node.run("connect_h2.js", one.url(), f"localhost:{peer.port}")
        assert got == {"status": 200, "text": "ONE TWO bye"}
        until("the slot is back", 10, lambda: one.in_use("_forward:localhost") == 0)
        refused = subprocess.run(["curl", "-sS", "--http2-prior-knowledge", "-X", "CONNECT", one.url("/")], timeout=20,
                                 capture_output=True)
        assert refused.returncode != 0 or b"bad_request" in refused.stdout or b"denied" in refused.stdout


@pytest.fixture
def websocket(tmp_path):
    node.need()
    server = node.Server(tmp_path, "ws_server.js")
    yield server
    server.stop()


def test_a_websocket_of_ws_talks_pings_and_closes_with_its_code(sidecar, websocket):
    one = sidecar({"ws": f"http://127.0.0.1:{websocket.port}"})
    got = node.run("ws_client.js", f"ws://127.0.0.1:{one.port}/room/1?a=b", "ws")
    assert got == {"texts": 100, "bytes": 3000000, "pongs": 1, "status": 101, "id": True, "protocol": "chat",
                   "first": "hello /room/1?a=b", "code": 4001, "reason": "as asked"}
    line = until("it is logged", 10, lambda: one.access_lines())[0]
    assert (line["response_code"], line["response_flags"]) == (101, "-") and line["bytes_sent"] > 3000000
    assert one.in_use("ws") == 0


def test_a_websocket_to_who_has_none_gets_the_answer(sidecar, origin):
    one = sidecar({"ws": origin.url})
    got = node.run("ws_client.js", f"ws://127.0.0.1:{one.port}/status/404", "ws")
    assert got["status"] == 404
