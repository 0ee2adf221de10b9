"""A client of servers that speak the OpenAI protocol: bounded, budgeted, journalled.

It stands on the standard library's HTTP (see :mod:`evalsuite.hosts`) and not on the ``openai``
package. It must open its socket to the very address that it checked, follow no redirect, take no
proxy and no second address from the environment, put a limit on time and size, and be the same
whatever major version of a package is installed; all of that would be work against a general
client, and what is left of the protocol is one POST of JSON. Retrying is tenacity's.
"""

from __future__ import annotations

import base64
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from email.utils import parsedate_to_datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from ...errors import EvalsuiteError, UsageError
from ...hosts import Cut, HostError, Reply, Server, TooLarge
from ..protocol import Dropped, Refused
from ..registry import suggestion
from ..values import Params, to_json
from .journal import DeadLetter, Journal, Kind

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

URL_VARIABLE = "EVALSUITE_ENDPOINT_URL"
KEY_VARIABLE = "EVALSUITE_ENDPOINT_KEY"
JOURNAL_VARIABLE = "EVALSUITE_ENDPOINT_JOURNAL"

CHAT = "/chat/completions"
SPEECH = "/audio/speech"

_RETRIED = frozenset({408, 409, 425, 429, *range(500, 600)}) - {501}
_TOKENS = ("prompt_tokens", "completion_tokens")
_DEAD_SERVER = 3  # requests in a row that failed after all their attempts
# Models that have no field for it refuse in words; only openings that nobody writes as an answer.
_REFUSAL = re.compile(
    r"\s*(?:I['’]m sorry,? but I (?:can['’]?t|can ?not|am unable to)"
    r"|(?:I['’]m sorry[,.]? )?I (?:can['’]t|can ?not|am (?:unable|not able) to) "
    r"(?:assist|help|comply|fulfil|provide|create|do that)"
    r"|申し訳(?:ありません|ございません)(?:が|けど)、?[^。]{0,60}(?:できません|いたしかねます|お手伝い))",
    re.IGNORECASE,
)


class EndpointError(EvalsuiteError):
    """A server that cannot be used as it is: the run stops, and what was paid for is kept."""


class BudgetError(EndpointError):
    """A cap that is reached: the run stops, and a further run goes on from there."""


class Rejected(ValueError):  # noqa: N818 - it ends one item, as Dropped does
    """A request that came to nothing: it costs its item and goes to the dead letters."""


class Unsupported(Rejected):
    """A request that the server does not accept as it is (400, 422, 501)."""


class Truncated(Dropped):
    """An answer that was cut off at its limit of tokens."""


class _NotOffered(EndpointError):  # noqa: N818 - private
    """A path or a model that the server does not have."""


