"""Clients that mean harm, each many times over: bodies that would become much more
than they are, requests that are reset as soon as they are asked, heads without an
end, connections that say nothing, and watches by the thousand. After each, another
client is answered. How much the server holds meanwhile is for the story to say."""

import base64
import os
import socket
import ssl
import struct
import tempfile
from urllib.parse import urlsplit

import yaml

HEADERS, RST_STREAM, SETTINGS, CONTINUATION = 1, 3, 4, 9
END_STREAM, END_HEADERS = 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAPS = "/api/v1/namespaces/default/configmaps"

with open(os.environ["KUBECONFIG"], encoding="utf-8") as file:
    config = yaml.safe_load(file)
cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
server = urlsplit(cluster["server"])


def context(protocol):
    """TLS as the operator, by one of the protocols."""
    made = ssl.create_default_context(
        cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
    )
    made.set_alpn_protocols([protocol])
    with tempfile.NamedTemporaryFile() as pair:
        for part in ("client-certificate-data", "client-key-data"):
            pair.write(base64.b64decode(user[part]) + b"\n")
        pair.flush()
        made.load_cert_chain(pair.name)
    return made


contexts = {protocol: context(protocol) for protocol in ("http/1.1", "h2")}


def connect(protocol):
    stream = socket.create_connection((server.hostname, server.port), timeout=30)
    return contexts[protocol].wrap_socket(stream, server_hostname=server.hostname)


def ask(line, media_type="application/json", body=b""):
    """The code of one answer; 0 where the connection ended without one."""
    head = (
        f"{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Content-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with connect("http/1.1") as stream:
        try:
            stream.sendall(head.encode() + body)
        except OSError:
            pass  # It has read enough.
        try:
            return int(stream.recv(64).split(b" ")[1])
        except (OSError, IndexError):
            return 0


def answers():
    assert ask("GET /version") == 200


def frame(kind, flags, number, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, number) + payload


def head(path):
    """The method, the scheme, and texts that are put into no table."""
    texts = [(b"\x04", path.encode()), (b"\x01", b"x")]
    return b"\x82\x87" + b"".join(of + bytes([len(text)]) + text for of, text in texts)


def get(number, path):
    return frame(HEADERS, END_STREAM | END_HEADERS, number, head(path))


def frames():
    stream = connect("h2")
    stream.sendall(PREFACE + frame(SETTINGS, 0, 0))
    return stream


def ends(stream, sent):
    """Sends what may not be read to its end, and waits for the end of the connection."""
    try:
        for part in sent:
            stream.sendall(part)
        while stream.recv(65536):
            pass
    except TimeoutError as error:
        raise AssertionError("the connection goes on") from error
    except OSError:
        pass


def bodies():
    aliases = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
    )
    for _ in range(20):
        assert ask(f"POST {MAPS}", "application/yaml", aliases.encode()) == 400
        assert ask(f"POST {MAPS}", body=b'{"a":' * 200_000) == 400
        assert ask(f"POST {MAPS}", body=b'{"data":[' + b"0," * 1_000_000 + b"0]}") == 413
        assert ask(f"POST {MAPS}", body=b" " * 20_000_000) in (0, 413)


def resets():
    cancel = struct.pack(">I", 8)
    pairs = [get(n, MAPS) + frame(RST_STREAM, 0, n, cancel) for n in range(1, 1001, 2)]
    for _ in range(50):
        with frames() as stream:
            ends(stream, [b"".join(pairs)])


def endless_heads():
    field = b"\x00\x01x\x64" + b"y" * 100
    more = frame(CONTINUATION, 0, 1, field * 150)
    for _ in range(50):
        with frames() as stream:
            ends(stream, [frame(HEADERS, END_STREAM, 1, head(MAPS))] + [more] * 200)


def silence():
    waiting = [connect("http/1.1") for _ in range(300)]
    for stream in waiting:
        stream.sendall(b"POST /api HTTP/1.1\r\nHost: ")
    answers()
    for stream in waiting:
        stream.close()


def watches():
    waiting = []
    for _ in range(50):
        stream = frames()
        stream.sendall(b"".join(get(n, f"{MAPS}?watch=1") for n in range(1, 81, 2)))
        waiting.append(stream)
    for stream in waiting:
        assert stream.recv(1)
    answers()
    for stream in waiting:
        stream.close()


for harm in (bodies, resets, endless_heads, silence, watches):
    harm()
    answers()
    print(harm.__name__, flush=True)
print("nobody was harmed")
