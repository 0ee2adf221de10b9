"""The client against a real HTTP server that fails in the ways servers fail."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import pytest
from endpoint_server import FakeServer, Fault, chat, told
from pydantic import BaseModel, ConfigDict, Field

from evalsuite.errors import DataError, UsageError
from evalsuite.generators import Dropped, Refused
from evalsuite.generators.endpoints.client import (
    CHAT,
    Budget,
    BudgetError,
    EndpointError,
    Rejected,
    Request,
    Session,
    Truncated,
    current_session,
)
from evalsuite.generators.endpoints.journal import Journal
from evalsuite.hosts import HostError, Server


def ask(text: str = "hello", model: str = "tiny-llm", seed: int = 0) -> Request:
    messages = [{"role": "user", "content": text}]
    return Request(CHAT, {"model": model, "messages": messages, "seed": seed}, prompt="p" * 64)


class Score(BaseModel):
    model_config = ConfigDict(extra="forbid")

    score: int = Field(ge=0, le=10)
    verdict: Literal["same", "other"]


# What is paid for is paid for once


def test_an_answer_is_paid_for_once(session: Session, server: FakeServer) -> None:
    first = session.client().chat(ask())
    assert session.client().chat(ask()) == first
    assert len(server.requests) == 1
    assert session.client().chat(ask(seed=1)) is not None
    assert len(server.requests) == 2
    used = session.usage
    assert (used.calls, used.from_journal, used.answered) == (2, 1, 3)
    assert (used.tokens_in, used.tokens_out) == (14, 6)


def test_threads_that_ask_the_same_pay_once(session: Session, server: FakeServer) -> None:
    server.delay = 0.1
    client = session.client()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: client.chat(ask()), range(4)))
    assert len(set(answers)) == 1
    assert len(server.requests) == 1


def test_another_address_of_the_server_asks_for_nothing(server: FakeServer, tmp_path: Path) -> None:
    with Session(tmp_path / "a.sqlite", url=server.url) as first:
        answer = first.client().chat(ask())
    with Session(tmp_path / "a.sqlite", url="http://127.0.0.1:9/v1") as second:
        assert second.client().chat(ask()) == answer


@pytest.mark.parametrize(
    "other",
    [
        ask(model="tiny-image"),
        ask(text="hello!"),
        Request(CHAT, ask().body, prompt="q" * 64),
        Request(CHAT, ask().body, prompt="p" * 64, draw={"seed": 1}),
        Request("/other", ask().body, prompt="p" * 64),
    ],
)
def test_the_key_is_of_all_that_the_answer_depends_on(other: Request) -> None:
    assert other.key() != ask().key()
    assert ask().key(Score.model_json_schema()) != ask().key()
    reordered = dict(reversed(ask().body.items()))
    assert Request(CHAT, reordered, prompt="p" * 64).key() == ask().key()


KILLED = """
import sys
from concurrent.futures import ThreadPoolExecutor
from evalsuite.generators.endpoints.client import CHAT, Request, Session

def ask(k):
    messages = [{"role": "user", "content": f"item {k}"}]
    return session.client().chat(Request(CHAT, {"model": "tiny-llm", "messages": messages}))

with Session(sys.argv[1], url=sys.argv[2], concurrency=2) as session:
    with ThreadPoolExecutor(2) as pool:
        print(*pool.map(ask, range(40)), sep="\\n")
