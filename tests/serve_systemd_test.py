#!/usr/bin/env python3
"""The server under a service manager: what it tells it and when, and the socket that it is handed, with Python in the
place of systemd."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny_gguf  # noqa: E402
from http_server import PROGRAM, Server, read_all  # noqa: E402

FOLDER = tempfile.TemporaryDirectory(prefix="millrace-systemd-")
MODEL = str(pathlib.Path(FOLDER.name, "tiny.gguf"))
pathlib.Path(MODEL).write_bytes(tiny_gguf.tiny_gguf(context=2048))
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class NotifyTest(unittest.TestCase):
    def listen(self, address):
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        manager.bind(address)
        manager.settimeout(60)
        self.addCleanup(manager.close)
        return manager

    def start(self, name, **environment):
        return Server(PROGRAM, MODEL, "--threads", "1", env={**os.environ, "NOTIFY_SOCKET": name, **environment})

    def expect(self, manager, words):
        while (said := manager.recv(4096).decode()) == "WATCHDOG=1" != words:
            pass
        self.assertTrue(said.startswith(words), said)
        return said

    def test_a_life(self):
        path = str(pathlib.Path(FOLDER.name, "notify"))
        manager = self.listen(path)
        server = self.start(path, WATCHDOG_USEC="300000")
        self.assertEqual(manager.recv(4096), b"READY=1")
        for _ in range(3):
            self.assertEqual(manager.recv(4096), b"WATCHDOG=1")
        server.process.send_signal(signal.SIGHUP)
        self.assertRegex(self.expect(manager, "RELOADING=1"), r"^RELOADING=1\nMONOTONIC_USEC=\d+$")
        self.expect(manager, "READY=1")
        server.process.send_signal(signal.SIGTERM)
        self.expect(manager, "STOPPING=1")
        self.assertEqual(server.end(is_told=True), 0)

    def test_an_abstract_name_and_no_watchdog(self):
        manager = self.listen(f"\0millrace-{os.getpid()}")
        server = self.start(f"@millrace-{os.getpid()}", WATCHDOG_USEC="2000", WATCHDOG_PID="1")
        self.assertEqual(manager.recv(4096), b"READY=1")
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(manager.recv(4096), b"STOPPING=1")
        self.assertEqual(server.end(is_told=True), 0)

    def test_a_manager_that_leaves(self):
        path = str(pathlib.Path(FOLDER.name, "leaves"))
        manager = self.listen(path)
        server = self.start(path, WATCHDOG_USEC="100000")
        manager.close()
        self.assertEqual(server.json("/health"), {"status": "ok"})
        self.assertEqual(server.end(), 0)

    def test_nonsense(self):
        for environment, words in (({"NOTIFY_SOCKET": "x"}, "NOTIFY_SOCKET"), ({"NOTIFY_SOCKET": "/no/such"}, "/no/such"), ({"LISTEN_FDS": "x"}, "LISTEN_FDS")):
            done = subprocess.run([PROGRAM, "serve", MODEL, "--port", "0"], env={**os.environ, **environment}, capture_output=True, text=True)
            self.assertEqual((done.returncode, words in done.stderr), (2, True), done.stderr)


class ActivationTest(unittest.TestCase):
    """The manager listens, and hands the socket over as descriptor 3."""

    SHELL = ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", PROGRAM]

    def handed(self, listening, n=1):
        return {"env": {**os.environ, "LISTEN_FDS": str(n)}, "pass_fds": (3,), "preexec_fn": lambda: os.dup2(listening.fileno(), 3)}

    def ask(self, address, family=socket.AF_INET):
        with socket.socket(family) as connection:
            connection.settimeout(60)
            connection.connect(address)
            connection.sendall(GET)
            return read_all(connection)

    def test_who_came_before_the_server_is_served(self):
        with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as early:
            early.sendall(GET)
            server = Server(self.SHELL, MODEL, "--threads", "1", port="1", **self.handed(listening))
            self.assertEqual(server.port, listening.getsockname()[1])
            self.assertIn(b"200 OK", read_all(early))
            self.assertIn(b"200 OK", self.ask(listening.getsockname()))
            self.assertEqual(server.end(), 0)
            # The next one takes over where this one ended.
            with socket.create_connection(listening.getsockname()) as between:
                between.sendall(GET)
                again = Server(self.SHELL, MODEL, "--threads", "1", **self.handed(listening))
                self.assertIn(b"200 OK", read_all(between))
                self.assertEqual(again.end(), 0)

    def test_a_unix_socket_stays(self):
        path = str(pathlib.Path(FOLDER.name, "socket"))
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            server = Server(self.SHELL, MODEL, "--threads", "1", **self.handed(listening))
            self.assertIn(b"200 OK", self.ask(path, socket.AF_UNIX))
            self.assertEqual(server.end(), 0)
            self.assertTrue(pathlib.Path(path).exists())

    def test_meant_for_another(self):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            handed = self.handed(listening)
            server = Server(PROGRAM, MODEL, "--threads", "1", **{**handed, "env": {**handed["env"], "LISTEN_PID": "1"}})
            self.assertNotEqual(server.port, listening.getsockname()[1])
            self.assertEqual(server.end(), 0)

    def test_refusals(self):
        with socket.create_server(("0.0.0.0", 0)) as everywhere, socket.socket() as silent:
            for listening, n, words in ((everywhere, 1, "reached by others"), (everywhere, 2, "2 sockets"), (silent, 1, "listens")):
                done = subprocess.run([*self.SHELL, "serve", MODEL], capture_output=True, text=True, **self.handed(listening, n))
                self.assertEqual((done.returncode, words in done.stderr), (2, True), done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=1)
