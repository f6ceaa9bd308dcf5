"""Waitress with limits on connections from clients that are not signed in."""

from copy import copy
from typing import Any

from flask import Flask
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import BaseWSGIServer, create_server

from app.auth import is_signed_cookie

MOST = 500  # connections at once
MOST_OF_AN_ADDRESS = 100
IDLE = 30  # seconds until a connection that is silent is ended

_STRANGERS_BODY = 64 * 1024  # bytes, as the application takes them


def guarded_server(app: Flask, listen: str, *, behind_proxy: bool, **more: Any) -> BaseWSGIServer:
    """Waitress for this application.

    Who has no session cookie of ours sends no body that would be spooled to disk; nobody
    has all connections to himself. Behind a proxy, all come from one address: there the
    proxy counts. Raises OSError.
    """
    sockets: dict[int, Any] = {}
    server = create_server(
        app,
        map=sockets,
        listen=listen,
        connection_limit=MOST,
        channel_timeout=IDLE,
        cleanup_interval=IDLE // 3,
        clear_untrusted_proxy_headers=not behind_proxy,
        ident=None,
        **more,
    )
    for channel_server in sockets.values():
        if isinstance(channel_server, BaseWSGIServer):
            channel_server.channel_class = _channel_class(
                app, MOST if behind_proxy else MOST_OF_AN_ADDRESS
            )
    return server


def _channel_class(app: Flask, most: int) -> type[HTTPChannel]:
    class Request(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
        def parse_header(self, header_plus: bytes) -> None:
            super().parse_header(header_plus)
            is_large = self.chunked or self.content_length > _STRANGERS_BODY
            if is_large and not is_signed_cookie(app, self.headers.get("COOKIE", "")):
                limits = copy(self.adj)  # type: ignore[has-type]
                limits.max_request_body_size = _STRANGERS_BODY + 1
                self.adj = limits

    class Connection(HTTPChannel):  # type: ignore[misc]
        parser_class = Request

        def __init__(
            self,
            server: BaseWSGIServer,
            sock: Any,
            addr: tuple[Any, ...],
            adj: Adjustments,
            map: Any = None,  # noqa: A002 - so waitress calls it
        ) -> None:
            super().__init__(server, sock, addr, adj, map=map)
            others = list(server.active_channels.values())
            if sum(channel.addr[0] == addr[0] for channel in others) > most:
                self.handle_close()

    return Connection
