"""Who may ask the viewer for what: every request and every answer passes here first.

A page on 127.0.0.1 is open to any site that a person visits in the same browser, by forged requests and by names that are
made to point here (DNS rebinding). So a request must name this server as its host, must come from this server's own
page, and must look like one of a few paths; all else gets one and the same answer, which tells nothing.

References:
    Content Security Policy Level 3, https://www.w3.org/TR/CSP3/
    Fetch Metadata Request Headers, https://www.w3.org/TR/fetch-metadata/
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

NOT_FOUND = b"Not found.\n"
NO_TOKEN = b"Open the address that `satmask view` printed: it holds a token.\n"
FAILED = b"Something went wrong here; the terminal in which `satmask view` runs says what.\n"
LONGEST_PATH = 512
LONGEST_QUERY = 4096
# What there is; a path is looked at as it came, so that no spelling of another one gets through.
READABLE = re.compile(
    rb"/|/tiles/[a-z0-9]{1,64}/[0-9]{1,2}/[0-9]{1,9}/[0-9]{1,9}\.png|/assets/[a-z]{1,20}\.(?:js|css)"
    rb"|/_nicegui/[A-Za-z0-9_~@+-][A-Za-z0-9._~@+-]*(?:/[A-Za-z0-9_~@+-][A-Za-z0-9._~@+-]*)*"
)
SOCKET = b"/_nicegui_ws/socket.io/"
UPLOAD = b"/upload"
# What may be said of an upload that isn't taken: the sender's own page shows it.
UPLOAD_REFUSALS = {400, 409, 413, 415, 503}
# Vue compiles templates in the browser, which is what `unsafe-eval` is for; scripts must be files of this server or
# carry the answer's nonce all the same, so text that becomes markup runs nothing.
POLICY = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; manifest-src 'none'; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-src 'none'; worker-src 'none'; frame-ancestors 'none'"
)
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}


@dataclass(frozen=True, slots=True)
class Access:
    """Where the server listens, and who may ask.

    Attributes:
        host: Address that it is bound to.
        port: Its port.
        token: What a browser must have shown once; None where only this computer reaches the server.
    """

    host: str
    port: int
    token: str | None = None

    @property
    def cookie(self) -> str:
        """Name of the cookie that keeps the token; browsers share cookies among the ports of a host."""
        return f"satmask-view-{self.port}"

    def is_host(self, name: str) -> bool:
        """Say whether a `Host` header means this server.

        A server that listens everywhere has names that it can't know; then it is the address as a number, which no
        foreign name can stand for.

        Examples:
            >>> access = Access("127.0.0.1", 8090)
            >>> access.is_host("localhost:8090"), access.is_host("evil.example:8090")
            (True, False)
        """
        match = re.fullmatch(r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9.-]{1,253}):([0-9]{1,5})", name)
        if not match or int(match[2]) != self.port:
            return False
        bare = match[1].strip("[]").lower()
        if bare in {self.host.lower(), "localhost", "127.0.0.1", "::1"}:
            return True
        return is_everywhere(self.host) and _is_address(bare)

    def knows(self, token: str | None) -> bool:
        """Say whether a token is the right one, in a time that doesn't depend on how much of it is right."""
        if self.token is None:
            return True
        return token is not None and hmac.compare_digest(token.encode(), self.token.encode())


def is_loopback(host: str) -> bool:
    """Say whether only this computer reaches an address.

    Examples:
        >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
        (True, True, False)
    """
    if host == "localhost":
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def is_everywhere(host: str) -> bool:
    """Say whether an address stands for all of a computer's."""
    return _is_address(host) and ipaddress.ip_address(host).is_unspecified


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


