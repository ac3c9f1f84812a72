#!/usr/bin/env python3
"""An agent with OpenAI's client, a tool that reads files, and a real small model: the loop that every coding agent runs.

The model is too weak to choose when to call, so the first turn must; what it calls with, and the answer, are its own."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

try:
    import openai
except ImportError as missing:
    print(f"skipped: {missing} (tests/requirements.txt)")
    sys.exit(77)

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from http_server import PROGRAM, Server  # noqa: E402

FETCH = pathlib.Path(__file__).parent.parent / "scripts" / "fetch-model"
FILES = {"meeting.txt": "The meeting is on Tuesday at 9 o'clock in the library.", "shopping.txt": "Milk, bread and apples."}
TOOL = {"type": "function", "function": {
    "name": "read_file", "description": "Reads a text file and returns what it says.", "parameters": {
        "type": "object", "properties": {"path": {"type": "string", "enum": list(FILES), "description": "The name of the file."}},
        "required": ["path"], "additionalProperties": False}}}


def setUpModule():
    global MODEL, SERVER, CLIENT
    fetched = subprocess.run([FETCH, "smollm2"], capture_output=True, text=True)
    if fetched.returncode != 0:
        print(f"skipped: {fetched.stderr.strip()}")
        sys.exit(77)
    MODEL = fetched.stdout.strip()
    SERVER = Server(PROGRAM, MODEL, "--served-name", "smollm2")
    CLIENT = openai.OpenAI(base_url=SERVER.url + "/v1", api_key="none", max_retries=0)


def tearDownModule():
    assert SERVER.end() == 0


class AgentTest(unittest.TestCase):
    def ask(self, messages, is_streamed, **more):
        asked = {"model": "smollm2", "messages": messages, "tools": [TOOL], "temperature": 0, "max_tokens": 120, **more}
        if not is_streamed:
            return CLIENT.chat.completions.create(**asked).choices[0]
        with CLIENT.chat.completions.stream(**asked) as stream:
            return stream.get_final_completion().choices[0]

    def test_it_reads_the_file_and_answers(self):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in FILES.items():
                pathlib.Path(folder, name).write_text(text)
            for is_streamed in (False, True):
                messages = [{"role": "user", "content": "On which day is the meeting? Read meeting.txt to find out."}]
                choice = self.ask(messages, is_streamed, tool_choice="required", parallel_tool_calls=False)
                self.assertEqual(choice.finish_reason, "tool_calls")
                [call] = choice.message.tool_calls
                path = json.loads(call.function.arguments)["path"]
                self.assertEqual((call.function.name, path), ("read_file", "meeting.txt"))
                messages.append(choice.message.to_dict())
                messages.append({"role": "tool", "tool_call_id": call.id, "content": pathlib.Path(folder, path).read_text()})
                answer = self.ask(messages, is_streamed, tool_choice="none")
                self.assertEqual(answer.finish_reason, "stop")
                self.assertIn("Tuesday", answer.message.content)

    def test_the_same_in_the_terminal(self):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in FILES.items():
                pathlib.Path(folder, name).write_text(text)
            read = f"cd {folder} && cat \"$({sys.executable} -c 'import json, sys; print(json.load(sys.stdin)[\"path\"])')\""
            done = subprocess.run([PROGRAM, "run", MODEL, "On which day is the meeting? Read meeting.txt to find out.", "--json",
                                   "--tools", json.dumps([TOOL]), "--tool-choice", "required", "--tool", "read_file=" + read,
                                   "--temperature", "0", "--max-tokens", "120"], capture_output=True, text=True, timeout=300)
            self.assertEqual(done.returncode, 0, done.stderr)
            out = json.loads(done.stdout)
            self.assertEqual({said["content"] for said in out["messages"] if said["role"] == "tool"}, {FILES["meeting.txt"]})
            self.assertEqual((out["finish_reason"], out["tool_calls"]), ("stop", []))
            self.assertIn("Tuesday", out["text"])

    def test_what_it_calls_by_itself_is_valid(self):
        for seed in range(4):
            messages = [{"role": "user", "content": "Read shopping.txt with the tool."}]
            choice = self.ask(messages, False, temperature=1.0, seed=seed)
            for call in choice.message.tool_calls or ():
                self.assertIn(json.loads(call.function.arguments)["path"], FILES)
            self.assertNotIn("<tool_call>", choice.message.content or "")


if __name__ == "__main__":
    unittest.main()