"""


def test_a_killed_run_pays_for_nothing_twice(server: FakeServer, tmp_path: Path) -> None:
    server.delay = 0.02
    journal = tmp_path / "a.sqlite"
    command = [sys.executable, "-c", KILLED, str(journal), server.url]
    running = subprocess.Popen(command, stdout=subprocess.PIPE)
    end = time.monotonic() + 30
    while len(server.requests) < 15 and time.monotonic() < end:
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert running.returncode == -signal.SIGKILL
    paid = len(server.requests)
    with sqlite3.connect(journal) as db:
        kept = db.execute("SELECT count(*) FROM answers").fetchone()[0]
    assert 10 <= kept < 40
    # What was under way when it was killed is all that is asked for again.
    assert paid - kept <= 2
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert len(done.stdout.splitlines()) == 40
    assert len(server.requests) == paid + 40 - kept
    asked = Counter(server.hashes())
    assert len(asked) == 40
    assert sum(asked.values()) - 40 == paid - kept
    again = subprocess.run(command, capture_output=True, check=True, text=True)
    assert again.stdout == done.stdout
    assert len(server.requests) == paid + 40 - kept


# Faults that pass


def test_retry_after_is_honoured(session: Session, server: FakeServer) -> None:
    server.faults = [Fault(429, {"error": {"message": "slow down"}}, Retry_After="1")]
    session.client().chat(ask())
    assert len(server.requests) == 2
    assert server.times[1] - server.times[0] >= 0.99
    assert session.usage.retries == 1


def test_a_pause_holds_for_all_requests(session: Session, server: FakeServer) -> None:
    server.faults = [Fault(429, Retry_After="1")]
    client = session.client()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.chat, ask("a"))
        time.sleep(0.2)
        second = pool.submit(client.chat, ask("b"))
        first.result(), second.result()
    assert min(server.times[1:]) - server.times[0] >= 0.99


def test_a_date_is_a_retry_after_too(session: Session, server: FakeServer) -> None:
    from email.utils import formatdate

    server.faults = [Fault(503, Retry_After=formatdate(time.time() + 2, usegmt=True))]
    session.client().chat(ask())
    assert server.times[1] - server.times[0] >= 0.9


def test_a_server_that_asks_for_an_hour_ends_the_run(session: Session, server: FakeServer) -> None:
    server.faults = [Fault(429, Retry_After="3600")]
    with pytest.raises(EndpointError, match="3600 s"):
        session.client().chat(ask())
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault(500, {"error": {"message": "boom"}}),
        Fault(408),
        Fault(409),
        Fault(502, b"<html>Bad Gateway</html>"),
        Fault(200, chat("cut"), cut=20),
        Fault(200, chat("nothing at all"), cut=0),
        Fault(200, b'{"choices": [{"message": {"content": "half'),
        Fault(200, chat("too late"), delay=1.0),
        Fault(200, chat("drip by drip"), drip=0.05),
    ],
    ids=["500", "408", "409", "502", "cut", "cut at once", "half JSON", "slow", "drips"],
)
def test_faults_that_pass_are_tried_again(fault: Fault, server: FakeServer, tmp_path: Path) -> None:
    server.faults = [fault]
    with Session(tmp_path / "a.sqlite", url=server.url, backoff=0.01, timeout=0.5) as session:
        assert session.client().chat(ask()).startswith("answer to")
        assert session.usage.retries == 1
        assert not session.dead_letters()
    assert len(server.requests) == 2


def test_waits_grow_and_are_not_the_same(server: FakeServer, tmp_path: Path) -> None:
    # Full jitter: uniform up to 0.2 · 2^k. Two runs that waited the same would meet again.
    waits = []
    for run in range(2):
        server.times.clear()
        server.faults = [Fault(500)] * 3
        with Session(tmp_path / f"{run}.sqlite", url=server.url, backoff=0.2) as session:
            session.client().chat(ask())
        waits.append([b - a for a, b in zip(server.times, server.times[1:], strict=False)])
    for k in range(3):
        assert max(w[k] for w in waits) <= 0.2 * 2**k + 0.1
    assert max(abs(a - b) for a, b in zip(*waits, strict=True)) > 0.01


# Faults that stay


def test_failures_are_never_kept_and_are_listed(session: Session, server: FakeServer) -> None:
    server.faults = [Fault(400, {"error": {"message": "too long a context"}})]
    with pytest.raises(Rejected, match=r"400: .*too long a context"):
        session.client().chat(ask())
    (letter,) = session.dead_letters()
    assert (letter.model, letter.path) == ("tiny-llm", CHAT)
    assert "too long a context" in letter.reason
    assert letter.key == ask().key()
    assert session.usage.failed == 1
    assert session.client().chat(ask())  # asked again, and it goes well
    assert len(server.requests) == 2
    assert not session.dead_letters()


def test_a_request_that_always_fails_costs_one_item(session: Session, server: FakeServer) -> None:
    for k in range(3):  # as many as would end the run if they came one after the other
        server.faults = [Fault(500)] * 5
        with pytest.raises(Rejected, match=r"HTTP 500.*5 attempts"):
            session.client().chat(ask(f"poison {k}"))
        assert session.client().chat(ask(f"the next {k}"))
    assert len(session.dead_letters()) == 3


def test_a_server_that_only_fails_ends_the_run(session: Session, server: FakeServer) -> None:
    server.reply = lambda path, body: Fault(503)
    for k in range(2):
        with pytest.raises(Rejected):
            session.client().chat(ask(f"{k}"))
    with pytest.raises(EndpointError, match="3 requests in a row"):
        session.client().chat(ask("2"))


def test_no_server_ends_the_run_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1"
    with (
        Session(tmp_path / "a.sqlite", url=url, backoff=0.01) as session,
        pytest.raises(EndpointError, match="start the server"),
    ):
        session.client().chat(ask())


def test_an_unknown_model_is_named_before_anything_is_sent(
    session: Session, server: FakeServer
) -> None:
    with pytest.raises(EndpointError, match="did you mean 'tiny-llm'"):
        session.client().chat(ask(model="tiny-lm"))
    assert not server.requests


def test_a_server_without_a_list_of_models_is_asked(session: Session, server: FakeServer) -> None:
    server.models = None
    assert session.client().chat(ask(model="any"))


def test_what_the_server_does_not_offer_ends_the_run(session: Session, server: FakeServer) -> None:
    server.reply = lambda path, body: Fault(404, {"error": {"message": "no such route"}})
    with pytest.raises(EndpointError, match="no such route"):
        session.client().chat(ask())


# What models answer


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (chat(None, refusal="I will not."), Refused),
        (chat("", "content_filter"), Refused),
        (chat("I'm sorry, but I can't help with that."), Refused),
        (chat("申し訳ありませんが、そのご要望にはお応えできません。"), Refused),
        (chat("half a sent", "length"), Truncated),
    ],
)
def test_refusals_and_cuts_are_counted_and_kept(
    answer: dict[str, Any], error: type[Dropped], session: Session, server: FakeServer
) -> None:
    server.reply = lambda path, body: answer
    for _ in range(2):
        with pytest.raises(error):
            session.client().chat(ask())
    assert len(server.requests) == 1
    used = session.usage
    assert used.refused + used.truncated == 2
    assert used.answered == used.failed == 0


@pytest.mark.parametrize("text", ["I'm sorry I am late.", "I cannot see any cracks in the cell."])
def test_an_answer_that_only_sounds_like_it_is_no_refusal(
    text: str, session: Session, server: FakeServer
) -> None:
    server.reply = lambda path, body: chat(text)
    assert session.client().chat(ask()) == text


def test_a_refusal_can_be_asked_again(server: FakeServer, tmp_path: Path) -> None:
    server.faults = [Fault(200, chat(None, refusal="no"))]
    with Session(tmp_path / "a.sqlite", url=server.url) as session, pytest.raises(Refused):
        session.client().chat(ask())
    with Session(tmp_path / "a.sqlite", url=server.url, retry_refused=True) as session:
        assert session.client().chat(ask())
        assert session.client().chat(ask())
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "answer",
    [
        {"choices": []},
        {"object": "error"},
        chat("  "),
        chat(None, tool_calls=[{"function": {"name": "rm", "arguments": "{}"}}]),
    ],
)
def test_unusable_answers_are_rejected(
    answer: dict[str, Any], session: Session, server: FakeServer
) -> None:
    server.reply = lambda path, body: answer
    with pytest.raises(Rejected):
        session.client().chat(ask())
    assert len(session.dead_letters()) == 1


# Structured answers


def test_json_schema_comes_first(session: Session, server: FakeServer) -> None:
    server.reply = lambda path, body: chat('{"score": 7, "verdict": "same"}')
    assert session.client().structured(ask(), Score) == Score(score=7, verdict="same")
    sent = server.bodies[0]["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["schema"] == Score.model_json_schema()
    session.client().structured(ask(), Score)
    assert len(server.requests) == 1


def test_json_object_where_schemas_are_not_known(session: Session, server: FakeServer) -> None:
    def reply(path: str, body: dict[str, Any]) -> Any:
        if body["response_format"]["type"] == "json_schema":
            return Fault(400, {"error": {"message": "response_format not supported"}})
        assert "JSON Schema" in told(body)
        return chat('```json\n{"score": 3, "verdict": "other"}\n```')

    server.reply = reply
    assert session.client().structured(ask("a"), Score).score == 3
    assert session.client().structured(ask("b"), Score).score == 3
    kinds = [body["response_format"]["type"] for body in server.bodies]
    assert kinds == ["json_schema", "json_object", "json_object"]  # learned, once


def test_a_wrong_form_is_repaired_once(session: Session, server: FakeServer) -> None:
    server.faults = [Fault(200, chat('{"score": 70, "verdict": "same"}'))]
    server.reply = lambda path, body: chat('{"score": 7, "verdict": "same"}')
    assert session.client().structured(ask(), Score).score == 7
    again = server.bodies[1]["messages"]
    assert [m["role"] for m in again] == ["user", "assistant", "user"]
    assert "score: Input should be less than or equal to 10" in again[2]["content"]
    assert session.usage.repairs == 1
    session.client().structured(ask(), Score)
    assert len(server.requests) == 2


def test_a_form_that_stays_wrong_is_a_dead_letter(session: Session, server: FakeServer) -> None:
    server.reply = lambda path, body: chat("seven, I would say")
    with pytest.raises(Rejected, match="no JSON object"):
        session.client().structured(ask(), Score)
    assert len(server.requests) == 2
    assert len(session.dead_letters()) == 1
    with pytest.raises(Rejected):
        session.client().structured(ask(), Score)
    assert len(server.requests) == 4  # a failure is not kept


def test_a_refusal_is_not_repaired(session: Session, server: FakeServer) -> None:
    server.reply = lambda path, body: chat(None, refusal="no")
    with pytest.raises(Refused):
        session.client().structured(ask(), Score)
    assert len(server.requests) == 1


# Budgets


def test_calls_are_capped_and_a_new_budget_goes_on(server: FakeServer, tmp_path: Path) -> None:
    def run(cap: int) -> int:
        done = 0
        budget = Budget(calls=cap)
        with Session(tmp_path / "a.sqlite", url=server.url, budget=budget) as session:
            for k in range(6):
                session.client().chat(ask(f"{k}"))
                done += 1
        return done

    with pytest.raises(BudgetError, match=r"4 calls is used up after 4 answers"):
        run(4)
    assert len(server.requests) == 4
    assert run(2) == 6
    assert len(server.requests) == 6


def test_the_cap_on_calls_holds_for_threads_and_retries(server: FakeServer, tmp_path: Path) -> None:
    server.faults = [Fault(500)] * 3
    with (
        Session(
            tmp_path / "a.sqlite", url=server.url, budget=Budget(calls=7), backoff=0.01
        ) as session,
        ThreadPoolExecutor(8) as pool,
    ):
        tasks = [pool.submit(session.client().chat, ask(f"{k}")) for k in range(20)]
        ends = [task.exception() for task in tasks]
    assert len(server.requests) == 7
    assert sum(end is None for end in ends) == 4
    assert all(end is None or isinstance(end, BudgetError) for end in ends)


def test_tokens_are_capped(server: FakeServer, tmp_path: Path) -> None:
    with Session(tmp_path / "a.sqlite", url=server.url, budget=Budget(tokens=25)) as session:
        for k in range(3):
            session.client().chat(ask(f"{k}"))
        with pytest.raises(BudgetError, match="25 tokens"):
            session.client().chat(ask("3"))
    assert len(server.requests) == 3


def test_a_cap_on_tokens_needs_a_server_that_counts(server: FakeServer, tmp_path: Path) -> None:
    server.reply = lambda path, body: {"choices": chat("x")["choices"]}
    with (
        Session(tmp_path / "a.sqlite", url=server.url, budget=Budget(tokens=25)) as session,
        pytest.raises(EndpointError, match="does not say how many tokens"),
    ):
        session.client().chat(ask())


def test_seconds_are_capped_also_for_the_request_under_way(
    server: FakeServer, tmp_path: Path
) -> None:
    server.delay = 5
    start = time.monotonic()
    with (
        Session(
            tmp_path / "a.sqlite", url=server.url, budget=Budget(seconds=0.5), attempts=1
        ) as session,
        pytest.raises(BudgetError, match=r"0\.5 seconds"),
    ):
        session.client().chat(ask())
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("cap", [{"calls": 0}, {"tokens": -1}, {"seconds": float("nan")}])
def test_an_empty_budget_is_refused(cap: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="positive"):
        Budget(**cap)


def test_concurrency_is_bounded(server: FakeServer, tmp_path: Path) -> None:
    server.delay = 0.05
    with (
        Session(tmp_path / "a.sqlite", url=server.url, concurrency=3) as session,
        ThreadPoolExecutor(8) as pool,
    ):
        list(pool.map(lambda k: session.client().chat(ask(f"{k}")), range(12)))
    assert 2 <= server.most_at_once <= 3


# Hosts


@pytest.mark.parametrize(
    "host",
    [
        "8.8.8.8",
        "[2606:4700::1111]",
        "169.254.169.254",  # where clouds keep their secrets
        "0.0.0.0",
        "100.64.0.1",
        "[::ffff:8.8.8.8]",
        "[fe80::1]",
    ],
)
def test_public_addresses_are_refused(host: str, tmp_path: Path) -> None:
    with (
        Session(tmp_path / "a.sqlite", url=f"http://{host}/v1") as session,
        pytest.raises(HostError, match="neither loopback nor private"),
    ):
        session.client().chat(ask())


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.1.9", "[::1]", "[fd00::7]"]
)
def test_private_addresses_are_taken(host: str) -> None:
    assert Server.parse(f"http://{host}:8000/v1").addresses() == [host.strip("[]")]


class _Names:
    """A resolver whose answers change, as an attacker's do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: dict[str, list[str]]) -> None:
        self.asked: list[str] = []
        self.connected: list[str] = []
        real_connect = socket.create_connection

        def resolve(host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
            self.asked.append(host)
            found = answers[host]
            ip = found.pop(0) if len(found) > 1 else found[0]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port))]

        def connect(address: tuple[str, int], **kwargs: Any) -> socket.socket:
            self.connected.append(address[0])
            with monkeypatch.context() as plain:
                plain.setattr(socket, "getaddrinfo", real_resolve)
                return real_connect(address, **kwargs)

        real_resolve = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        monkeypatch.setattr(socket, "create_connection", connect)


