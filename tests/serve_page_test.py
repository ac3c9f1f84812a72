#!/usr/bin/env python3
"""The web page in a browser: asks, streams, stops, asks again, remembers. Screenshots lie in the folder that
MILLRACE_SCREENSHOTS names, else nowhere."""

import json
import os
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny_gguf  # noqa: E402
from browser import Browser, find_chromium  # noqa: E402
from http_server import PROGRAM, Server  # noqa: E402

if find_chromium() is None:
    print("skipped: there is no Chromium here")
    sys.exit(77)

FOLDER = tempfile.TemporaryDirectory(prefix="millrace-page-")
MODEL = str(pathlib.Path(FOLDER.name, "tiny.gguf"))
pathlib.Path(MODEL).write_bytes(tiny_gguf.tiny_gguf(context=8192))
SCREENSHOTS = os.environ.get("MILLRACE_SCREENSHOTS", FOLDER.name)

MARKDOWN = r"""# Head
Some *soft*, **loud**, `code` and <b onclick=x>no HTML</b>, [a link](https://example.org) and [none](javascript:alert(1)).

- one
- two
  1. inner
> quoted

| a | b |
| --- | --- |
| 1 | **2** |

```python
def f(x):  # why
    return "<script>" + str(41)
```
```
never closed"""


