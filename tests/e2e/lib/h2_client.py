"""An HTTP/2 caller made of frames (RFC 9113), for what no library would send."""
import struct

from .hostile import GOAWAY, HEADERS, PREFACE, field, frame, settings


class H2Client:
    """Frames towards the sidecar."""

    HEAD = b"\x82\x84\x86\x41\x06orders"  # GET / http orders

    def __init__(self, one, greeting=None):
        self.raw = one.connect(timeout=10)
        self.raw.send(PREFACE + (settings() if greeting is None else greeting))
        self.next = 1

    def request(self, end=True, block=None):
        stream, self.next = self.next, self.next + 2
        return stream, frame(HEADERS, 5 if end else 4, stream, block or self.HEAD)

    @staticmethod
    def block(method, path, authority, *fields):
        """A header block without a table and without Huffman: every byte is what it says."""
        pseudo = [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", authority)]
        if method == b"CONNECT":
            pseudo = [pseudo[0], pseudo[3]]
        return b"".join(field(name, value) for name, value in [*pseudo, *fields])

    def send(self, data):
        """False when the sidecar has ended the connection; to be left waiting by it is an error."""
        try:
            self.raw.send(data)
            return True
        except ConnectionError:
            return False

    def until(self, *kinds):
        """(type, flags, stream, payload) of the next frame of a kind; None at the end."""
        data = self.raw.buffer
        while True:
            while len(data) < 9 or len(data) < 9 + int.from_bytes(data[:3], "big"):
                try:
                    got = self.raw.socket.recv(65536)
                except ConnectionError:
                    return None
                if not got:
                    return None
                data += got
            length = int.from_bytes(data[:3], "big")
            found = data[3], data[4], int.from_bytes(data[5:9], "big"), bytes(data[9:9 + length])
            del data[:9 + length]
            if found[0] in kinds:
                return found

    def ended_with(self):
        last = self.until(GOAWAY)
        return None if last is None else struct.unpack("!I", last[3][4:8])[0]
