"""The wire of the extra `fast`: llhttp, which is Node's parser, through httptools.

It is asked for the fields of heads to which the strict rules of `acceptor.wire` have nothing to say: almost all there
are. Whatever it refuses of those, and every head that breaks a rule which is allowed, h11 reads, so that what is
refused, and how, does not depend on what is installed. Refused by llhttp, and not by h11, are: methods that it does not
know, and HTTP/1.2; one length that is there twice. What llhttp lets through and h11 does not is judged by
`acceptor.heads`.
"""

from __future__ import annotations

import threading

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from acceptor.wire import H11Wire

__all__ = ["HttptoolsWire"]


class HttptoolsWire(H11Wire):
    """Through llhttp, and what that does not take through h11."""

    __slots__ = ()

    def _parse(self, raw: bytes, line: tuple[bytes, ...]) -> list[tuple[bytes, bytes]]:
        parser = _of_thread.parser
        fields = parser.fields
        if not fields.whole:
            parser = _of_thread.parser = _Parser()
            fields = parser.fields
        fields.whole = False
        fields.clear()
        try:
            parser.feed(raw)
        except HttpParserUpgrade:  # at the end of the head; what follows is for another protocol, it thinks
            fields.whole = False
        except HttpParserCallbackError as error:  # ours raise nothing: it is a signal handler's
            fields.whole = False
            raise (error.__context__ or error) from None
        except HttpParserError:
            return super()._parse(raw, line)
        return fields.copy()


class _Fields(list[tuple[bytes, bytes]]):
    """Of the last head, as llhttp reports them. Apart from the parser, which has it, lest the two be a cycle."""

    __slots__ = ("whole",)

    def __init__(self) -> None:
        self.whole = True
        """Its message has been read to the end, body and all, and so the parser is at the beginning of another."""

    def on_header(self, name: bytes, value: bytes) -> None:
        self.append((name.lower(), value.rstrip()))  # white space is a space or a tab, by the strict rules

    def on_message_complete(self) -> None:
        self.whole = True


class _Parser:
    """One llhttp, which reads one head after the other."""

    __slots__ = ("feed", "fields")

    def __init__(self) -> None:
        self.fields = _Fields()
        llhttp = HttpRequestParser(self.fields)
        # Else it reads nothing behind a head that says `Connection: close`. It is not its connection.
        llhttp.set_dangerous_leniencies(lenient_keep_alive=True)
        self.feed = llhttp.feed_data


class _OfThread(threading.local):
    """A parser for each thread, since heads are read whole. One for each connection would cost 1 us where they are not
    kept, and memory where they are."""

    def __init__(self) -> None:
        self.parser = _Parser()


_of_thread = _OfThread()
