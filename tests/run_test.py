#!/usr/bin/env python3
"""The conversation in the terminal (through a pty), and what the computing verbs must refuse instead of ignoring it.

Runs the built program on small files made here. Standard library only; cli_test.py has the contract of every verb."""

import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny_gguf  # noqa: E402

PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else "build/release/millrace"
FOLDER = tempfile.TemporaryDirectory(prefix="millrace-run-")
TEMPLATE = ("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
            "[assistant]{% if enable_thinking %}think{% endif %}")
CONTEXT = 32768  # long enough for an answer that only Ctrl-C ends


def path_of(name, content):
    path = pathlib.Path(FOLDER.name, name)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


MODEL = path_of("tiny.gguf", tiny_gguf.tiny_gguf(TEMPLATE, context=CONTEXT))
NO_TOKENIZER = path_of("bare.gguf", tiny_gguf.tiny_gguf(None, has_tokenizer=False))
BOUNDLESS = path_of("boundless.gguf", tiny_gguf.tiny_gguf(TEMPLATE, context=2**31 - 1))


TOOLS = [
    {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {
        "type": "object", "properties": {"at": {"enum": ["sun", "moon"]}}, "required": ["at"], "additionalProperties": False}}},
    {"type": "function", "function": {"name": "wait"}},
]


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, *arguments):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(PROGRAM, [PROGRAM, *arguments])
        self.text = ""

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def wait_for(self, pattern, seconds=60):
        """Reads until `pattern` appears, and forgets what stands before its end."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.text)):
            ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
            data = b""
            if ready:
                try:
                    data = os.read(self.fd, 65536)
                except OSError:  # how Linux says that the other end is closed
                    pass
            if not data:
                raise AssertionError(f"{pattern!r} does not appear in {self.text[-300:]!r}")
            self.text += data.decode(errors="replace")
        self.text = self.text[found.end():]

    def status(self):
        """The exit status, once the program has closed the terminal; minus the signal that ended it."""
        try:
            while select.select([self.fd], [], [], 10)[0] and os.read(self.fd, 65536):
                pass
        except OSError:
            pass
        os.close(self.fd)  # a program that is still there is hung up on
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def prompt_of(sign):
    return re.escape(f"\r{sign} \x1b[K")


PROMPT = prompt_of(">")
GREEDY = ["--ignore-eos", "--temperature", "0"]


class TerminalTest(unittest.TestCase):
    def test_a_conversation(self):
        chat = Terminal("run", MODEL, "--ctx", str(CONTEXT), *GREEDY)
        chat.wait_for(PROMPT)
        chat.type("/help\r")
        chat.wait_for("/clear")
        chat.wait_for(PROMPT)
        chat.type("first\x7f\x7f\r")
        chat.wait_for("\r\n.{20}")
        chat.type("\x03")  # stops the answer and not the program
        chat.wait_for(re.escape("[stopped]"))
        chat.wait_for(PROMPT)
        chat.type("\x03\x1b[A")  # harmless at the prompt; the last line comes back
        chat.wait_for("> fir\x1b")
        chat.type("\x15/frob\r")
        chat.wait_for("/frob is nothing I know")
        chat.wait_for(PROMPT)
        chat.type('"""one\r')
        chat.wait_for(r"\. \x1b")
        chat.type('two"""\r')
        chat.wait_for("\r\n.{20}")
        chat.type("\x03")
        chat.wait_for(PROMPT)
        chat.type("/exit\r")
        self.assertEqual(chat.status(), 0)

    def test_results_of_tools_are_asked_for(self):
        asked = ["run", MODEL, "--tools", json.dumps(TOOLS), "--tool-choice", "look", "--temperature", "1", "--max-tokens", "200"]
        for seed in range(20):  # one with which the model calls once
            out = RunTest().json_of(*asked, "x", "--seed", str(seed))
            if len(out["tool_calls"]) == 1:
                break
        chat = Terminal(*asked, "--seed", str(seed))
        chat.wait_for(PROMPT)
        chat.type("x\r")
        chat.wait_for(f"call look {re.escape(out['tool_calls'][0]['function']['arguments'])}\r\n")
        chat.wait_for(prompt_of("result>"))
        chat.type("it shines\r")
        chat.wait_for("\r\n.{20}")
        chat.type("\x03")
        chat.wait_for(PROMPT)
        chat.type("/retry\r")
        chat.wait_for(r"call look \{")
        chat.wait_for(prompt_of("result>"))
        chat.type("\x04")  # the end of the input
        self.assertEqual(chat.status(), 0)

    def test_an_interrupted_answer_ends_like_any_interrupted_program(self):
        one = Terminal("run", MODEL, "x", "--ctx", str(CONTEXT), *GREEDY)
        one.wait_for(".{20}")
        one.type("\x03")
        self.assertEqual(one.status(), -signal.SIGINT)


