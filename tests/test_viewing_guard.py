"""Laws of the viewer's guard: whoever asks wrongly gets one answer, and every answer wears the same headers."""

import asyncio

import pytest

from satmask.viewing.guard import NOT_FOUND, Access, Guard, is_loopback

LOCAL = Access("127.0.0.1", 8090)
OPEN = Access("0.0.0.0", 8090, "right")  # noqa: S104  # an address in a test; nothing listens
PAGE = b"<script>1</script><script type=module>2</script>"


async def page(scope, receive, send):
    """An application that answers everything with a page, and says what it was asked."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept", "asked": scope})
        return
    status = int(dict(scope["headers"]).get(b"wanted", b"200"))
    if status == 0:
        raise RuntimeError(PAGE)
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", b"text/html"), (b"x-secret", b"1")],
        }
    )
    await send({"type": "http.response.body", "body": PAGE[:20], "more_body": True})
    await send({"type": "http.response.body", "body": PAGE[20:]})


def ask(access=LOCAL, path=b"/", *, kind="http", method="GET", query=b"", host="127.0.0.1:8090", **headers):
    """What the guard sends for a request: the first message, and the body."""
    lines = {"host": host} | {name.replace("_", "-"): value for name, value in headers.items()}
    pairs = [(name.encode(), value.encode()) for name, value in lines.items() if value is not None]
    scope = {"type": kind, "method": method, "raw_path": path, "query_string": query, "headers": pairs}
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(Guard(page, access)(scope, None, send))
    return sent[0], b"".join(message.get("body", b"") for message in sent)


def status(*args, **settings):
    first, _ = ask(*args, **settings)
    return first.get("status", first["type"])


@pytest.mark.parametrize("host", ["127.0.0.1:8090", "localhost:8090", "LOCALHOST:8090", "[::1]:8090"])
def test_names_of_this_computer_are_served(host):
    assert status(host=host) == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8090", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:8090.evil.example", "localhost.evil.example:8090",
     "127.0.0.1.evil.example:8090", "evil.example:8090@127.0.0.1:8090", "10.0.0.1:8090", "", " ", "localhost:08090 ", None],
)  # fmt: skip
def test_other_names_are_not_served(host):
    assert ask(host=host)[1] == NOT_FOUND


@pytest.mark.parametrize("host", ["10.0.0.7:8090", "[fe80::1]:8090", "127.0.0.1:8090"])
def test_a_server_open_to_all_has_any_address_but_no_foreign_name(host):
    assert status(OPEN, host=host, cookie="satmask-view-8090=right") == 200
    assert status(OPEN, host="evil.example:8090", cookie="satmask-view-8090=right") == 404


def test_a_header_said_twice_is_refused():
    scope = {"type": "http", "method": "GET", "raw_path": b"/", "query_string": b""}
    scope["headers"] = [(b"host", b"127.0.0.1:8090"), (b"host", b"evil.example")]
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(Guard(page, LOCAL)(scope, None, send))
    assert sent[0]["status"] == 404


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1:8090", "http://127.0.0.1", "http://localhost:8090", ""]
)
@pytest.mark.parametrize(("kind", "method"), [("http", "GET"), ("http", "POST"), ("websocket", "GET")])
def test_other_pages_reach_nothing(origin, kind, method):
    path = b"/_nicegui_ws/socket.io/"
    assert status(path=path, kind=kind, method=method, origin=origin) in {404, "websocket.close"}


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_writing_and_talking_must_say_where_they_come_from(kind):
    path = b"/_nicegui_ws/socket.io/"
    assert status(path=path, kind=kind, method="POST") in {404, "websocket.close"}
    assert status(path=path, kind=kind, method="POST", origin="http://127.0.0.1:8090") in {200, "websocket.accept"}


@pytest.mark.parametrize("site", ["cross-site", "same-site", "odd"])
def test_pictures_on_other_pages_show_nothing_of_ours(site):
    tile = b"/tiles/a1/1/0/0.png"
    assert status(path=tile, sec_fetch_site=site, sec_fetch_mode="no-cors", sec_fetch_dest="image") == 404
    assert status(path=tile, sec_fetch_site=site, sec_fetch_mode="navigate", sec_fetch_dest="document") == 404


def test_a_link_elsewhere_opens_the_page_but_no_frame_does():
    assert status(sec_fetch_site="cross-site", sec_fetch_mode="navigate", sec_fetch_dest="document") == 200
    assert status(sec_fetch_site="cross-site", sec_fetch_mode="navigate", sec_fetch_dest="iframe") == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"])
def test_the_page_and_tiles_are_only_read(method):
    for path in (b"/", b"/tiles/a1/1/0/0.png"):
        assert status(path=path, method=method, origin="http://127.0.0.1:8090") == 404


def test_each_page_marks_its_scripts_anew():
    (first, body), (_, other) = ask(), ask()
    policy = dict(first["headers"])[b"content-security-policy"].decode()
    nonce = policy.partition("'nonce-")[2].partition("'")[0]
    assert body.count(f'<script nonce="{nonce}"'.encode()) == 2
    assert nonce.encode() not in other
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy
    assert int(dict(first["headers"])[b"content-length"]) == len(body)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 410, 422])
def test_what_is_not_there_has_one_face(code):
    assert ask(wanted=str(code)) == ask(path=b"/nothing")


def test_a_failure_says_nothing_of_itself():
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "raw_path": b"/", "query_string": b""}
    scope["headers"] = [(b"host", b"127.0.0.1:8090"), (b"wanted", b"0")]
    with pytest.raises(RuntimeError):
        asyncio.run(Guard(page, LOCAL)(scope, None, send))
    assert sent[0]["status"] == 500
    assert b"script" not in sent[1]["body"]


@pytest.mark.parametrize("settings", [{}, {"cookie": "satmask-view-8090=wrong"}, {"cookie": "satmask-view-8091=right"},
                                      {"query": b"token=wrong"}, {"query": b"token="}, {"cookie": 'a=b;;=;"', "query": b"%%"}])  # fmt: skip
@pytest.mark.parametrize("path", [b"/", b"/tiles/a1/1/0/0.png"])
def test_without_the_token_there_is_nothing(settings, path):
    assert status(OPEN, path, **settings) == 401


def test_the_token_of_the_address_becomes_a_cookie():
    first, _ = ask(OPEN, query=b"token=right&place=a1")
    headers = dict(first["headers"])
    assert (first["status"], headers[b"location"]) == (303, b"/?place=a1")
    assert headers[b"set-cookie"] == b"satmask-view-8090=right; Path=/; HttpOnly; SameSite=Strict"
    assert status(OPEN, cookie="satmask-view-8090=right") == 200
    assert status(OPEN, b"/tiles/a1/1/0/0.png", query=b"token=right") == 401


def test_what_a_proxy_would_say_is_not_heard():
    asked = []

    async def listen(scope, receive, send):
        asked.extend(scope["headers"])

    scope = {"type": "http", "method": "GET", "raw_path": b"/", "query_string": b""}
    scope["headers"] = [(b"host", b"127.0.0.1:8090"), (b"x-forwarded-prefix", b"/evil"), (b"accept", b"*/*")]
    asyncio.run(Guard(listen, LOCAL)(scope, None, None))
    assert asked == [(b"host", b"127.0.0.1:8090"), (b"accept", b"*/*")]


@pytest.mark.parametrize(("host", "ours"), [("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.9.9.9", True),
                                            (OPEN.host, False), ("::", False), ("10.0.0.1", False), ("example.org", False)])  # fmt: skip
def test_only_this_computers_own_addresses_want_no_token(host, ours):
    assert is_loopback(host) is ours
