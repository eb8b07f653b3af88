"""Waitress as the embedded stack serves with it: strict about framing, problems as problem+json.

Two readings of where a request ends, or of whom it is for, are how requests are smuggled past a
proxy (RFC 9112, 11.2): what can be read in two ways is refused.
"""

import functools
import re
import socket
from contextlib import suppress
from typing import Any

import waitress
from flask import json
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError, TransferEncodingNotImplemented
from waitress.server import BaseWSGIServer
from waitress.task import ErrorTask
from waitress.utilities import BadRequest, RequestEntityTooLarge

from impasto.shared.errors import (
    BodyTooLarge,
    HeadersTooLarge,
    ImpastoError,
    MalformedRequest,
    Violation,
)

from .problems import MEDIA_TYPE

_ERRORS = {error.status: error for error in (MalformedRequest, BodyTooLarge, HeadersTooLarge)}
_LINE_BYTES_MAX = 8190  # of a chunk's size or a trailer, as gunicorn has it
_HOST = re.compile(rb"^host[ \t]*:", re.IGNORECASE | re.MULTILINE)


def create_server(
    application: Any,
    listening: socket.socket,
    sockets: dict[int, wasyncore.dispatcher],
    *,
    threads: int,
    max_body_bytes: int,
) -> BaseWSGIServer:
    """A server that is not running yet.

    sockets: waitress's map of what its loop watches.
    max_body_bytes: a longer Content-Length is refused before the body comes.
    """

    class Channel(_Channel):
        parser_class = staticmethod(functools.partial(_Parser, max_body_bytes))

    server = waitress.create_server(
        application,
        map=sockets,
        sockets=[listening],
        threads=threads,
        # Of a chunked body, framing included: above the application's own bound, whose refusal
        # says more.
        max_request_body_size=2 * max_body_bytes + 2**20,
        clear_untrusted_proxy_headers=True,
    )
    server.channel_class = Channel
    return server


class _Parser(HTTPRequestParser):
    completed: bool

    def __init__(self, max_body_bytes: int, adj: Any) -> None:
        super().__init__(adj)
        self._max_body_bytes = max_body_bytes

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        if self.chunked and not self.completed:
            pending = len(self.body_rcv.control_line) + len(self.body_rcv.trailer)
            if pending > _LINE_BYTES_MAX:
                self.error = BadRequest("a chunk's size or the trailer is too long")
                self.completed = True
        if self.error or self.body_rcv is None:
            # Nobody is asked to go on: waitress would wait for a body, and for ever.
            self.expect_continue = False
        return consumed

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except TransferEncodingNotImplemented as error:
            raise ParsingError("Transfer-Encoding: accepted: chunked") from error
        except ValueError as error:  # of a bad address, or a number without end
            raise ParsingError(str(error)) from error
        self._check_framing(header_plus)
        if self.content_length > self._max_body_bytes:
            self.error = RequestEntityTooLarge(f"at most {self._max_body_bytes} bytes")
            self.completed = True

    def _check_framing(self, header_plus: bytes) -> None:
        told = self.headers
        if self.version not in {"1.0", "1.1"}:
            raise ParsingError("accepted: HTTP/1.1 or HTTP/1.0")
        if len(_HOST.findall(header_plus)) > 1:
            raise ParsingError("Host: accepted: one")
        if self.chunked and "CONTENT_LENGTH" in told:
            raise ParsingError("accepted: Content-Length or Transfer-Encoding, not both")
        if self.version == "1.0" and "TRANSFER_ENCODING" in told:
            raise ParsingError("Transfer-Encoding: accepted with HTTP/1.1")


class _ErrorTask(ErrorTask):
    """What waitress itself refuses, as a problem."""

    def execute(self) -> None:
        found = self.request.error
        kind = _ERRORS.get(found.code)
        told = [Violation("body", None, found.body)] if kind is BodyTooLarge else []
        problem = (kind(found.body, violations=told) if kind else ImpastoError()).problem()
        body = json.dumps(problem).encode()
        self.status = f"{problem['status']} {problem['title']}"
        self.response_headers += [("Content-Type", MEDIA_TYPE), ("Cache-Control", "no-store")]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.channel.is_refused = True
        self.write(body)


class _Channel(HTTPChannel):
    """Reads on after a refusal: a client that still sends would see a reset, and no answer."""

    close_when_flushed: bool
    error_task_class = _ErrorTask
    is_refused = False
    _lingers = False  # the answer is sent, and the client knows that none will follow

    def readable(self) -> bool:
        return self._lingers or super().readable()

    def handle_read(self) -> None:
        if not self._lingers:
            super().handle_read()
            return
        try:
            self.recv(self.adj.recv_bytes)  # it closes the channel where the client has
        except OSError:
            self.handle_close()

    def handle_write(self) -> None:
        if self.is_refused and self.close_when_flushed:
            self._flush_exception(self._flush_some)
            if not (self.total_outbufs_len or self.will_close):
                self.close_when_flushed = False
                self._lingers = True  # until waitress closes it as one without activity
                with suppress(OSError):
                    self.socket.shutdown(socket.SHUT_WR)
            return
        super().handle_write()
