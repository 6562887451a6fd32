"""An HTTP/1.1 client that hides nothing: bytes out, bytes in, strict framing (RFC 9112)."""
import socket


class Incomplete(Exception):
    """The connection ended, or broke, within an answer.  .got is the answer so far."""

    def __init__(self, why, got=b""):
        super().__init__(f"{why}; so far {bytes(got[-200:])!r}")
        self.got = bytes(got)


class Answer:
    def __init__(self, version, status, reason, fields):
        self.version, self.status, self.reason, self.fields = version, status, reason, fields
        self.body = b""
        self.trailers = []
        self.informational = []
        self.ended_by_close = False

    def all(self, name):
        return [value for field, value in self.fields if field.lower() == name.lower()]

    def __getitem__(self, name):
        """The one value of a field, None without it."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    @property
    def problem(self):
        import json
        assert self["content-type"] == "application/problem+json", (self.status, self.fields, self.body)
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.fields} {self.body[:300]!r}>"


class Raw:
    """One connection."""

    def __init__(self, port, host="127.0.0.1", timeout=30):
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data.encode("latin-1") if isinstance(data, str) else data)

    def reset(self):
        """Ends the connection with RST, as a caller that was killed."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def _more(self):
        try:
            data = self.socket.recv(262144)
        except ConnectionError as error:
            raise Incomplete(f"reset: {error}", self.buffer) from error
        self.buffer += data
        return len(data)

    def _line(self):
        while b"\n" not in self.buffer:
            if not self._more():
                raise Incomplete("closed within a line", self.buffer)
        line, _, rest = bytes(self.buffer).partition(b"\n")
        assert line.endswith(b"\r"), f"a line without CR: {line!r}"
        self.buffer = bytearray(rest)
        return line[:-1]

    def _exactly(self, count, answer):
        body = bytearray()
        while len(body) < count:
            if not self.buffer and not self._more():
                answer.body += bytes(body)
                raise Incomplete(f"closed after {len(answer.body)} bytes of the body", answer.body)
            take = count - len(body)
            body += self.buffer[:take]
            del self.buffer[:take]
        return bytes(body)

    def _fields(self):
        fields = []
        while True:
            line = self._line()
            if not line:
                return fields
            name, colon, value = line.decode("latin-1").partition(":")
            assert colon and name and name == name.strip(), f"not a header line: {line!r}"
            fields.append((name, value.strip(" \t")))

    def _head(self):
        line = self._line().decode("latin-1")
        version, status, reason = (line.split(" ", 2) + [""])[:3]
        assert version in ("HTTP/1.1", "HTTP/1.0") and len(status) == 3, f"not a status line: {line!r}"
        return Answer(version, int(status), reason, self._fields())

    def _chunks(self, answer):
        while True:
            size = int(self._line().split(b";")[0], 16)
            if size == 0:
                answer.trailers = self._fields()
                return
            answer.body += self._exactly(size, answer)
            assert self._line() == b"", "no CR LF after a chunk"

    def read(self, method="GET"):
        """One answer, the informational ones before it included."""
        informational = []
        answer = self._head()
        while 100 <= answer.status < 200 and answer.status != 101:
            informational.append(answer)
            answer = self._head()
        answer.informational = informational
        if method == "HEAD" or answer.status in (204, 304):
            return answer
        if answer.all("transfer-encoding"):
            assert answer["transfer-encoding"] == "chunked" and not answer.all("content-length")
            self._chunks(answer)
        elif answer["content-length"] is not None:
            answer.body = self._exactly(int(answer["content-length"]), answer)
        else:
            answer.ended_by_close = True
            while self._more():
                pass
            answer.body, self.buffer = bytes(self.buffer), bytearray()
        return answer

    def closed(self):
        """True when the peer ends the connection without another byte."""
        try:
            return not self.buffer and self.socket.recv(1) == b""
        except ConnectionError:
            return True

    def request(self, method, path, headers=(), body=None, chunks=None, host="test"):
        """Sends one request.  headers: pairs or a dict; chunks: an iterable sent chunked."""
        pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
        if not any(name.lower() == "host" for name, _ in pairs):
            pairs.insert(0, ("Host", host))
        if body is not None:
            pairs.append(("Content-Length", str(len(body))))
        if chunks is not None:
            pairs.append(("Transfer-Encoding", "chunked"))
        lines = [f"{method} {path} HTTP/1.1"] + [f"{name}: {value}" for name, value in pairs]
        self.send("\r\n".join(lines) + "\r\n\r\n")
        try:
            if body is not None:
                self.send(body)
            for chunk in chunks or ():
                self.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            if chunks is not None:
                self.send(b"0\r\n\r\n")
        except ConnectionError:
            pass  # answered before the body was read; the answer tells

    def call(self, method, path, headers=(), body=None, chunks=None, host="test"):
        self.request(method, path, headers, body, chunks, host)
        return self.read(method)
