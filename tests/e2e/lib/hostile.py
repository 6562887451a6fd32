"""Upstreams that do what a test says, byte by byte: HTTP/1.1 as raw bytes, HTTP/2 as raw frames (RFC 9113)."""
import contextlib
import socket
import struct
import threading

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Gone(Exception):
    """The sidecar ended the connection."""


class Connection:
    """One accepted connection; number counts from 1."""

    def __init__(self, sock, number):
        self.socket, self.number, self.buffer = sock, number, b""
        self.requests = []
        self.ended = threading.Event()  # the sidecar closed or reset it

    def more(self):
        try:
            data = self.socket.recv(262144)
        except OSError as error:
            self.ended.set()
            raise Gone(str(error)) from error
        if not data:
            self.ended.set()
            raise Gone("closed")
        self.buffer += data

    def exactly(self, count):
        while len(self.buffer) < count:
            self.more()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def head(self):
        """The next request head, as text; its body stays."""
        while b"\r\n\r\n" not in self.buffer:
            self.more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        self.requests.append(head.decode("latin-1"))
        return self.requests[-1]

    def send(self, data):
        """False when the sidecar does not take it any more."""
        try:
            self.socket.sendall(data)
            return True
        except OSError:
            self.ended.set()
            return False

    def shut(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def wait_end(self):
        """Until the sidecar ends it; what it still sends is read."""
        with contextlib.suppress(Gone):
            while True:
                self.more()
                self.buffer = b""


class Upstream:
    """Calls script(connection) in a thread for each connection; its end closes the connection."""

    def __init__(self, script):
        self.script, self.connections, self.errors = script, [], []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(60)
                connection = Connection(sock, len(self.connections) + 1)
                self.connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            self.script(connection)
        except Gone:
            pass
        except OSError:
            pass
        except Exception as error:  # a bug of the test: shown by requests()
            self.errors.append(error)
        finally:
            with contextlib.suppress(OSError):
                connection.socket.close()

    @property
    def requests(self):
        assert not self.errors, self.errors
        return sum(len(connection.requests) for connection in self.connections)

    def stop(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join(10)


DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 1, 1, 4
NO_ERROR, FLOW_CONTROL, REFUSED_STREAM, CANCEL, CALM, HTTP_1_1_REQUIRED = 0, 3, 7, 8, 11, 13
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STATUS_200 = b"\x88"  # HPACK: static table, :status 200


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def field(name, value):
    """Literal without indexing, no Huffman."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def settings(**values):
    keys = {"table": 1, "push": 2, "streams": 3, "window": 4, "frame": 5, "list": 6}
    return frame(SETTINGS, 0, 0, b"".join(struct.pack("!HI", keys[k], v) for k, v in values.items()))


class H2:
    """The server's side of an HTTP/2 connection over a Connection."""

    def __init__(self, connection, greeting=None):
        self.connection = connection
        assert connection.exactly(len(PREFACE)) == PREFACE
        connection.send(settings() if greeting is None else greeting)

    def frame(self):
        """(type, flags, stream, payload); SETTINGS and PING are answered."""
        head = self.connection.exactly(9)
        length = int.from_bytes(head[:3], "big")
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:9], "big") & 0x7fffffff
        payload = self.connection.exactly(length)
        if kind == SETTINGS and not flags & ACK:
            self.connection.send(frame(SETTINGS, ACK))
        if kind == PING and not flags & ACK:
            self.connection.send(frame(PING, ACK, 0, payload))
        return kind, flags, stream, payload

    def until(self, *kinds):
        while True:
            got = self.frame()
            if got[0] in kinds:
                return got

    def request(self):
        """The stream of the next request."""
        _, _, stream, payload = self.until(HEADERS)
        self.connection.requests.append({0x82: "GET", 0x83: "POST"}.get(payload[0], "?"))
        return stream

    def ok(self, stream, body=b"ok"):
        self.connection.send(frame(HEADERS, END_HEADERS, stream, STATUS_200) + frame(DATA, END_STREAM, stream, body))

    def serve(self):
        while True:
            self.ok(self.request())

    def code_of_end(self):
        """The error code of the GOAWAY, or of the RST_STREAM, that the sidecar ends with; None when it just closes."""
        try:
            kind, _, _, payload = self.until(GOAWAY, RST)
            return struct.unpack("!I", payload[4:8] if kind == GOAWAY else payload[:4])[0]
        except Gone:
            return None