class RunTest(unittest.TestCase):
    def json_of(self, *arguments, stdin=""):
        done = subprocess.run([PROGRAM, *arguments, "--json"], input=stdin, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, (arguments, done.stderr))
        return json.loads(done.stdout)

    def refused(self, status, words, *arguments):
        done = subprocess.run([PROGRAM, *arguments], input="", capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stdout), (status, ""), (arguments, done.stderr))
        self.assertRegex(done.stderr, r"\Amillrace: [^\n]+\n\Z")
        self.assertIn(words, done.stderr)

    def test_the_reported_seed_gives_the_answer_again(self):
        request = ["run", MODEL, "abc", "--max-tokens", "40", "--ignore-eos", "--temperature", "1.5", "--top-p", "0.9"]
        first = self.json_of(*request)
        again = self.json_of(*request, "--seed", first["seed"], "--threads", "2")
        self.assertEqual(first["token_ids"], again["token_ids"])
        self.assertNotEqual(first["token_ids"], self.json_of(*request)["token_ids"])

    def test_the_prompt(self):
        n_of = lambda *arguments, **more: self.json_of(*arguments, "--max-tokens", "1", **more)["usage"]["prompt_tokens"]
        self.assertEqual(n_of("run", MODEL, "Hxyz"), len("[user]Hxyz[assistant]"))
        self.assertEqual(n_of("run", MODEL, stdin="Hxyz"), len("[user]Hxyz[assistant]"))
        self.assertEqual(n_of("run", MODEL, "A", stdin="B"), len("[user]A\n\nB[assistant]"))
        self.assertEqual(n_of("run", MODEL, "A", "--system", "S"), len("[system]S[user]A[assistant]"))
        self.assertEqual(n_of("run", MODEL, "Hxyz", "--raw"), 4)
        self.assertEqual(n_of("run", MODEL, "A", "--think"), len("[user]A[assistant]think"))

    def test_stop_strings(self):
        request = ["run", MODEL, "x", *GREEDY, "--max-tokens", "60"]
        text = self.json_of(*request)["text"]
        stopped = self.json_of(*request, "--stop", text[3:5])
        self.assertEqual(stopped["text"], text[:text.index(text[3:5])])
        self.assertEqual(stopped["finish_reason"], "stop")

    def test_grammars(self):
        schema = '{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}'
        lark = path_of("list.lark", 'start: "[" [N ("," N)*] "]"\nN: /[0-9]{1,3}/')
        gbnf = path_of("pairs.gbnf", 'root ::= ("a" "b"){1,3}')
        for flags, pattern in ((["--regex", "(ab|c){2,4}d"], r"(ab|c){2,4}d"), (["--json-schema", schema], r'\{\s*"a":\s?.*'),
                               (["--json-schema", path_of("s.json", schema)], r'\{\s*"a":\s?.*'),
                               (["--choice", "yes", "--choice", "no"], "yes|no"), (["--grammar", gbnf], "(ab){1,3}"),
                               (["--grammar", lark], r"\[(\d{1,3}(,\d{1,3})*)?\]?.*")):
            out = self.json_of("run", MODEL, "hi", "--temperature", "1.5", "--max-tokens", "60", *flags)
            if out["finish_reason"] == "stop":
                self.assertRegex(out["text"], f"(?s)^(?:{pattern})$")
        self.refused(2, "looking around", "run", MODEL, "hi", "--regex", "a(?=b)")
        self.refused(2, '"not"', "run", MODEL, "hi", "--json-schema", '{"not":{}}')
        self.refused(2, "only one of", "run", MODEL, "hi", "--regex", "a", "--choice", "b")
        self.refused(2, "--ignore-eos", "run", MODEL, "hi", "--regex", "a", "--ignore-eos")

    def called(self, *arguments):
        """The first of some answers that ends with calls."""
        for seed in range(20):
            out = self.json_of("run", MODEL, "hi", "--tools", json.dumps(TOOLS), "--temperature", "1.5", "--max-tokens", "300",
                               "--seed", str(seed), *arguments)
            if any("tool_calls" in said for said in out["messages"]):
                return out
        raise AssertionError("no answer ends")

    def test_calls_of_tools(self):
        for choice, names in (("required", {"look", "wait"}), ("wait", {"wait"}), ("look", {"look"})):
            out = self.called("--tool-choice", choice)
            self.assertEqual(out["finish_reason"], "tool_calls")
            self.assertGreater(len(out["tool_calls"]), 0)
            self.assertEqual([said["role"] for said in out["messages"]], ["user", "assistant"])
            self.assertEqual(out["messages"][1]["tool_calls"], out["tool_calls"])
            for call in out["tool_calls"]:
                name, arguments = call["function"]["name"], json.loads(call["function"]["arguments"])
                self.assertIn(name, names)
                self.assertIn(arguments, [{}] if name == "wait" else [{"at": "sun"}, {"at": "moon"}])
        path = path_of("tools.json", json.dumps(TOOLS))
        shown = subprocess.run([PROGRAM, "run", MODEL, "hi", "--tools", path, "--tool-choice", choice, "--temperature", "1.5",
                                "--max-tokens", "300", "--seed", out["seed"]], capture_output=True, text=True, timeout=60)
        lines = [f"call look {call['function']['arguments']}\n" for call in out["tool_calls"]]
        self.assertEqual((shown.stdout, shown.stderr), (out["text"] + ("\n" if out["text"] else "") + "".join(lines), ""))

    def test_a_cut_answer_is_told_of(self):
        for more, n, option in ((["--max-tokens", "5"], 5, "--max-tokens"), (["--raw", "--max-tokens", "5"], 5, "--max-tokens"),
                                (["--raw", "--ctx", "16"], 15, "--ctx")):
            request = [PROGRAM, "run", MODEL, "x", *GREEDY, *more]
            cut = subprocess.run(request, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
            self.assertEqual((cut.returncode, cut.stderr),
                             (0, f"warning: the answer was cut after {n} tokens: allow more with {option}\n"))
            said = subprocess.run([*request, "--json"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
            self.assertEqual((json.loads(said.stdout)["finish_reason"], said.stderr), ("length", ""))
        whole = subprocess.run([PROGRAM, "run", MODEL, "x", "--choice", "no"], stdin=subprocess.DEVNULL, capture_output=True,
                               text=True, timeout=60)
        self.assertEqual((whole.returncode, whole.stderr), (0, ""))

    def test_a_cut_call_is_told_of(self):
        n_told = 0
        for n in range(1, 40, 3):
            cut = subprocess.run([PROGRAM, "run", MODEL, "hi", "--tools", json.dumps(TOOLS), "--tool-choice", "look", "--temperature", "0",
                                  "--max-tokens", str(n)], capture_output=True, text=True, timeout=60)
            self.assertEqual(cut.returncode, 0)
            n_told += "within a call" in cut.stderr
            self.assertTrue(cut.stdout != "\n" or "within a call" in cut.stderr, (n, cut))
        self.assertGreater(n_told, 0)

    def test_commands_answer_calls(self):
        seen = path_of("seen", "")
        out = self.called("--tool-choice", "look", "--tool", f"look=cat >> {seen}; echo bright; exit 3")
        calls = [call for said in out["messages"] for call in said.get("tool_calls", [])]
        results = [said for said in out["messages"] if said["role"] == "tool"]
        self.assertEqual(out["tool_calls"], [])
        self.assertEqual(out["messages"][-1]["role"], "assistant")
        self.assertEqual([call["id"] for call in calls], [result["tool_call_id"] for result in results])
        self.assertEqual({result["content"] for result in results}, {"bright\n\n[the command ended with status 3]"})
        self.assertEqual(pathlib.Path(seen).read_text(), "".join(call["function"]["arguments"] for call in calls))
        long = subprocess.run([PROGRAM, "run", MODEL, "hi", "--tools", json.dumps(TOOLS), "--temperature", "1.5", "--max-tokens", "300",
                               "--seed", out["seed"], "--tool-choice", "look", "--tool", "look=head -c 99999 /dev/zero | tr '\\0' a"],
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(long.returncode, 2)
        self.assertRegex(long.stderr, r"\A(call look [^\n]*\n)+millrace: [^\n]*context[^\n]*\n\Z")
        out = self.called("--tool-choice", "look", "--tool", "wait=touch " + seen + "2")
        self.assertEqual(out["finish_reason"], "tool_calls")  # another tool's
        self.assertFalse(pathlib.Path(seen + "2").exists())

    def test_tools_are_refused_by_name(self):
        run = ("run", MODEL, "hi")
        tools = ("--tools", json.dumps(TOOLS))
        self.refused(2, "--tool-choice needs --tools", *run, "--tool-choice", "auto")
        self.refused(2, "--tool needs --tools", *run, "--tool", "look=true")
        self.refused(2, "there is no tool see", *run, *tools, "--tool-choice", "see")
        self.refused(2, "there is no tool see", *run, *tools, "--tool", "see=true")
        self.refused(2, "expected NAME=COMMAND", *run, *tools, "--tool", "look")
        self.refused(2, "two commands", *run, *tools, "--tool", "look=a", "--tool", "look=b")
        self.refused(2, "none in the list", *run, "--tools", "[]")
        self.refused(2, "tools[0].function", *run, "--tools", '[{"type": "function"}]')
        self.refused(2, "tools[0].function.arguments", *run, "--tools", '[{"function": {"name": "f", "arguments": 1}}]')
        self.refused(2, "JSON", *run, "--tools", path_of("no.json", "{"))
        for option in ("--tools", "--json-schema", "--grammar"):
            self.refused(2, "cannot open", *run, option, "no-such-file")
        self.refused(2, '"not"', *run, "--tools", '[{"function": {"name": "f", "parameters": {"not": {}}}}]')
        self.refused(2, "--raw", *run, *tools, "--raw")
        self.refused(2, "--ignore-eos", *run, *tools, "--ignore-eos")

    def test_nothing_is_ignored(self):
        self.refused(2, "--tokens", "run", MODEL, "x", "--tokens", "1,2")
        self.refused(2, "--system", "run", MODEL, "--tokens", "1,2", "--system", "s")
        self.refused(2, "--system", "run", MODEL, "x", "--raw", "--system", "s")
        self.refused(2, "--think", "run", MODEL, "x", "--raw", "--think")
        self.refused(2, "--no-think", "run", MODEL, "x", "--think", "--no-think")
        self.refused(2, "--stop", "run", NO_TOKENIZER, "--tokens", "1", "--stop", "s")
        no_switch = path_of("no-switch.gguf", tiny_gguf.tiny_gguf())
        self.refused(2, "reasoning", "run", no_switch, "x", "--no-think")

    def test_snapshots(self):
        """They cost memory and change no token; a model without recurrent layers has none."""
        self.refused(2, "recurrent", "run", MODEL, "x", "--snapshots", "4")
        self.refused(2, "recurrent", "run", MODEL, "x", "--snapshot-distance", "4")
        recurrent = os.path.join(os.environ.get("MILLRACE_DATA_DIR", "/nowhere"), "goldens", "qwen3_next")
        if not os.path.isdir(recurrent):
            self.skipTest(f"there is no folder {recurrent}")
        request = ["run", recurrent, "--tokens", ",".join(map(str, range(3, 60))), "--max-tokens", "6", "--temperature", "0"]
        few = self.json_of(*request, "--snapshots", "1", "--snapshot-distance", "32")
        self.assertEqual(few["token_ids"], self.json_of(*request)["token_ids"])
        self.refused(4, "of memory", *request, "--snapshots", "2000000000")
        self.refused(2, "snapshots", *request, "--snapshots", "0")
        self.refused(2, "snapshots", *request, "--snapshot-distance", "0")

    def test_bench_of_embeddings(self):
        embeds = os.path.join(os.environ.get("MILLRACE_DATA_DIR", "/nowhere"), "goldens", "bert")
        if not os.path.isdir(embeds):
            self.skipTest(f"there is no folder {embeds}")
        found = self.json_of("bench", embeds, "--pp", "16", "--batch", "2", "--repeat", "1")
        self.assertEqual((found["embed"]["n_tokens"], found["batch"]), (16, 2))
        self.assertGreater(found["embed"]["tokens_per_s"]["min"], 0)
        for flag, value in (("--tg", "4"), ("--depth", "4"), ("--pp", "0")):
            self.refused(2, "embeddings", "bench", embeds, flag, value)

    def test_what_does_not_fit(self):
        self.refused(4, "of memory", "run", BOUNDLESS, "x", "--ctx", str(2**31 - 1), "--kv-type", "f32")
        self.refused(4, "of memory", "bench", BOUNDLESS, "--pp", "16000000", "--batch", "512")
        self.refused(2, "context", "run", MODEL, "a long prompt", "--ctx", "16")

    def test_types_of_keys_and_values(self):
        text = path_of("text", "It was a dark and stormy night. " * 8)
        for request in (["run", MODEL, "x"], ["bench", MODEL], ["perplexity", MODEL, text, "--ctx", "32"],
                        ["logits", MODEL, "--tokens", "1", "--output", text + ".npy"]):
            self.refused(2, "--kv-type q9 is not known; known: f32, f16, bf16, q8_0, q4_0", *request, "--kv-type", "q9")
            self.refused(2, "blocks of 32 elements", *request, "--kv-type", "q8_0")

    def test_forms_of_latents(self):
        self.refused(2, "--latents both is not known; known: absorbed, expanded", "run", MODEL, "x", "--latents", "both")
        self.refused(2, "architecture llama has no latent attention", "run", MODEL, "x", "--latents", "expanded")
        self.refused(2, "--latents absorbed", "imatrix", MODEL, "--tokens", "1", "-o", path_of("m", ""), "--latents", "expanded")
        latent = os.path.join(os.environ.get("MILLRACE_DATA_DIR", "/nowhere"), "goldens", "deepseek_v2_lite")
        if not os.path.isdir(latent):
            self.skipTest(f"there is no folder {latent}")
        ids = [self.json_of("run", latent, "--tokens", "1,2,3", "--max-tokens", "8", "--temperature", "0", "--latents", form)["token_ids"]
               for form in ("absorbed", "expanded")]
        self.assertEqual(*ids)

    def test_perplexity(self):
        text = path_of("text", "It was a dark and stormy night. " * 8)
        report = self.json_of("perplexity", MODEL, text, "--ctx", "32")
        self.assertGreater(report["perplexity"], 1)
        self.assertEqual((report["n_windows"], report["n_tokens"]), (8, 8 * 15))


if __name__ == "__main__":
    unittest.main(verbosity=1)
