"""An engine that gives every question one answer: `gpu_one_answer.py ANSWER … --port PORT …`.

It takes vLLM's command line; what a reproduction does with right and wrong scores needs no model.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWER = sys.argv[1]
PORT = int(sys.argv[sys.argv.index("--port") + 1])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer({})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/tokenize":
            self.answer({"tokens": [1, 2]})
            return
        usage = {"prompt_tokens": 100, "completion_tokens": 4}
        if "prompt_logprobs" in body:
            # The first token has no log-probability; each byte is a token, all as likely.
            told = [{str(byte): {"logprob": -1.0}} for byte in body["prompt"].encode()[1:]]
            self.answer({"choices": [{"text": "", "prompt_logprobs": [None, *told]}]})
            return
        message = {"role": "assistant", "content": ANSWER}
        self.answer({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})

    def answer(self, content: object) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
