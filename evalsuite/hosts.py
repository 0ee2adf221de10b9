"""Which servers data may be sent to, and the sockets to them.

The check and the connection are one step: a socket is opened to an address that was just checked,
never to a name that could resolve to another one the next moment (DNS rebinding). Nothing here
reads a proxy from the environment or follows a redirect.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from urllib.parse import urlsplit

from .errors import EvalsuiteError, UsageError

ON_PREMISE = tuple(
    ipaddress.ip_network(block)
    for block in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::1/128",
        "fc00::/7",
    )
)
"""Loopback, RFC 1918 and RFC 4193. Not link-local: 169.254.169.254 is where clouds keep secrets."""

MAX_ANSWER = 256 * 2**20  # bytes
_BLOCK = 2**16


class HostError(EvalsuiteError):
    """A server that data must not be sent to."""


class Cut(OSError):  # noqa: N818 - what happened to the connection
    """A connection that failed, broke off, or took too long."""


class TooLarge(ValueError):  # noqa: N818 - what is wrong with the answer
    """An answer beyond the limit."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server sent back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Server:
    """Where an endpoint is.

    Parameters
    ----------
    scheme, host, port, path : str, str, int, str
        Of its address; the path has no slash at its end.
    allowed : bool
        Whether the user named this host as one that may be public.
    """

    scheme: str
    host: str
    port: int
    path: str
    allowed: bool

    @classmethod
    def parse(cls, url: str, allow_hosts: Collection[str] = ()) -> Server:
        """Read an address such as ``http://127.0.0.1:8000/v1``.

        Raises
        ------
        UsageError
            If it is no such address, or holds a password.
        """
        try:
            found = urlsplit(url)
            host = (found.hostname or "").rstrip(".")
            port = found.port or (443 if found.scheme == "https" else 80)
        except ValueError as error:
            raise UsageError(f"the endpoint {url!r} is not an address: {error}") from error
        if found.username is not None or found.password is not None:
            # Not shown: an address with a password in it would end up in logs and records.
            raise UsageError(
                "the endpoint's address holds a user or password: leave it out, and give the key "
                "in the environment"
            )
        if found.scheme not in {"http", "https"} or not host or found.query or found.fragment:
            raise UsageError(
                f"the endpoint {url!r} is not an address such as http://127.0.0.1:8000/v1"
            )
        allowed = host in {name.lower().rstrip(".") for name in allow_hosts}
        return cls(found.scheme, host, port, found.path.rstrip("/"), allowed)

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def addresses(self) -> list[str]:
        """Resolve the host and check every address that it has.

        Returns
        -------
        list of str
            IP addresses; not empty.

        Raises
        ------
        HostError
            If one of them is neither loopback nor private and the host was not allowed by name, or
            the host is public and the connection would not be encrypted.
        Cut
            If the name does not resolve.
        """
        try:
            infos = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:  # a name that none can be is a ValueError
            raise Cut(f"{self.host} does not resolve: {error}") from error
        found = list(dict.fromkeys(str(info[4][0]) for info in infos))
        public = [ip for ip in found if not _on_premise(ip)]
        if public and not self.allowed:
            raise HostError(
                f"{self.host} is at {public[0]}, which is neither loopback nor private: data would "
                "leave the premises. Use a server of your own, or allow this one by its name"
            )
        if public and self.scheme != "https":
            raise HostError(
                f"{self.host} is at {public[0]}, a public address: use https, so that data and key "
                "are not readable on the way"
            )
        return found

    def exchange(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        timeout: float,
        max_bytes: int = MAX_ANSWER,
    ) -> Reply:
        """Send one request and read the whole answer.

        Parameters
        ----------
        method, path : str
            ``POST`` and ``/chat/completions``; the path follows the endpoint's own.
        body : bytes
            What is sent.
        headers : mapping
            Beside Host and Content-Length.
        timeout : float
            Seconds for everything together, however slowly the answer drips.
        max_bytes : int
            Of the answer.

        Raises
        ------
        HostError
            See :meth:`addresses`.
        Cut
            If there is no connection, it breaks off, or the time is over.
        TooLarge
            If the answer has more than ``max_bytes``.
        """
        end = time.monotonic() + timeout
        with self._connect(end) as sock:
            connection = HTTPConnection(self.host, self.port)
            connection.sock = sock
            try:
                sock.settimeout(_left(end))
                connection.request(method, self.path + path, body=body, headers=dict(headers))
                sock.settimeout(_left(end))
                response = connection.getresponse()
                data = _read(response, sock, end, max_bytes)
            except (OSError, HTTPException) as error:
                raise Cut(f"{type(error).__name__}: {error}".rstrip(": ")) from error
            finally:
                connection.close()
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, data)

    def _connect(self, end: float) -> socket.socket:
        failed: OSError | None = None
        for ip in self.addresses():
            try:
                sock = socket.create_connection((ip, self.port), timeout=_left(end))
            except OSError as error:
                failed = error
                continue
            if self.scheme == "http":
                return sock
            try:
                context = ssl.create_default_context()
                return context.wrap_socket(sock, server_hostname=self.host)
            except OSError as error:
                sock.close()
                failed = error
        raise Cut(f"no connection to {self.origin}: {failed}")


def _on_premise(ip: str) -> bool:
    address = ipaddress.ip_address(ip.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in ON_PREMISE if network.version == address.version)


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time for the request is over")
    return left


def _read(response: HTTPResponse, sock: socket.socket, end: float, max_bytes: int) -> bytes:
    declared = response.length
    data = bytearray()
    while True:
        sock.settimeout(_left(end))
        block = response.read1(_BLOCK)
        if not block:
            break
        data += block
        if len(data) > max_bytes:
            raise TooLarge(f"the answer is larger than {max_bytes:,} bytes")
    # read1 takes the end of the connection for the end of the answer.
    if declared is not None and len(data) < declared:
        raise Cut(f"the connection broke off after {len(data):,} of {declared:,} bytes")
    return bytes(data)
