"""TLS as a server is given it: where its certificates come from, and whom it trusts.

    TLS --context--> TLSSocket          each connection's, with the context of that moment; see acceptor/tls_socket.py
     ^                  |
     +------ sni -------+               in its handshake, on the thread that serves it: another certificate, by name
"""

from __future__ import annotations

import functools
import logging
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from acceptor.tls_socket import PlainHTTPError, ServerSide, TLSInfo, TLSSocket

__all__ = ["TLS", "PlainHTTPError", "TLSInfo", "TLSSocket"]

logger = logging.getLogger("acceptor")

StrPath = str | os.PathLike[str]

_VERIFY = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


class TLS:
    """The certificates of a server, and what it asks of its clients. One for all connections; safe in every thread.

    certfile: a PEM file: the server's certificate, then the intermediate ones.
    keyfile: a PEM file with the private key; None: it is in `certfile`.
    password: of an encrypted key.
    client_ca: a PEM file: the authorities that may have signed the certificates of clients.
    client_certificate: whether clients are asked for one: "none", "optional" (one that does not verify is refused all
        the same) or "required". "none" if there is no `client_ca`, and only then.
    sni: called during each handshake, on the thread that serves the connection, with the name that the client wants (in
        lower case, as it came, so not to be trusted; None: it sent none: RFC 6066 section 3). It returns the TLS or the
        context whose certificate is to be shown, None for this one. If it raises, that is logged and the handshake
        fails. OpenSSL takes the certificate and `client_ca` from what it returns, and nothing else: the versions,
        ciphers and `client_certificate` are those of this one, and the last must be the same in both.
    ciphers: for TLS 1.2, an OpenSSL cipher list; None: Python's.
    minimum_version: ssl.TLSVersion.TLSv1_2 or TLSv1_3.

    ALPN offers "http/1.1"; there is neither compression nor renegotiation. TypeError or ValueError for what is wrong
    with the arguments or the files.
    """

    def __init__(self, certfile: StrPath, keyfile: StrPath | None = None, *, password: str | None = None,
                 client_ca: StrPath | None = None,
                 client_certificate: Literal["none", "optional", "required"] = "none",
                 sni: Callable[[str | None], TLS | ssl.SSLContext | None] | None = None, ciphers: str | None = None,
                 minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> None:
        if client_certificate not in _VERIFY:
            raise ValueError(f"client_certificate={client_certificate!r}: pass one of {', '.join(map(repr, _VERIFY))}")
        if (client_ca is None) != (client_certificate == "none"):
            raise ValueError(f"client_certificate={client_certificate!r} with client_ca={client_ca!r}: to ask clients "
                             'for certificates pass client_certificate="optional" or "required", and as client_ca the '
                             "PEM file of the authorities that sign them; else neither")
        if minimum_version not in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            raise ValueError(f"minimum_version={minimum_version!r}: pass ssl.TLSVersion.TLSv1_2 or TLSv1_3 (older ones "
                             "are broken: RFC 8996; if you must, make a context of your own for TLS.of)")
        self._begin(functools.partial(_context, certfile, certfile if keyfile is None else keyfile, password, client_ca,
                                      client_certificate, ciphers, minimum_version), sni)

    @classmethod
    def of(cls, make_context: Callable[[], ssl.SSLContext], *,
           sni: Callable[[str | None], TLS | ssl.SSLContext | None] | None = None) -> TLS:
        """For everything else: with the context that `make_context` returns, now and at each `reload`, as it is.

        Its `sni_callback` is replaced by one that records the name and calls `sni`.
        """
        tls = cls.__new__(cls)
        tls._begin(make_context, sni)
        return tls

    def _begin(self, make_context: Callable[[], ssl.SSLContext],
               sni: Callable[[str | None], TLS | ssl.SSLContext | None] | None) -> None:
        for name, value in (("make_context", make_context), ("sni", sni)):
            if value is not None and not callable(value):
                raise TypeError(f"{name}={value!r}: pass a function")
        self._make_context = make_context
        self._sni = sni
        self.reload()

    @property
    def context(self) -> ssl.SSLContext:
        """What the next connection is to use."""
        return self._context

    def reload(self) -> None:
        """Read the files again, for new connections; open ones keep what they have. If it raises, nothing has changed.

        Blocks for the files. From any thread, but from one at a time, or the older files may win.
        """
        context = self._make_context()
        if not isinstance(context, ssl.SSLContext) or context.protocol is ssl.PROTOCOL_TLS_CLIENT:
            raise TypeError(f"make_context returned {context!r}: return an ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)")
        if self._sni is not None and context.verify_mode is not ssl.CERT_NONE:
            # OpenSSL resumes under one name a session that was begun under another, and does not ask for the client's
            # certificate again. Where the names have different client_ca, that would open all of them to any. Python
            # can stop it in TLS 1.3 only.
            if context.minimum_version is not ssl.TLSVersion.TLSv1_3:
                raise ValueError("sni together with client certificates: pass minimum_version=ssl.TLSVersion.TLSv1_3 "
                                 "(in TLS 1.2 a client could carry its session over from one name to another)")
            context.num_tickets = 0
        context.sslobject_class = ServerSide
        context.sni_callback = self._on_name
        self._context = context

    def _on_name(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> int | None:
        """OpenSSL's servername callback. (A name that is not ASCII never gets here: Python refuses it, on stderr.)"""
        try:
            name = name and name.lower()
            if isinstance(connection, ServerSide):
                connection.server_name = name
            chosen = self._sni and self._sni(name)
            if chosen is None:
                return None
            chosen = chosen.context if isinstance(chosen, TLS) else chosen
            if chosen.verify_mode is not context.verify_mode:
                raise ValueError("sni returned a TLS with another client_certificate, which OpenSSL would not heed: "
                                 "give it the same as the default, or an acceptor of its own")
            connection.context = chosen
        except BaseException:  # what OpenSSL calls cannot raise to our caller
            logger.exception("sni(%r) failed; its handshake ends", name)
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        return None


def _context(certfile: StrPath, keyfile: StrPath, password: str | None, client_ca: StrPath | None,
             client_certificate: str, ciphers: str | None, minimum_version: ssl.TLSVersion) -> ssl.SSLContext:
    _pem("certfile", certfile, b"CERTIFICATE", "certificate, then the intermediate ones")
    _pem("keyfile", keyfile, b"PRIVATE KEY", "private key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.minimum_version = minimum_version
    context.set_alpn_protocols(["http/1.1"])

    def ask() -> str:  # else OpenSSL would ask at the terminal
        if password is None:
            raise ValueError(f"keyfile={str(keyfile)!r}: its key is encrypted; pass password=")
        return password

    try:
        context.load_cert_chain(certfile, keyfile, ask)
    except ssl.SSLError as error:
        fix = ("the key is not that of the first certificate; pass the two that were issued together"
               if error.reason == "KEY_VALUES_MISMATCH" else
               f"{error}; pass intact PEM files and, for an encrypted key, the right password")
        raise ValueError(f"certfile={str(certfile)!r}, keyfile={str(keyfile)!r}: {fix}") from error
    if ciphers is not None:
        try:
            context.set_ciphers(ciphers)
        except ssl.SSLError as error:
            raise ValueError(f"ciphers={ciphers!r}: {error}; pass a list as `openssl ciphers` takes it") from error
    if client_ca is not None:
        _pem("client_ca", client_ca, b"CERTIFICATE", "certificates of authorities")
        try:
            context.load_verify_locations(client_ca)
        except ssl.SSLError as error:
            raise ValueError(f"client_ca={str(client_ca)!r}: {error}; pass an intact PEM file") from error
    context.verify_mode = _VERIFY[client_certificate]
    return context


def _pem(name: str, path: StrPath, label: bytes, content: str) -> None:
    """ValueError or TypeError, naming the file, if it cannot be that; OpenSSL would not say which file it was."""
    try:
        data = Path(path).read_bytes()
    except TypeError:
        raise TypeError(f"{name}={path!r}: pass the path of a PEM file with the {content}") from None
    except OSError as error:
        raise ValueError(f"{name}={str(path)!r}: {error.strerror}; pass the path of a PEM file that this process may "
                         f"read, with the {content}") from error
    if label + b"-----" not in data:
        raise ValueError(f"{name}={str(path)!r}: no {label.decode()} is in it; pass a PEM file with the {content}")