class _Transient(Exception):  # noqa: N818 - private
    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Media:
    """An image or a sound that goes into a request.

    ``sha256`` is of the content (:func:`~evalsuite.generators.values.content_hash`), not of the
    encoded bytes: another version of an encoder does not make another request.
    """

    mime: str
    data: bytes
    sha256: str


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a server, before it is put into the form of the wire.

    Parameters
    ----------
    path : str
        ``/chat/completions``.
    body : dict
        JSON. ``{"$uri": k}`` stands for the k-th media as a data URI, ``{"$base64": k}`` for its
        bytes alone, and in a multipart form ``{"$file": k}`` for a file.
    media : tuple of Media
        What they stand for.
    prompt : str, optional
        Sha256 of the template that the text came from.
    draw : dict
        What else was drawn: it makes two requests for the same thing two.
    multipart : bool
        A form instead of JSON.
    """

    path: str
    body: Params
    media: tuple[Media, ...] = ()
    prompt: str | None = None
    draw: Params = field(default_factory=dict)
    multipart: bool = False

    @property
    def model(self) -> str:
        """The model that is asked."""
        return str(self.body["model"])

    def key(self, schema: Params | None = None) -> str:
        """Hash what the answer depends on; the server's address is not part of it."""
        identity = {
            "path": self.path,
            "body": self.body,
            "media": [medium.sha256 for medium in self.media],
            "prompt": self.prompt,
            "draw": self.draw,
            "schema": schema,
        }
        return sha256(to_json(identity).encode()).hexdigest()

    def encoded(self, changes: Params) -> tuple[bytes, str]:
        """Give the bytes to send, and their type."""
        body = {**self.body, **changes}
        if not self.multipart:
            return json.dumps(self._filled(body), allow_nan=False).encode(), "application/json"
        # The boundary must not occur in what it separates.
        boundary = f"evalsuite-{self.key()}"
        lines: list[bytes] = []
        for name, value in body.items():
            if isinstance(value, dict):
                medium = self.media[value["$file"]]
                ending = medium.mime.rpartition("/")[2]
                head = f'name="{name}"; filename="{name}.{ending}"\r\nContent-Type: {medium.mime}'
                data = medium.data
            else:
                head, data = f'name="{name}"', str(value).encode()
            disposition = f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n"
            lines += [disposition.encode(), data, b"\r\n"]
        lines.append(f"--{boundary}--\r\n".encode())
        return b"".join(lines), f"multipart/form-data; boundary={boundary}"

    def _filled(self, value: Any) -> Any:
        if isinstance(value, dict):
            for form in ("$uri", "$base64"):
                if form in value:
                    medium = self.media[value[form]]
                    text = base64.b64encode(medium.data).decode()
                    return f"data:{medium.mime};base64,{text}" if form == "$uri" else text
            return {name: self._filled(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._filled(inner) for inner in value]
        return value


@dataclass(frozen=True, slots=True)
class Budget:
    """What a session may spend at most; None is no cap.

    Parameters
    ----------
    calls : int, optional
        Requests sent, retries included. Kept exactly.
    tokens : int, optional
        Tokens in and out, as the servers report them for chats. No request is sent once they are
        used; those under way may go over it.
    seconds : float, optional
        Since the session's first request. Requests under way and waits end there.
    """

    calls: int | None = None
    tokens: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for cap in fields(self):
            value = getattr(self, cap.name)
            if value is not None and not value > 0:
                raise UsageError(f"a budget of {value} {cap.name} is none: give a positive number")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a session spent, and what came of it.

    Parameters
    ----------
    calls : int
        Requests sent, retries and repairs included.
    from_journal : int
        Answers that an earlier request had paid for.
    retries : int
        Requests sent again after a fault.
    repairs : int
        Questions sent again because the answer was not of the form that was asked for.
    tokens_in, tokens_out : int
        As the servers report them.
    answered, refused, truncated, failed : int
        How questions ended, those from the journal included.
    """

    calls: int = 0
    from_journal: int = 0
    retries: int = 0
    repairs: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    answered: int = 0
    refused: int = 0
    truncated: int = 0
    failed: int = 0


class _Meter:
    """Counts, and says stop."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._lock = threading.Lock()
        self._counts = dict.fromkeys((f.name for f in fields(Usage)), 0)
        self._start: float | None = None

    def count(self, **more: int) -> None:
        with self._lock:
            for name, value in more.items():
                self._counts[name] += value

    def usage(self) -> Usage:
        with self._lock:
            return Usage(**self._counts)

    def spend_call(self) -> None:
        """Take one call from the budget, or refuse it."""
        with self._lock:
            if self._start is None:
                self._start = time.monotonic()
            self.seconds_left(0.0)
            used, cap = self._counts, self.budget
            if cap.calls is not None and used["calls"] >= cap.calls:
                raise BudgetError(self._over(f"{cap.calls} calls"))
            if cap.tokens is not None and used["tokens_in"] + used["tokens_out"] >= cap.tokens:
                raise BudgetError(self._over(f"{cap.tokens} tokens"))
            used["calls"] += 1

    def seconds_left(self, wanted: float) -> float:
        """Give the seconds that are left, unbounded without a cap.

        Raises
        ------
        BudgetError
            If they are not more than ``wanted``.
        """
        if self.budget.seconds is None or self._start is None:
            return float("inf")
        left = self.budget.seconds - (time.monotonic() - self._start)
        if left <= wanted:
            raise BudgetError(self._over(f"{self.budget.seconds:g} seconds"))
        return left

    def _over(self, what: str) -> str:
        answered = self._counts["answered"]
        return (
            f"the budget of {what} is used up after {answered} answers: they are in the journal, "
            "and a run with a new budget goes on from there"
        )


class Session:
    """What all operations of a run share: journal, budget, concurrency, hosts and keys.

    A context manager; operations use the session that is open. Threads may share it.

    Parameters
    ----------
    journal : path
        The file of answers (:class:`~.journal.Journal`).
    url : str, optional
        The server of operations that name none; by default ``EVALSUITE_ENDPOINT_URL``. The key in
        ``EVALSUITE_ENDPOINT_KEY`` is sent to this server and to no other.
    budget : Budget, optional
        No cap by default.
    concurrency : int
        Requests under way at the same time, over all servers.
    attempts : int
        For each request, after faults that may pass: 408, 409, 425, 429, 5xx, a connection that
        fails or breaks off, an answer that is not whole.
    timeout : float
        Seconds for one attempt.
    backoff, max_wait : float
        Seconds: between attempts a random time is waited, up to ``backoff · 2^k``, at most
        ``max_wait``, and at least as long as the server says (Retry-After). A server that asks for
        more than ``max_wait`` ends the run.
    allow_hosts : sequence of str
        Names of hosts that may be public.
    retry_refused : bool
        Ask again where the journal holds a refusal or an answer that was cut off.

    Raises
    ------
    UsageError
        If a number is out of range.
    """

    def __init__(
        self,
        journal: str | Path,
        *,
        url: str | None = None,
        budget: Budget | None = None,
        concurrency: int = 4,
        attempts: int = 5,
        timeout: float = 120.0,
        backoff: float = 0.5,
        max_wait: float = 60.0,
        allow_hosts: tuple[str, ...] = (),
        retry_refused: bool = False,
    ) -> None:
        if concurrency < 1 or attempts < 1 or not min(timeout, backoff, max_wait) > 0:
            raise UsageError(
                "concurrency and attempts must be 1 or more, and timeout, backoff and max_wait "
                f"positive, got {concurrency}, {attempts}, {timeout}, {backoff} and {max_wait}"
            )
        self.url = url or os.environ.get(URL_VARIABLE)
        self.attempts, self.timeout = attempts, timeout
        self.backoff, self.max_wait = backoff, max_wait
        self.retry_refused = retry_refused
        self.allow_hosts = tuple(allow_hosts)
        self.journal = Journal(journal)
        self.meter = _Meter(budget or Budget())
        self.slots = threading.BoundedSemaphore(concurrency)
        self._clients: dict[str, Client] = {}
        self._lock = threading.Lock()
        self._outer: Session | None = None

    @property
    def usage(self) -> Usage:
        """What was spent so far."""
        return self.meter.usage()

    def dead_letters(self) -> list[DeadLetter]:
        """List the requests that came to nothing and have not succeeded since."""
        return self.journal.dead_letters()

    def client(self, url: str | None = None) -> Client:
        """Give the client of a server; by default of the session's own.

        Raises
        ------
        UsageError
            If no server is named anywhere.
        """
        wanted = url or self.url
        if wanted is None:
            raise UsageError(
                f"no endpoint is named: set {URL_VARIABLE}, such as http://127.0.0.1:8000/v1, or "
                "give the operation its url"
            )
        with self._lock:
            if wanted not in self._clients:
                self._clients[wanted] = Client(self, wanted)
            return self._clients[wanted]

    def key_for(self, server: Server) -> str | None:
        """Give the key for a server; read from the environment each time and kept nowhere."""
        if self.url is None or Server.parse(self.url).origin != server.origin:
            return None
        return os.environ.get(KEY_VARIABLE) or None

    def __enter__(self) -> Session:
        global _current
        self._outer, _current = _current, self
        return self

    def __exit__(self, *_: object) -> None:
        global _current  # noqa: PLW0603
        _current = self._outer
        self.journal.close()


_current: Session | None = None
_opening = threading.Lock()


def current_session() -> Session:
    """Give the open session, or the one that the environment describes.

    Raises
    ------
    UsageError
        If there is neither.
    """
    global _current  # noqa: PLW0603
    with _opening:
        if _current is None:
            path = os.environ.get(JOURNAL_VARIABLE)
            if not path:
                raise UsageError(
                    "answers that are paid for need a place: open a session, `with "
                    f"Session(journal=…):`, or set {JOURNAL_VARIABLE} to a file"
                )
            _current = Session(path)
        return _current


class Client:
    """One server. Made by :meth:`Session.client`."""

    def __init__(self, session: Session, url: str) -> None:
        self.server = Server.parse(url, session.allow_hosts)
        self._session = session
        self._meter = session.meter
        self._lock = threading.Lock()
        self._probing = threading.Lock()
        self._busy: dict[str, tuple[threading.Lock, int]] = {}
        self._not_before = 0.0
        self._failed_in_row = 0
        self._models: tuple[str, ...] | None = None
        self._plain_json: set[str] = set()

    # What is asked

    def chat(self, request: Request) -> str:
        """Ask for text.

        Raises
        ------
        Refused, Truncated
            If the model would not, or was cut off.
        Rejected
            If nothing usable came; noted among the dead letters.
        EndpointError
            If going on makes no sense: the server is not there, the key or model is unknown, the
            budget is used up.
        """
        return self._ask(request, lambda: self._post(request), _text_of)

    def structured(self, request: Request, schema: type[M]) -> M:
        """Ask for JSON of a form: by ``json_schema``, else by ``json_object``; repaired once.

        Raises
        ------
        Refused, Truncated, Rejected, EndpointError
            As :meth:`chat`.
        """
        described = schema.model_json_schema()
        return self._ask(
            request,
            lambda: self._post_structured(request, schema, described),
            lambda body: _parsed(_text_of(body), schema),
            described,
        )

    def fetch(self, request: Request, read: Callable[[bytes], T]) -> T:
        """Ask for what ``read`` makes of the answer's bytes; it raises Rejected if it cannot."""
        return self._ask(request, lambda: self._post(request), read)

    def models(self) -> tuple[str, ...]:
        """List the models that the server says it has; empty if it has no such list.

        Raises
        ------
        EndpointError
            If the server cannot be reached.
        """
        with self._probing:
            if self._models is None:
                self._models = self._probe()
            return self._models

    # How

    def _ask(
        self,
        request: Request,
        pay: Callable[[], bytes],
        read: Callable[[bytes], T],
        schema: Params | None = None,
    ) -> T:
        key = request.key(schema)
        journal = self._session.journal
        with self._alone(key):
            kept = journal.get(key)
            if kept is not None and (kept.kind == "ok" or not self._session.retry_refused):
                self._meter.count(from_journal=1)
                _, value = self._read(kept.body, read)
            else:
                try:
                    body = pay()
                    kind, value = self._read(body, read)
                except Rejected as failure:
                    self._meter.count(failed=1)
                    journal.bury(key, str(failure), model=request.model, path=request.path)
                    raise
                journal.put(
                    key, kind, body, model=request.model, path=request.path, prompt=request.prompt
                )
        if isinstance(value, Dropped):
            raise value
        return value

    def _read(self, body: bytes, read: Callable[[bytes], T]) -> tuple[Kind, T | Dropped]:
        kind: Kind
        try:
            value: T | Dropped = read(body)
            kind = "ok"
            self._meter.count(answered=1)
        except Refused as end:
            kind, value = "refused", end
            self._meter.count(refused=1)
        except Truncated as end:
            kind, value = "truncated", end
            self._meter.count(truncated=1)
        return kind, value

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """Let one thread ask a question; the others find the answer in the journal."""
        with self._lock:
            lock, users = self._busy.get(key, (threading.Lock(), 0))
            self._busy[key] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, users = self._busy.pop(key)
                if users > 1:
                    self._busy[key] = lock, users - 1

    def _post_structured(self, request: Request, schema: type[M], described: Params) -> bytes:
        strict: Params = {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": schema.__name__, "strict": True, "schema": described},
            }
        }
        asked: list[Params] = request.body["messages"]
        form = (
            "one JSON object, and nothing else, that this JSON Schema describes: "
            f"{to_json(described)}"
        )
        # Where the server knows no schemas, the model is told the form in words.
        told = _with_words(asked, f"Answer with {form}")
        plain: Params = {"response_format": {"type": "json_object"}, "messages": told}
        changes = plain if request.model in self._plain_json else strict
        try:
            body = self._post(request, changes)
        except Unsupported:
            if changes is plain:
                raise
            changes = plain
            body = self._post(request, changes)
            self._plain_json.add(request.model)
        try:
            _parsed(_text_of(body), schema)
        except Dropped:
            return body
        except Rejected as wrong:
            self._meter.count(repairs=1)
            asked = changes.get("messages", asked)
            if (text := _said(body)) is not None:
                asked = [*asked, {"role": "assistant", "content": text}, {"role": "user"}]
            again = f"That is not what was asked for: {wrong}. Answer again, with {form}"
            return self._post(request, {**changes, "messages": _with_words(asked, again)})
        return body

    def _post(self, request: Request, changes: Params | None = None) -> bytes:
        """Send a request until it is answered, and give the answer's body."""
        known = self.models()
        if known and request.model not in known and f"{request.model}:latest" not in known:
            raise EndpointError(
                f"{self.server.origin} has no model {request.model!r}"
                f"{suggestion(request.model, known)}"
            )
        payload, kind = request.encoded(changes or {})

        def attempt() -> Reply:
            self._meter.spend_call()
            reply = self._exchange("POST", request.path, payload, {"Content-Type": kind})
            if request.path == CHAT:
                self._count_tokens(reply.body)
            return reply

        try:
            reply = self._retrying(attempt)
        except _Transient as failure:
            with self._lock:
                self._failed_in_row += 1
                dead = self._failed_in_row >= _DEAD_SERVER
            reason = f"{failure} ({self._session.attempts} attempts)"
            if dead:
                raise EndpointError(
                    f"{self.server.origin} failed {_DEAD_SERVER} requests in a row, the last with: "
                    f"{reason}. See to the server and run again: what was answered is kept"
                ) from None
            raise Rejected(reason) from None
        with self._lock:
            self._failed_in_row = 0
        return reply.body

    def _probe(self) -> tuple[str, ...]:
        try:
            reply = self._retrying(lambda: self._exchange("GET", "/models", b"", {}))
            found = json.loads(reply.body)["data"]
            return tuple(str(model["id"]) for model in found)
        except _Transient as failure:
            raise EndpointError(
                f"{self.server.origin} does not answer ({failure}): start the server, or correct "
                "its address"
            ) from None
        except _NotOffered:
            return ()  # a server without the list still says no to a model that it has not
        except (ValueError, KeyError, TypeError) as error:
            raise EndpointError(
                f"{self.server.origin}{self.server.path}/models gives no list of models: is "
                f"the address that of an OpenAI-compatible API, with its /v1? ({error!r})"
            ) from error

    def _retrying(self, attempt: Callable[[], Reply]) -> Reply:
        tenacity = _tenacity()
        session = self._session
        jittered = tenacity.wait_random_exponential(
            multiplier=session.backoff, max=session.max_wait
        )

        def wait(state: RetryCallState) -> float:
            failure = state.outcome.exception() if state.outcome else None
            asked = failure.retry_after if isinstance(failure, _Transient) else None
            return max(float(jittered(state)), asked or 0.0)

        def sleep(seconds: float) -> None:
            self._meter.seconds_left(seconds)
            self._meter.count(retries=1)
            time.sleep(seconds)

        def paced() -> Reply:
            with session.slots:
                pause = self._not_before - time.monotonic()
                if pause > 0:  # another request was told to wait, and that holds for all
                    self._meter.seconds_left(pause)
                    time.sleep(pause)
                return attempt()

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Transient),
            stop=tenacity.stop_after_attempt(session.attempts),
            wait=wait,
            sleep=sleep,
            reraise=True,
        )
        reply: Reply = retrying(paced)
        return reply

    def _exchange(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        key = self._session.key_for(self.server)
        # Local servers want some key and do not look at it.
        sent = {**headers, "Authorization": f"Bearer {key or 'none'}", "Accept": "*/*"}
        timeout = min(self._session.timeout, self._meter.seconds_left(0.0))
        try:
            reply = self.server.exchange(method, path, body, sent, timeout=timeout)
        except Cut as cut:
            self._meter.seconds_left(0.0)  # cut by the budget, not by the server
            raise _Transient(str(cut)) from None
        except TooLarge as large:
            raise Rejected(str(large)) from None
        if reply.status != 200:
            raise self._failure(path, reply, _readable(reply.body, key))
        if path != SPEECH and not _is_json(reply.body):
            raise _Transient("the answer is not whole: its JSON does not parse")
        return reply

    def _failure(self, path: str, reply: Reply, said: str) -> Exception:
        status, where = reply.status, self.server.origin
        reason = f"HTTP {status}{': ' if said else ''}{said}"
        if 300 <= status < 400:
            return HostError(
                f"{where} sends the request on to another place (HTTP {status}), and that is not "
                "followed: give the final address as the endpoint"
            )
        if status in {401, 403}:
            return EndpointError(f"{where} wants another key: {reason}. Set {KEY_VARIABLE}")
        if status == 429 and "insufficient_quota" in said:
            return EndpointError(f"{where}: {reason}")
        if status in _RETRIED:
            after = _retry_after(reply.headers.get("retry-after"))
            if after is not None:
                if after > self._session.max_wait:
                    return EndpointError(
                        f"{where} asks to be left alone for {after:.0f} s ({reason}), longer than "
                        f"max_wait of {self._session.max_wait:g} s: run again then"
                    )
                self._not_before = max(self._not_before, time.monotonic() + after)
            return _Transient(reason, after)
        if status in {404, 405}:
            return _NotOffered(
                f"{where} has no {path} for this model ({reason}): name a server and a model that "
                "offer it"
            )
        if status in {400, 415, 422, 501}:
            return Unsupported(reason)
        return Rejected(reason)

    def _count_tokens(self, body: bytes) -> None:
        answer = json.loads(body)
        usage = answer.get("usage") if isinstance(answer, dict) else None
        counts = [usage.get(name) if isinstance(usage, dict) else None for name in _TOKENS]
        known = [number for number in counts if isinstance(number, int) and number >= 0]
        if len(known) == len(_TOKENS):
            self._meter.count(tokens_in=known[0], tokens_out=known[1])
        elif self._meter.budget.tokens is not None:
            raise EndpointError(
                f"{self.server.origin} does not say how many tokens it used: a budget in tokens "
                "cannot be kept, give one in calls"
            )


def _tenacity() -> Any:
    try:
        import tenacity
    except ImportError as error:
        raise EndpointError(
            "endpoints need tenacity: pip install 'evalsuite[endpoints]'"
        ) from error
    return tenacity


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def _readable(body: bytes, key: str | None) -> str:
    """Give the start of a server's own words, without the key that it may have echoed."""
    text = body[:4096].decode("utf-8", "replace")
    if key:
        text = text.replace(key, "***")
    return re.sub(r"[^\x20-\x7e\u00a1-\uffff]+", " ", text).strip()[:200]


def _retry_after(value: str | None) -> float | None:
    """Read seconds or a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    try:
        return max(0.0, float(value)) if float(value) < float("inf") else None
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _choice(body: bytes) -> Params:
    try:
        choice: Params = json.loads(body)["choices"][0]
        choice["message"].get("content")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise Rejected(f"the answer is not that of a chat: {error!r}") from error
    return choice


def _with_words(messages: list[Params], words: str) -> list[Params]:
    """Add to the last message: many chat templates want the roles to take turns."""
    *before, last = messages
    content = last.get("content")
    if isinstance(content, list):
        return [*before, {**last, "content": [*content, {"type": "text", "text": words}]}]
    return [*before, {**last, "content": f"{content}\n\n{words}" if content else words}]


def _said(body: bytes) -> str | None:
    content = _choice(body)["message"].get("content")
    return content if isinstance(content, str) else None


def _text_of(body: bytes) -> str:
    """Give what a model answered, or raise what it is instead."""
    choice = _choice(body)
    message = choice["message"]
    if message.get("refusal"):
        raise Refused(f"the model refused: {str(message['refusal'])[:200]}")
    if choice.get("finish_reason") == "content_filter":
        raise Refused("the server's content filter stopped the answer")
    if choice.get("finish_reason") == "length":
        raise Truncated("the answer was cut off at max_tokens")
    if message.get("tool_calls"):
        raise Rejected("the model called a tool, and it was given none")
    content = message.get("content")
    if not isinstance(content, str) or not content.strip():
        raise Rejected("the answer is empty")
    if _REFUSAL.match(content):
        raise Refused(f"the model refused: {content.strip()[:200]}")
    return content.strip()


def _parsed(text: str, schema: type[M]) -> M:
    """Find the JSON object in an answer: models put it between fences or after a word."""
    start = text.find("{")
    if start < 0:
        raise Rejected("there is no JSON object in the answer")
    try:
        found, _ = json.JSONDecoder().raw_decode(text, start)
        return schema.model_validate(found)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'answer'}: {e['msg']}" for e in error.errors()[:5]
        )
        raise Rejected(f"the JSON is not of the form asked for: {wrong}") from None
    except (ValueError, RecursionError) as error:
        raise Rejected(f"the answer's JSON does not parse: {error}") from None