class Guard:
    """An ASGI application that lets through what is allowed, and dresses what comes back."""

    def __init__(self, app: App, access: Access) -> None:
        self.app = app
        self.access = access

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = _unique(scope["headers"])
        if headers is None or not self._is_ours(scope, headers):
            await _refuse(scope, send, 404, NOT_FOUND)
            return
        if not self.access.knows(_cookie(headers, self.access.cookie)):
            await self._ask_token(scope, send)
            return
        if not _is_known(scope):
            await _refuse(scope, send, 404, NOT_FOUND)
            return
        # A proxy's word about where the page lies; there is none, so it would be a stranger's.
        scope["headers"] = [(key, value) for key, value in scope["headers"] if not key.startswith(b"x-forwarded")]
        await self._serve(scope, receive, send)

    def _is_ours(self, scope: Message, headers: dict[str, str]) -> bool:
        """Whether a request names this server and comes from its own page."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self.access.is_host(host):
            return False
        reads = scope["type"] == "http" and scope["method"] in {"GET", "HEAD"}
        if origin is not None or not reads:
            return origin == f"http://{host}"
        if headers.get("sec-fetch-site", "none") in {"none", "same-origin"}:
            return True
        # A link from elsewhere may open the page, and nothing else.
        return scope["raw_path"] == b"/" and headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"  # fmt: skip

    async def _ask_token(self, scope: Message, send: Send) -> None:
        """Take a token from the address and keep it in a cookie, or ask for it."""
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if scope["type"] != "http" or scope["raw_path"] != b"/" or not self.access.knows(query.pop("token", None)):
            await _refuse(scope, send, 401, NO_TOKEN)
            return
        cookie = f"{self.access.cookie}={self.access.token}; Path=/; HttpOnly; SameSite=Strict"
        where = "/?" + urlencode(query) if query else "/"
        await _answer(send, 303, b"", {b"location": where.encode(), b"set-cookie": cookie.encode()})

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        dressing = _Dressing(send, passed=UPLOAD_REFUSALS if scope.get("raw_path") == UPLOAD else {503})
        try:
            await self.app(scope, receive, send if scope["type"] == "websocket" else dressing)
        except Exception:
            if scope["type"] == "http" and not dressing.begun:
                await _answer(send, 500, FAILED)
            raise


class _Dressing:
    """What sends an answer on: with headers, a nonce in its scripts, and one face for all that isn't there."""

    def __init__(self, send: Send, *, passed: Collection[int]) -> None:
        self.send, self.passed = send, passed
        self.begun = False
        self.start: Message | None = None  # of a page, held back until it is whole
        self.body = b""
        self.replaced = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif self.replaced:
            return
        elif self.start is not None:
            self.body += message.get("body", b"")
            if not message.get("more_body"):
                await self._send_page(self.start, self.body)
        else:
            await self.send(message)

    async def _begin(self, message: Message) -> None:
        status = message["status"]
        kind = dict(message["headers"]).get(b"content-type", b"")
        self.begun = True
        if status >= 400 and status not in self.passed:
            self.replaced = True
            await _answer(self.send, *((500, FAILED) if status >= 500 else (404, NOT_FOUND)))
        elif kind.startswith(b"text/html"):
            self.start = message
        else:
            await self.send({**message, "headers": _dressed(message["headers"])})

    async def _send_page(self, start: Message, body: bytes) -> None:
        """Send a page with its scripts marked as the server's own.

        The template writes them; what comes from data is escaped there, so it holds no `<script`.
        """
        nonce = secrets.token_urlsafe(16)
        body = body.replace(b"<script", f'<script nonce="{nonce}"'.encode())
        headers = [(key, value) for key, value in start["headers"] if key != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        await self.send({**start, "headers": _dressed(headers, nonce)})
        await self.send({"type": "http.response.body", "body": body})


def _unique(headers: list[tuple[bytes, bytes]]) -> dict[str, str] | None:
    """Headers by name; None where one that decides something is there twice."""
    found: dict[str, str] = {}
    for key, value in headers:
        name = key.decode("latin-1").lower()
        if name in found and name in {"host", "origin", "cookie", "sec-fetch-site"}:
            return None
        found[name] = value.decode("latin-1")
    return found


def _cookie(headers: dict[str, str], name: str) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return None
    return None if found is None else found.value


def _is_known(scope: Message) -> bool:
    """Whether the path is one that there may be, as it came."""
    path, query = scope["raw_path"], scope["query_string"]
    if len(path) > LONGEST_PATH or len(query) > LONGEST_QUERY:
        return False
    if path == SOCKET:
        return scope["type"] == "websocket" or scope["method"] in {"GET", "POST"}
    if path == UPLOAD:
        return bool(scope["type"] == "http" and scope["method"] == "POST")
    return scope["type"] == "http" and scope["method"] in {"GET", "HEAD"} and READABLE.fullmatch(path) is not None


def _dressed(headers: list[tuple[bytes, bytes]], nonce: str = "") -> list[tuple[bytes, bytes]]:
    policy = POLICY.format(nonce=nonce) if nonce else "default-src 'none'; frame-ancestors 'none'; sandbox"
    ours = HEADERS | {b"content-security-policy": policy.encode()}
    return [pair for pair in headers if pair[0].lower() not in ours] + list(ours.items())


async def _refuse(scope: Message, send: Send, status: int, body: bytes) -> None:
    if scope["type"] == "http":
        await _answer(send, status, body)
    elif "websocket.http.response" in scope.get("extensions", {}):
        await _answer(send, status, body, kind="websocket.http.response")
    else:
        await send({"type": "websocket.close", "code": 1008})


async def _answer(
    send: Send, status: int, body: bytes, headers: dict[bytes, bytes] | None = None, *, kind: str = "http.response"
) -> None:
    plain = {b"content-type": b"text/plain; charset=utf-8", b"cache-control": b"no-store"}
    plain[b"content-length"] = str(len(body)).encode()
    lines = _dressed(list((plain | (headers or {})).items()))
    await send({"type": f"{kind}.start", "status": status, "headers": lines})
    await send({"type": f"{kind}.body", "body": body})
