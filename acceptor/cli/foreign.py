"""What the options of gunicorn, waitress-serve, cheroot, uvicorn and granian are called here, for those who switch.

The same is said of them as options and as keys in a TOML file; docs/switching.md says more.
"""

from __future__ import annotations

__all__ = ["LIKE", "here_it_is"]

LIKE = {"gthread": "pool", "threads": "pool", "sync": "pool with --threads 1", "gevent": "recycling",
        "eventlet": "recycling", "tornado": "recycling"}
"""By the names of gunicorn's workers: the model that is the most like it."""

_SAME = {
    "--host": "--bind HOST:PORT", "--port": "--bind HOST:PORT", "-p": "--pidfile, or --bind HOST:PORT",
    "--listen": "--bind", "--unix-socket": "--bind unix:/PATH", "--uds": "--bind unix:/PATH", "--fd": "--bind fd://N",
    "--call": "--factory", "--pythonpath": "--app-dir", "--pid": "--pidfile", "--url-prefix": "--script-name",
    "--root-path": "--script-name", "--keep-alive": "--timeout-keep-alive",
    "--timeout-graceful-shutdown": "--graceful-timeout", "--shutdown-timeout": "--graceful-timeout",
    "--limit-request-fields": "--limit-header-count", "--limit-request-field-size": "--limit-head",
    "--max-request-header-size": "--limit-head", "--max-request-body-size": "--limit-body",
    "--connection-limit": "--limit-connections", "--limit-concurrency": "--threads and --queue",
    "--accepted-queue-size": "--queue", "--request-queue-size": "--backlog",
    "--worker-connections": "--limit-connections", "--forwarded-allow-ips": "--trusted-proxies",
    "--trusted-proxy": "--trusted-proxies", "--proxy-allow-from": "--proxy-protocol",
    "--access-logfile": "--access-log", "--access-logformat": "--access-log-format", "--error-logfile": "--error-log",
    "--log-file": "--error-log", "--log-config-json": "--log-config", "--cert": "--certfile", "--key": "--keyfile",
    "--ssl-certfile": "--certfile", "--ssl-keyfile": "--keyfile", "--ca-certs": "--client-ca",
    "--ssl-ca-certs": "--client-ca", "--cert-reqs": "--client-certificate", "--ssl-cert-reqs": "--client-certificate",
    "--ssl-ciphers": "--ciphers", "--reload-extra-file": "--reload-dir and --reload-include",
    "-w": "--processes", "--workers": "--processes", "--limit-max-requests": "--max-requests",
    "--limit-max-requests-jitter": "--max-requests-jitter", "--workers-max-rss": "--max-memory, with K, M or G",
    "--workers-kill-timeout": "--graceful-timeout", "--blocking-threads": "--threads",
    "--blocking-threads-idle-timeout": "--idle-timeout",
    "--backpressure": "--threads and --queue", "--ssl-certificate": "--certfile", "--ssl-ca": "--client-ca",
    "--ssl-client-verify": "--client-certificate required", "--ssl-protocol-min": "--tls-minimum",
    "--ssl-version": "--tls-minimum", "--access-log-fmt": "--access-log-format", "--url-path-prefix": "--script-name",
    "--reload-paths": "--reload-dir", "--pid-file": "--pidfile",
    "--http1-header-read-timeout": "--timeout-head",
}

_OTHERWISE = {
    ("--timeout", "-T", "--channel-timeout"):
        "no thread is ended here; a slow client is bounded by --timeout-head, --timeout-body and --timeout-write, and "
        "--timeout-handler logs a slow application",
    ("-D", "--daemon"): "start it from systemd, or the like",
    ("-u", "--user", "-g", "--group"): "start it as that user; systemd, or the like, can pass it a port below 1024",
    ("--workers-lifetime",):
        "no process is replaced because of its age; --max-requests and --max-memory say when one is",
    ("--respawn-failed-workers", "--respawn-interval", "--timeout-worker-healthcheck"):
        "a worker process that dies is always replaced; leave it out",
    ("-k", "--worker-class"):
        "for gthread, --taskmaster pool is the most like it, for sync the same with --threads 1",
    ("--runtime-threads", "--runtime-blocking-threads", "--runtime-mode", "--loop", "--ws", "--lifespan"):
        "there is no such thing here: WSGI, HTTP/1.1, and Python's own threads; leave it out",
    ("--debug",): "--log-level debug logs more, and --reload follows changes",
    ("-v", "--version"): "write `taskmaster --version`, or --log-level debug for more in the log",
    ("--url-scheme", "--proxy-headers"):
        "the scheme is what the connection is, or what a proxy that is among --trusted-proxies says",
    ("-R", "--capture-output"): "what the application writes stays on standard output and error; leave it out",
    ("-m", "--umask"): "the umask is that of whoever starts this; set it in the shell, or by systemd's UMask",
    ("--unix-socket-perms", "--uds-permissions", "--socket-mode"):
        "a socket's file has the mode that the umask leaves; set that, or systemd's SocketMode",
    ("-e", "--env"): "set variables before this is started, in the shell or by systemd's Environment",
    ("-n", "--name"): "no process is renamed; leave it out",
    ("--chdir", "--working-dir"):
        "the working directory stays: cd first; modules are looked for in --app-dir",
    ("-c",): "the configuration is a TOML file here: --config",
    ("--preload",): "the application is always loaded before anything is listened on, and before processes are forked",
}


def here_it_is(option: str) -> str:
    """What to write here for `option` of another server, with - or _ in it; "" if it is none that is known."""
    option = option.replace("_", "-")
    if option in _SAME:
        return f"here it is {_SAME[option]}"
    return next((text for options, text in _OTHERWISE.items() if option in options), "")
