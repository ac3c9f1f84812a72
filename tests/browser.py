"""Chromium without a window, driven through its DevTools protocol over a pipe. Standard library only."""

import base64
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time


def find_chromium():
    return shutil.which("chromium-headless-shell") or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """One page. Messages are JSON that ends in NUL, written to descriptor 3 of the browser and read from its 4."""

    def __init__(self, url, width=1200, height=800, dark=False):
        self.folder = tempfile.TemporaryDirectory(prefix="millrace-chromium-", ignore_cleanup_errors=True)
        to_browser, self.write_end = os.pipe()
        self.read_end, from_browser = os.pipe()
        # What preexec does: the browser finds its ends of the pipes at 3 and 4.
        command = [find_chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
                   f"--user-data-dir={self.folder.name}", "--no-first-run", "about:blank"]
        script = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        self.process = subprocess.Popen(["bash", "-c", script, "bash", *command], pass_fds=(to_browser, from_browser),
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.held = b""
        self.n_sent = 0
        self.problems = []  # exceptions of the page, and what its console complains of
        target = next(each for each in self.call("Target.getTargets")["targetInfos"] if each["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.resize(width, height)
        self.scheme(dark)
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    session = None

    def call(self, method, **parameters):
        self.n_sent += 1
        message = {"id": self.n_sent, "method": method, "params": parameters}
        if self.session and not method.startswith("Target."):
            message["sessionId"] = self.session
        os.write(self.write_end, json.dumps(message).encode() + b"\0")
        while True:
            reply = self.receive()
            if reply.get("id") == self.n_sent:
                if "error" in reply:
                    raise AssertionError((method, reply["error"]))
                return reply["result"]
            if reply.get("method") == "Runtime.exceptionThrown":
                self.problems.append(json.dumps(reply["params"]["exceptionDetails"])[:500])
            if reply.get("method") == "Log.entryAdded" and reply["params"]["entry"]["level"] == "error":
                self.problems.append(reply["params"]["entry"]["text"])

    def receive(self):
        while b"\0" not in self.held:
            part = os.read(self.read_end, 1 << 20)
            if not part:
                raise AssertionError("the browser has ended")
            self.held += part
        message, self.held = self.held.split(b"\0", 1)
        return json.loads(message)

    def run(self, script):
        """The value of a JavaScript expression."""
        reply = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in reply:
            raise AssertionError((script, reply["exceptionDetails"]))
        return reply["result"].get("value")

    def wait(self, script, seconds=60):
        deadline = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < deadline, (script, self.problems)
            time.sleep(0.05)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def press(self, key, code):
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **(text if kind == "keyDown" else {}))

    def resize(self, width, height):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def scheme(self, dark):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def screenshot(self, path):
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def close(self):
        self.process.terminate()
        self.process.wait(20)
        os.close(self.write_end)
        os.close(self.read_end)
        self.folder.cleanup()