def test_a_name_that_resolves_to_a_public_address_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = _Names(monkeypatch, {"llm.corp.example": ["93.184.216.34"]})
    with (
        Session(tmp_path / "a.sqlite", url="http://llm.corp.example/v1") as session,
        pytest.raises(HostError, match=r"93\.184\.216\.34"),
    ):
        session.client().chat(ask())
    assert names.connected == []


def test_a_name_that_changes_its_address_is_checked_each_time(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = _Names(monkeypatch, {"llm.corp.example": ["127.0.0.1", "127.0.0.1", "93.184.216.34"]})
    url = f"http://llm.corp.example:{server.port}/v1"
    with Session(tmp_path / "a.sqlite", url=url) as session:
        session.client().chat(ask("a"))
        with pytest.raises(HostError):
            session.client().chat(ask("b"))
    assert names.connected == ["127.0.0.1"] * 2  # to the address that was checked, not the name
    assert server.requests[0][1]["Host"] == f"llm.corp.example:{server.port}"


def test_a_public_host_that_is_allowed_by_name_needs_https(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = _Names(monkeypatch, {"api.example.com": ["93.184.216.34"]})
    allowed = Server.parse("https://api.example.com/v1", ["API.example.com"])
    assert allowed.addresses() == ["93.184.216.34"]
    with (
        Session(
            tmp_path / "a.sqlite", url="http://api.example.com/v1", allow_hosts=("api.example.com",)
        ) as session,
        pytest.raises(HostError, match="https"),
    ):
        session.client().chat(ask())
    assert names.connected == []


def test_a_name_that_is_like_an_allowed_one_is_not_it(monkeypatch: pytest.MonkeyPatch) -> None:
    _Names(monkeypatch, {"api.example.com.evil.net": ["93.184.216.34"]})
    server = Server.parse("https://api.example.com.evil.net/v1", ["api.example.com"])
    with pytest.raises(HostError):
        server.addresses()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(status: int, session: Session, server: FakeServer) -> None:
    server.faults = [Fault(status, Location="http://93.184.216.34/v1/chat/completions")]
    with pytest.raises(HostError, match="not followed"):
        session.client().chat(ask())
    assert len(server.requests) == 1


def test_proxies_of_the_environment_are_not_used(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://93.184.216.34:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    assert session.client().chat(ask())


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1", "127.0.0.1:8000", "http://", "http://127.0.0.1/v1?x=1", "http://h:x"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        Server.parse(url)


# Keys


def test_the_key_is_sent_and_written_nowhere(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-very-secret-0123456789"
    monkeypatch.setenv("EVALSUITE_ENDPOINT_KEY", key)
    server.faults = [Fault(400, {"error": {"message": f"bad request with key {key}"}})]
    with Session(tmp_path / "a.sqlite", url=server.url) as session:
        with pytest.raises(Rejected) as failure:
            session.client().chat(ask())
        session.client().chat(ask())
        assert key not in str(failure.value)
        assert key not in repr(vars(session))
        assert key not in repr(session.dead_letters())
    assert server.requests[0][1]["Authorization"] == f"Bearer {key}"
    assert all(key.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_the_key_is_for_the_sessions_server_only(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVALSUITE_ENDPOINT_KEY", "sk-very-secret")
    with Session(tmp_path / "a.sqlite", url="http://127.0.0.1:9/v1") as session:
        session.client(server.url).chat(ask())  # a recipe may name any private server
    assert server.requests[0][1]["Authorization"] == "Bearer none"


def test_a_wrong_key_ends_the_run(session: Session, server: FakeServer) -> None:
    server.reply = lambda path, body: Fault(401, {"error": {"message": "invalid key"}})
    with pytest.raises(EndpointError, match="EVALSUITE_ENDPOINT_KEY"):
        session.client().chat(ask())
    assert len(server.requests) == 1


def test_a_password_in_the_address_is_refused_and_not_shown() -> None:
    with pytest.raises(UsageError) as failure:
        Server.parse("http://me:hunter2@127.0.0.1/v1")
    assert "hunter2" not in str(failure.value)


# The journal


def test_the_journal_is_for_its_owner_only(session: Session, tmp_path: Path) -> None:
    session.client().chat(ask())
    assert (tmp_path / "answers.sqlite").stat().st_mode & 0o077 == 0


def test_the_journal_holds_no_request(session: Session, tmp_path: Path) -> None:
    session.client().chat(ask("a very private sentence"))
    assert b"very private" not in (tmp_path / "answers.sqlite").read_bytes()


@pytest.mark.parametrize("content", [b"not a database, just text " * 100, None])
def test_another_file_is_not_written_to(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    if content is None:
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE mine (x)")
        db.close()
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"a\.sqlite"):
        Journal(path)
    assert path.read_bytes() == before


def test_a_damaged_answer_is_not_used(session: Session, tmp_path: Path) -> None:
    session.client().chat(ask())
    with sqlite3.connect(tmp_path / "answers.sqlite") as db:
        db.execute("UPDATE answers SET body = ?", (json.dumps(chat("forged")).encode(),))
    db.close()
    with pytest.raises(DataError, match="damaged"):
        session.client().chat(ask())


def test_processes_share_a_journal(server: FakeServer, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "a.sqlite"), server.url]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    outputs = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert outputs[0] == outputs[1]
    assert len(Journal(tmp_path / "a.sqlite")) == 40


# Sessions


def test_without_a_journal_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVALSUITE_ENDPOINT_JOURNAL", raising=False)
    with pytest.raises(UsageError, match="EVALSUITE_ENDPOINT_JOURNAL"):
        current_session()


def test_without_an_address_nothing_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EVALSUITE_ENDPOINT_URL", raising=False)
    with (
        Session(tmp_path / "a.sqlite") as session,
        pytest.raises(UsageError, match="EVALSUITE_ENDPOINT_URL"),
    ):
        session.client()


def test_threads_see_the_open_session(session: Session) -> None:
    seen: list[Session] = []
    thread = threading.Thread(target=lambda: seen.append(current_session()))
    thread.start()
    thread.join()
    assert seen == [session]
    assert os.environ.get("EVALSUITE_ENDPOINT_JOURNAL") is None