def luminance(colour):
    """Of #rrggbb, relative to white."""
    channels = [int(colour[at:at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


class PageTest(unittest.TestCase):
    def setUp(self):
        self.server = Server(PROGRAM, MODEL, "--threads", "1")
        self.addCleanup(lambda: self.assertEqual(self.server.end(), 0))
        self.browser = Browser(self.server.url)
        self.addCleanup(self.browser.close)
        self.addCleanup(lambda: self.assertEqual(self.browser.problems, []))
        self.browser.wait("document.querySelector('#model').textContent.startsWith('tiny')")

    def set(self, name, value):
        self.browser.run(f"{name}.value = {value!r}; {name}.dispatchEvent(new Event('change'))")

    def ask(self, text):
        self.browser.run("question.focus()")
        self.browser.type(text)
        self.browser.press("Enter", 13)

    def answers(self):
        return self.browser.run("[...document.querySelectorAll('article.assistant')].map(each => each.children[1].textContent)")

    def wait_for_end(self):
        self.browser.wait("document.querySelector('#stop').hidden && !again.hidden")

    def test_a_conversation(self):
        self.set("temperature", "0")
        self.set("max_tokens", "24")
        self.ask("hello")
        self.wait_for_end()
        self.browser.wait("document.querySelector('.cost')?.textContent.includes('out')")
        first = self.answers()
        self.assertEqual(len(first), 1)
        reply = self.server.json("/v1/chat/completions", {"messages": [{"role": "user", "content": "hello"}], "temperature": 0, "max_tokens": 24})
        kept = self.browser.run("JSON.parse(localStorage.getItem('millrace.conversations'))")
        self.assertEqual(kept[0]["messages"][1]["content"], reply["choices"][0]["message"]["content"])
        self.browser.run("again.click()")
        self.wait_for_end()
        self.assertEqual(self.answers(), first)  # greedy: the same again
        self.ask("and more")
        self.browser.wait("document.querySelectorAll('article.assistant').length === 2")
        self.wait_for_end()
        self.browser.call("Page.reload")
        self.browser.wait("document.readyState === 'complete' && document.querySelectorAll('article').length === 4")
        self.browser.wait("Number(document.querySelector('#rate').textContent) >= 0")
        self.browser.run("document.querySelector('#new').click()")
        self.assertEqual(self.answers(), [])
        self.browser.run("document.querySelector('#conversations .name').click()")
        self.assertEqual(len(self.answers()), 2)
        self.browser.run("document.querySelector('#conversations button[aria-label]').click()")
        self.assertEqual(self.browser.run("JSON.parse(localStorage.getItem('millrace.conversations')).length"), 0)

    def test_looks(self):
        """Light, dark, and as wide as a phone, with a conversation that has some of everything."""
        said = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Hello. What would you like to know?"},
                {"role": "user", "content": "Show me some of everything."}, {"role": "assistant", "content": MARKDOWN}]
        self.browser.run(f"localStorage.setItem('millrace.conversations', {json.dumps(json.dumps([{'title': 'Some of everything', 'messages': said}]))})")
        self.browser.call("Page.reload")
        self.browser.wait("document.readyState === 'complete' && document.querySelectorAll('article').length === 4")
        self.browser.wait("document.querySelector('#memory').textContent.includes('iB')")
        self.browser.screenshot(f"{SCREENSHOTS}/page-light.png")
        light = self.browser.run("getComputedStyle(document.body).backgroundColor")
        self.browser.scheme(dark=True)
        self.browser.screenshot(f"{SCREENSHOTS}/page-dark.png")
        self.assertNotEqual(self.browser.run("getComputedStyle(document.body).backgroundColor"), light)
        self.browser.run("theme.click()")
        self.assertEqual(self.browser.run("getComputedStyle(document.body).backgroundColor"), light)
        self.browser.resize(390, 844)
        self.browser.screenshot(f"{SCREENSHOTS}/page-phone.png")
        self.assertLessEqual(self.browser.run("document.documentElement.scrollWidth"), 390)
        self.assertEqual(self.browser.run("getComputedStyle(side).display"), "none")
        self.browser.run("menu.click()")
        self.assertEqual(self.browser.run("getComputedStyle(side).display"), "flex")
        self.browser.press("Escape", 27)
        self.browser.resize(1200, 800)

    def test_stopping(self):
        self.set("max_tokens", "8000")
        self.set("temperature", "0")
        self.ask("hello")
        self.browser.wait("!document.querySelector('#stop').hidden && document.querySelector('article.assistant')?.children[1].textContent.length > 20")
        self.browser.press("Escape", 27)
        self.wait_for_end()
        self.browser.wait("!document.querySelector('.writing')")
        self.assertGreater(len(self.answers()[0]), 20)

    def test_without_a_mouse_and_without_eyes(self):
        self.browser.press("Tab", 9)  # from the question, where one begins
        self.assertNotIn(self.browser.run("document.activeElement.id"), ("", "question"))
        self.browser.run("settings.open = true")
        nodes = self.browser.call("Accessibility.getFullAXTree")["nodes"]
        names = {}
        for node in nodes:
            names.setdefault(node.get("role", {}).get("value"), []).append(node.get("name", {}).get("value", ""))
        for role in ("button", "textbox", "spinbutton", "link", "image", "log", "complementary", "navigation"):
            self.assertTrue(names.get(role), role)
            self.assertNotIn("", names[role], role)
        self.assertGreaterEqual(len(names["spinbutton"]), 6)

    def test_every_text_can_be_read(self):
        """Contrasts as WCAG wants them, 4.5, by light and in the dark."""
        pairs = [("text", "back"), ("text", "raised"), ("quiet", "back"), ("quiet", "raised"), ("accent", "back"), ("on-accent", "accent"), ("bad", "back"),
                 *((ink, "code") for ink in ("text", "quiet", "word", "string", "comment", "number"))]
        for dark in (False, True):
            self.browser.scheme(dark=dark)
            colours = self.browser.run("(() => { const s = getComputedStyle(document.documentElement); return Object.fromEntries("
                                       f"{sorted({name for pair in pairs for name in pair})}.map(n => [n, s.getPropertyValue('--' + n).trim()])); }})()")
            for ink, ground in pairs:
                with self.subTest(dark=dark, ink=ink, ground=ground):
                    a, b = sorted(map(luminance, (colours[ink], colours[ground])))
                    self.assertGreaterEqual((b + 0.05) / (a + 0.05), 4.5)

    def test_nothing_comes_from_elsewhere(self):
        loaded = self.browser.run("performance.getEntriesByType('resource').map(each => each.name)")
        self.assertGreaterEqual(len(loaded), 3)
        for url in loaded:
            self.assertTrue(url.startswith((self.server.url, "data:")), url)

    def test_what_is_refused_is_said(self):
        self.set("top_p", "7")
        self.ask("hello")
        self.browser.wait("!notice.hidden")
        self.assertIn("top_p", self.browser.run("notice.textContent"))
        self.assertEqual(self.answers(), [])
        self.browser.problems.clear()  # the console says of every 400 that it is one

    def test_markdown_is_text(self):
        self.browser.run("window.drawn = import('./markdown.js').then(m => { const d = document.createElement('div'); "
                         f"d.append(m.rendered({MARKDOWN!r})); window.box = d; document.body.append(d); return 1; }})")
        self.browser.wait("window.box !== undefined")
        count = lambda selector: self.browser.run(f"box.querySelectorAll({selector!r}).length")
        for selector, n in (("h3", 1), ("em", 1), ("strong", 2), ("a[href='https://example.org']", 1), ("a", 1), ("b", 0), ("script", 0),
                            ("ul > li", 2), ("ul ol > li", 1), ("blockquote", 1), ("tbody td", 2), ("figure", 2), (".comment", 1), (".string", 1)):
            with self.subTest(selector):
                self.assertEqual(count(selector), n)
        self.assertIn("<b onclick=x>", self.browser.run("box.textContent"))
        self.assertIn("<script>", self.browser.run("box.textContent"))


if __name__ == "__main__":
    unittest.main(verbosity=1)
