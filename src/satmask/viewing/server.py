"""The viewer's server: the page, the tiles, and who may have them."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable, Iterator
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING

import uvicorn
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request, Response
from nicegui import app as pages
from nicegui import ui

from satmask.errors import SatmaskError, SettingError
from satmask.viewing.guard import Access, Guard, is_everywhere, is_loopback
from satmask.viewing.page.layout import add_page
from satmask.viewing.page.tile_address import read_style
from satmask.viewing.receiving import add_uploads
from satmask.viewing.tile_server import TileServer

if TYPE_CHECKING:
    from satmask.viewing.page.shared import Shared
    from satmask.viewing.shown import Shown

HOST = "127.0.0.1"
PORT = 8090
CONNECTIONS = 256  # at a time; a browser opens six and a socket
AT_ONCE = 2  # tiles that are drawn
WAITING = 64  # and that wait to be; a screen shows some twenty of each layer
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" fill="#0072B2"/>'
    '<path d="M3 11V6l4-2 3 2v2h3v4H3z" fill="#E69F00" stroke="#fff"/></svg>'
)


def serve(
    shared: Shared, *, host: str = HOST, port: int = PORT, browser: bool = True, announce: Callable[[str], None]
) -> None:
    """Serve the viewer until it is interrupted; what it runs is stopped then.

    Args:
        shared: What is shown, and what may be done.
        host: Address to listen at. Any other than this computer's own wants a token, which is drawn here.
        port: Port to listen at; 0 takes a free one.
        browser: Open the page in the browser of whoever runs this.
        announce: Told the address of the page once the server listens.

    Raises:
        SettingError: If the address can't be listened at.
    """
    with _listening(host, port) as listener:
        access = Access(host, listener.getsockname()[1], None if is_loopback(host) else secrets.token_urlsafe(24))
        guarded = Guard(build_app(shared), access)
        announce(address_of(access))
        if browser:
            # Some browsers return only when they are closed.
            opening = threading.Thread(target=webbrowser.open, args=(address_of(access),), daemon=True)
            pages.on_startup(opening.start)
        config = uvicorn.Config(
            guarded,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=2,
        )
        try:
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            if shared.runner is not None:
                shared.runner.close()


def address_of(access: Access) -> str:
    """The page's address, with the token where there is one.

    Examples:
        >>> address_of(Access("127.0.0.1", 8090))
        'http://127.0.0.1:8090/'
    """
    name = socket.gethostname() if is_everywhere(access.host) else access.host
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{access.port}/" + (f"?token={access.token}" if access.token else "")


def build_app(shared: Shared) -> FastAPI:
    """Build the application: tiles and files of its own, uploads, and NiceGUI's page; to be put behind a `Guard`."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    _add_tiles(app, shared.shown)
    _add_assets(app)
    if shared.uploads is not None:
        add_uploads(app, shared.uploads, shared.shown)
    add_page(shared)
    ui.run_with(
        app,
        title="satmask",
        favicon=ICON,
        dark=None,
        language="en-US",
        tailwind=False,
        gzip_middleware_factory=None,
        reconnect_timeout=30.0,
        show_welcome_message=False,
    )
    return app


def _add_tiles(app: FastAPI, shown: Shown) -> None:
    server, slots = TileServer(), CapacityLimiter(AT_ONCE)

    @app.get("/tiles/{layer}/{z}/{x}/{y}.png")
    async def tile(request: Request, layer: str, z: int, x: int, y: int) -> Response:
        try:
            place, found = await to_thread.run_sync(shown.layer, layer)
            place.view.check((z, x, y))  # lest what isn't there takes a seat
            style = read_style(dict(request.query_params))
            if slots.statistics().tasks_waiting >= WAITING:
                return Response(status_code=503, headers={"Retry-After": "1"})
            async with slots:
                if await request.is_disconnected():  # panned away meanwhile
                    return Response(status_code=404)
                png = await to_thread.run_sync(partial(server.tile, place, found, (z, x, y), style))
        except SatmaskError:
            return Response(status_code=404)
        # Files may be written anew while the page is open, so the browser asks again; what hasn't changed is kept here.
        return Response(png, media_type="image/png", headers={"Cache-Control": "no-cache"})


def _add_assets(app: FastAPI) -> None:
    kinds = {".js": "text/javascript", ".css": "text/css"}
    folder = resources.files("satmask.viewing.page") / "assets"
    files = {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.name.endswith(tuple(kinds))}

    @app.get("/assets/{name}")
    async def asset(name: str) -> Response:
        if name not in files:
            return Response(status_code=404)
        return Response(
            files[name], media_type=kinds["." + name.rpartition(".")[2]], headers={"Cache-Control": "no-cache"}
        )


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens, before anything heavy is begun."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family)
    except (OSError, OverflowError) as error:
        msg = f"Viewer must listen at a free address of this computer, got {host}:{port} ({error}). Try --port 0."
        raise SettingError(msg) from error
    with listener:
        yield listener
