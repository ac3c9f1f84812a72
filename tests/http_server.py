"""A running `millrace serve` for tests, and raw HTTP over a socket for what no client library would send."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading

# Of the tests that are running: their first argument.
PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else "build/release/millrace"

class Server:
    """The program, listening on a free port of this machine."""

    def __init__(self, program, model, *arguments, port="0", **popen):
        program = [program] if isinstance(program, str) else program
        if not any(str(each).startswith("--cache-d") for each in arguments):
            arguments = (*arguments, "--cache-disk", "0")  # leaves nothing in the folder of whoever runs the tests
        self.process = subprocess.Popen([*program, "serve", model, "--port", port, *arguments], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, **popen)
        line = self.process.stdout.readline()
        found = re.fullmatch(r"listening on (https?)://(.+):(\d+)\n", line)
        if found is None and not line.startswith("listening on unix:"):
            _, errors = self.process.communicate()
            raise AssertionError(f"not listening: {line!r} {errors!r}")
        self.log = []
        self.reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True)
        self.reader.start()
        if found is not None:
            self.scheme, self.host, self.port = found[1], found[2].strip("[]"), int(found[3])
            self.url = f"{self.scheme}://{self.host}:{self.port}"

    def send(self, raw, seconds=30):
        """Whatever comes back for these bytes until the other side closes."""
        with socket.create_connection((self.host, self.port), timeout=seconds) as connection:
            connection.sendall(raw)
            return read_all(connection)

    def call(self, method, path, body=None, **headers):
        """(status, headers, body) of one request; a body that is no string is sent as JSON."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=200)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            given.setdefault("Content-Type", "application/json")
            body = body if isinstance(body, (str, bytes)) else json.dumps(body)
        connection.request(method, path, body, given)
        reply = connection.getresponse()
        data = reply.read()
        connection.close()
        return reply.status, reply.headers, data

    def json(self, path, body=None, status=200, **headers):
        got, _, data = self.call("GET" if body is None else "POST", path, body, **headers)
        assert got == status, (got, data)
        return json.loads(data)

    def end(self, is_told=False):
        """SIGTERM, unless it is told already, and the exit status."""
        if self.process.poll() is None and not is_told:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(200)
        self.reader.join(10)
        self.process.stdout.close()
        self.process.stderr.close()
        return status


def read_all(connection):
    data = b""
    try:
        while part := connection.recv(65536):
            data += part
    except ConnectionResetError:
        pass
    return data


def events(data):
    """The data of server-sent events, in order."""
    text = data.decode() if isinstance(data, bytes) else data
    return [line[len("data: "):] for line in text.split("\n") if line.startswith("data: ")]
