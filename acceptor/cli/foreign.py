"""What the options of gunicorn, waitress-serve, cheroot and uvicorn are called here, for those who switch."""

from __future__ import annotations

__all__ = ["here_it_is"]

_SAME = {
    "--host": "--bind HOST:PORT", "--port": "--bind HOST:PORT", "-p": "--pidfile, or --bind HOST:PORT",
    "--listen": "--bind",
    "--unix-socket": "--bind unix:/PATH", "--uds": "--bind unix:/PATH", "--fd": "--bind fd://N",
    "-k": "--taskmaster", "--worker-class": "--taskmaster", "--call": "--factory", "--chdir": "--app-dir",
    "--pythonpath": "--app-dir", "--pid": "--pidfile", "--url-prefix": "--script-name", "--root-path": "--script-name",
    "--keep-alive": "--timeout-keep-alive", "--timeout-graceful-shutdown": "--graceful-timeout",
    "--shutdown-timeout": "--graceful-timeout", "--limit-request-fields": "--limit-header-count",
    "--limit-request-field_size": "--limit-head", "--max-request-header-size": "--limit-head",
    "--max-request-body-size": "--limit-body", "--connection-limit": "--limit-connections",
    "--limit-concurrency": "--threads and --queue", "--accepted-queue-size": "--queue",
    "--request-queue-size": "--backlog", "--max-requests": "--limit-requests-per-connection, if connections are meant",
    "--limit-max-requests": "--limit-requests-per-connection, if connections are meant",
    "--forwarded-allow-ips": "--trusted-proxies", "--trusted-proxy": "--trusted-proxies",
    "--proxy-allow-from": "--proxy-protocol", "--access-logfile": "--access-log", "--access-logformat":
    "--access-log-format", "--error-logfile": "--error-log", "--log-file": "--error-log", "--log-config-json":
    "--log-config", "--ssl-certfile": "--certfile", "--ssl-keyfile": "--keyfile", "--ca-certs": "--client-ca",
    "--ssl-ca-certs": "--client-ca", "--cert-reqs": "--client-certificate", "--ssl-cert-reqs": "--client-certificate",
    "--ssl-ciphers": "--ciphers", "--reload-extra-file": "--reload-dir and --reload-include",
}

_OTHERWISE = {
    ("-w", "--workers", "--worker-connections"):
        "one process serves here, with as many threads as --threads says; for more processes start several, with "
        "--reuse-port",
    ("--timeout", "-T", "--channel-timeout"):
        "no thread is ended here; a slow client is bounded by --timeout-head, --timeout-body and --timeout-write, and "
        "--timeout-handler logs a slow application",
    ("-D", "--daemon"): "start it from systemd, or the like",
    ("-u", "--user", "-g", "--group"): "start it as that user; systemd, or the like, can pass it a port below 1024",
    ("-c",): "the configuration is a TOML file here: --config",
    ("--preload",): "the application is always loaded before anything is listened on",
}


def here_it_is(option: str) -> str:
    """What to write here for `option` of another server; "" if it is none that is known."""
    if option in _SAME:
        return f"here it is {_SAME[option]}"
    return next((text for options, text in _OTHERWISE.items() if option in options), "")
