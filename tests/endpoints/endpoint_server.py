"""A server on loopback that speaks the protocol, and does what servers do: it fails."""

from __future__ import annotations

import base64
import io
import json
import struct
import threading
import time
import wave
from collections.abc import Callable
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

MODELS = ("tiny-llm", "tiny-image", "tiny-speech", "tiny-asr")


def png(value: int = 100) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 12), (value, 20, 200)).save(file, "PNG")
    return file.getvalue()


def wav(text: str, rate: int = 16_000) -> bytes:
    """A tone of a tenth of a second per letter: what is said can be measured."""
    n = max(1, len(text)) * rate // 10
    tone = (8000 * np.sin(np.arange(n) * 2 * np.pi * 440 / rate)).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(tone.tobytes())
    return file.getvalue()


def chat(content: str | None, finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {
        "choices": [
            {
                "finish_reason": finish,
                "message": {"role": "assistant", "content": content, **message},
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


def told(body: dict[str, Any]) -> str:
    """All the words of a chat request."""
    words = []
    for message in body["messages"]:
        content = message["content"]
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        words += [part["text"] for part in parts if part["type"] == "text"]
    return "\n".join(words)


class Fault:
    """What is sent in place of an answer."""

    def __init__(
        self,
        status: int = 200,
        body: bytes | dict[str, Any] | list[Any] = b"{}",
        *,
        cut: int | None = None,
        delay: float = 0.0,
        drip: float = 0.0,
        **headers: str,
    ) -> None:
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.cut, self.delay, self.drip = cut, delay, drip
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class FakeServer:
    """Answers by ``reply``; the faults in ``faults`` are sent first, one for each request."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.times: list[float] = []
        self.faults: list[Fault] = []
        self.delay = 0.0
        self.most_at_once = 0
        self.models: tuple[str, ...] | None = MODELS
        self.reply: Callable[[str, Any], bytes | dict[str, Any] | Fault] = default_reply
        self._at_once = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                if self.path != "/v1/models" or outer.models is None:
                    self._send(Fault(404, {"error": {"message": "no such path"}}))
                    return
                listed = [{"id": name, "object": "model"} for name in outer.models]
                self._send(Fault(200, {"object": "list", "data": listed}))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with outer._lock:
                    outer.requests.append((self.path, dict(self.headers), body))
                    outer.times.append(time.monotonic())
                    outer._at_once += 1
                    outer.most_at_once = max(outer.most_at_once, outer._at_once)
                    fault = outer.faults.pop(0) if outer.faults else None
                if fault is None:
                    time.sleep(outer.delay)
                    is_json = self.headers["Content-Type"] == "application/json"
                    answer = outer.reply(self.path, json.loads(body) if is_json else body)
                    fault = answer if isinstance(answer, Fault) else Fault(200, answer)
                with outer._lock:  # before it is sent: the client may then send the next at once
                    outer._at_once -= 1
                self._send(fault)

            def _send(self, fault: Fault) -> None:
                time.sleep(fault.delay)
                self.close_connection = True
                try:
                    self.send_response(fault.status)
                    for name, value in fault.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(fault.body)))
                    self.end_headers()
                    body = fault.body if fault.cut is None else fault.body[: fault.cut]
                    for k in range(0, len(body), 1 if fault.drip else max(1, len(body))):
                        self.wfile.write(body[k : k + 1] if fault.drip else body)
                        time.sleep(fault.drip)
                    if fault.cut is not None:  # a reset, as of a server that was killed
                        linger = struct.pack("ii", 1, 0)
                        self.connection.setsockopt(1, 13, linger)
                except OSError:
                    pass  # the client went away, and that is what some tests want

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, _, body in self.requests]

    def hashes(self) -> list[str]:
        return [sha256(body).hexdigest() for _, _, body in self.requests]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def default_reply(path: str, body: Any) -> bytes | dict[str, Any]:
    """A model that is easy to check: it says how many words it was told."""
    if path.endswith("/audio/speech"):
        return wav(body["input"])
    if path.endswith("/audio/transcriptions"):
        return {"text": f"heard {len(body)} bytes"}
    if "/images/" in path:
        return {"data": [{"b64_json": base64.b64encode(png()).decode()}]}
    return chat(f"answer to {sha256(told(body).encode()).hexdigest()[:8]}")
