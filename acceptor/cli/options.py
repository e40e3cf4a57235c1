"""The table of options: what `taskmaster serve` can be told, on the command line, in the environment or in a file.

It is the only list of them. The parameters of the command, the names of environment variables, the keys of TOML files,
--print-config and the settings reference of the documentation are made of it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from acceptor.access import AccessFormatter
from acceptor.cli.kinds import (
    ADDRESS,
    CONTROL,
    DECIMAL,
    DIRECTORY,
    FILE,
    FLAG,
    NETWORK,
    NUMBER,
    OFFLOAD,
    PROCESSES,
    SCRIPT_NAME,
    SIZE,
    TEXT,
    THREADS,
    URL_PATH,
    VIOLATION,
    Kind,
    choice,
    duration,
    whole,
)
from acceptor.settings import Limits, Timeouts
from acceptor.wire import WIRES
from taskmaster.arguments import whole_number
from taskmaster.threaded import DEFAULT_IDLE

__all__ = ["OPTIONS", "SECTIONS", "Option", "option_named"]


@dataclass(frozen=True)
class Option:
    name: str
    """As on the command line, without the dashes, and in TOML: "limit-body"."""
    section: str
    kind: Kind
    help: str
    becomes: str
    """What it is in Python, for those who call `Acceptor` themselves: "Limits.body"."""
    default: Any = None
    default_text: str = ""
    """What the help says of the default, where that is not its value."""
    short: str = ""
    repeatable: bool = False
    """Its value is a tuple."""
    everywhere: bool = True
    """Else it is for the command line only."""

    @property
    def flag(self) -> str:
        """"--limit-body"; for the only argument, "MODULE:ATTRIBUTE"."""
        return self.kind.metavar if self.is_argument else f"--{self.name}"

    @property
    def variable(self) -> str:
        """Of the environment: "TASKMASTER_LIMIT_BODY"."""
        return f"TASKMASTER_{self.name.replace('-', '_').upper()}"

    @property
    def is_argument(self) -> bool:
        return self.name == "app"

    @property
    def is_flag(self) -> bool:
        return self.kind is FLAG

    @property
    def has_default(self) -> bool:
        """Else None means that there is no value, or that the default depends on something: see `default_text`."""
        return self.default is not None or (not self.default_text and self.kind.metavar.endswith("|none"))

    @property
    def default_shown(self) -> str:
        """For people; "" if there is none."""
        if self.default_text or not self.has_default:
            return self.default_text
        if self.default is None:
            return "none"
        values = self.default if isinstance(self.default, tuple) else (self.default,)
        return " ".join("off" if value is False else str(self.kind.unparse(value)) for value in values)


APPLICATION = [
    Option("app", "Application", Kind("MODULE:ATTRIBUTE", TEXT.parse),
           "The application. Without an attribute: app, or else application. Dotted names are understood, and so is "
           "module:make().",
           "Acceptor(handler)"),
    Option("factory", "Application", FLAG,
           "The attribute is a function that makes the application: call it, without arguments.",
           "Acceptor(handler)", default=False),
    Option("app-dir", "Application", DIRECTORY,
           "Look for modules here before anywhere else. The working directory stays as it is.",
           "sys.path[0]", default="."),
    Option("interface", "Application", choice("auto", "wsgi", "handler"),
           "What the application is. auto tells by its parameters: (environ, start_response) is WSGI, (request) is a "
           "handler; a function that looks like a factory is refused. ASGI is not served here.",
           "acceptor.interfaces.is_wsgi", default="auto"),
    Option("script-name", "Application", SCRIPT_NAME,
           "WSGI: the path below which the application is mounted, which becomes SCRIPT_NAME. What is not below it is "
           "answered 404.",
           "acceptor.wsgi.WSGI(script_name)"),
]

LISTEN = [
    Option("bind", "Listen", ADDRESS,
           "Where to listen: 127.0.0.1:8080, [::1]:8080, :8080 (every address of this machine), unix:/path "
           "(its file has the mode that the umask leaves), unix:@name, fd://3, or systemd.",
           "Acceptor(bind)", default=("127.0.0.1:8080",),
           default_text="127.0.0.1:8080, or 0.0.0.0:$PORT if PORT is set", short="-b", repeatable=True),
    Option("backlog", "Listen", whole(at_least=1),
           "Connections that the kernel may queue before they are accepted. net.core.somaxconn bounds it.",
           "Acceptor(backlog)", default=1024),
    Option("reuse-port", "Listen", FLAG,
           "Share the ports with other servers that say so too (SO_REUSEPORT): the kernel divides the connections "
           "among them. For several processes of one server, --processes is better.",
           "Acceptor(reuse_port)", default=False),
]

MODEL = [
    Option("taskmaster", "Model", Kind("MODEL", TEXT.parse),
           "Which threads accept and which serve: recycling grows with the load, and is right for most; pool has a "
           "fixed number and a queue, for bounded memory; thread has one for each connection, for many that "
           "wait; single has one in all, for what must not run twice at once; loop has one that waits for all "
           "connections at once, and with --offload others for the application; or a class of your own, as "
           "package.module:Class. With --processes, each process has these.",
           "Acceptor(taskmaster)", default="recycling", short="-t"),
    Option("threads", "Model", THREADS,
           "Requests served at once, each by a thread; see --idle for what connections cost. recycling takes a range, "
           "too: 4:64 keeps 4 waiting and has 64 at most. With -t thread, none means no limit.",
           "max_thread_count, standby; PooledTaskmaster(threads)",
           default_text="thread 100, pool 16, recycling 4:100"),
    Option("standby", "Model", whole(at_least=1),
           "recycling: threads that wait when there is nothing to do; the MIN of a range.",
           "RecyclingTaskmaster(standby)", default_text="4, or --threads if that is less"),
    Option("queue", "Model", whole(at_least=0).or_none(),
           "thread, pool, recycling: connections that may wait for one of those threads; the next is answered 503. "
           "none: they wait in the kernel, and nobody is refused.",
           "max_accept_count; PooledTaskmaster(queue_size)", default_text="thread 20, pool 1000, recycling none"),
    Option("idle-timeout", "Model", duration(),
           "recycling: a thread that has got no connection for so long ends, if more than --standby wait.",
           "RecyclingTaskmaster(idle_timeout)", default_text="10"),
    Option("idle", "Model", choice("hold", "park"),
           "pool, recycling: whether a connection that waits for its client costs a thread. park: it costs memory and "
           "a descriptor, so there may be many more connections than --threads. hold: it keeps its thread until the "
           "next request, unless others wait for one; so it is in the model thread, and there is no choice.",
           "PooledTaskmaster(idle), RecyclingTaskmaster(idle)", default_text=DEFAULT_IDLE),
    Option("offload", "Model", OFFLOAD,
           "loop: where the application runs, so that the loop need not wait for it. threads:16; processes:4, each of "
           "which loads the application, and whose answers are sent once they are whole; or package.module:function, "
           "which makes an executor of concurrent.futures. none: in the loop, where a request that takes time keeps "
           "all others waiting.",
           "EventLoopTaskmaster(offload)", default_text="none"),
]

WORKERS = [
    Option("processes", "Processes", PROCESSES,
           "Worker processes that share the addresses, and each serve as --taskmaster says: with the threads, queues "
           "and limits that are asked for, each. The application is loaded once, before they are forked; hooks, see "
           "--hooks, open what must not be shared. auto: one for each processor that this process may use. One that "
           "dies is replaced. none: this process serves by itself.",
           "PreforkTaskmaster(processes)", default_text="$WEB_CONCURRENCY, else none"),
    Option("max-requests", "Processes", whole(at_least=1).or_none(),
           "Replace a worker process after so many requests, for applications whose memory grows; the next one is "
           "ready before, so nobody waits.",
           "PreforkTaskmaster(max_requests)"),
    Option("max-requests-jitter", "Processes", whole(at_least=0),
           "Up to so many requests more, at random for each process, so that not all are replaced at once.",
           "PreforkTaskmaster(max_requests_jitter)", default_text="a tenth of --max-requests"),
    Option("max-memory", "Processes", SIZE.checked(lambda value: whole_number("", value, at_least=1)).or_none(),
           "Replace a worker process that has more than this in RAM, what it shares with the others included.",
           "PreforkTaskmaster(max_memory)"),
]

_LIMITS = {
    "request_line": "The longest request line: method, target, version. A longer one is answered 414.",
    "head": "The longest head: the request line and all header fields. A longer one is answered 431.",
    "header_count": "The most header fields of a request, and trailer fields of a chunked body. More are answered 431.",
    "body": "The longest body of a request. A longer one is answered 413. The application may have smaller limits.",
    "chunk_extensions": "The longest chunk extensions, which nobody needs, of a body. Longer ones are answered 400.",
    "trailers": "The longest trailer section of a chunked body. A longer one is answered 431.",
    "requests_per_connection": "After so many requests a connection closes, and the client opens another.",
    "connections": "The most connections open at once, of all processes together. The next is answered 503.",
    "connections_per_address": "The most connections open at once from one client address, of all processes "
                               "together. The next is answered 503. Behind a proxy all clients have the proxy's "
                               "address.",
}
_IN_BYTES = {"request_line", "head", "body", "chunk_extensions", "trailers"}

_TIMEOUTS = {
    "handshake": "For the TLS handshake, and for a PROXY header before it. Then the connection closes.",
    "head": "From the first byte of a request to the end of its head. Then 408.",
    "body": "How long a client may stall in all while sending a body; what it sends earns time back: see "
            "--minimum-rate. Then 408.",
    "write": "How long a client may stall in all while it reads a response; what it takes earns time back: see "
             "--minimum-rate. Then it is cut.",
    "keep_alive": "Between a response and the next request. A proxy in front should let go of idle connections sooner.",
    "minimum_rate": "Every so many bytes that a client sends or takes give it back a second of --timeout-body or "
                    "--timeout-write; so uploads and downloads may take long, if only they go on. none: nothing is "
                    "given back.",
    "pressed": "While all threads are busy and others wait, a slow client has only so long, and idle connections that "
               "hold a thread close at once. none: nobody gives way.",
    "handler": "A request for which the application takes longer is logged, with the stack of its thread. It goes "
               "on: nothing kills a stuck request.",
    "linger": "After a last answer, what the client still sends is read for so long, so that it can read that answer.",
}
_NOT_PREFIXED = {"minimum_rate"}


def _fields(settings: type[Limits | Timeouts], section: str, prefix: str, helps: dict[str, str]) -> list[Option]:
    """An option for each field of a dataclass, which checks the values."""
    def option(name: str, annotation: str, default: Any) -> Option:
        kind = NUMBER
        if settings is Timeouts:
            kind = DECIMAL if name in _NOT_PREFIXED else replace(DECIMAL, metavar="SECONDS")
        elif name in _IN_BYTES:
            kind = SIZE
        kind = kind.checked(lambda value: settings(**{name: value}))
        long_name = name if name in _NOT_PREFIXED else f"{prefix}_{name}"
        return Option(long_name.replace("_", "-"), section, kind.or_none() if "None" in annotation else kind,
                      helps[name], f"{settings.__name__}.{name}", default=default)

    return [option(field.name, str(field.type), field.default) for field in fields(settings)]


LIMITS = _fields(Limits, "Limits", "limit", _LIMITS)
TIMEOUTS = _fields(Timeouts, "Timeouts", "timeout", _TIMEOUTS)

HTTP = [
    Option("allow", "HTTP", VIOLATION,
           "Serve requests that violate HTTP in this way all the same, such as bare-lf or obs-fold. All "
           "names are in docs/http.md, and an unknown one lists them.",
           "Acceptor(allow)", default=(), repeatable=True),
    Option("http", "HTTP", choice(*WIRES),
           "What parses the heads of requests. auto: httptools, if it is installed (pip install 'taskmasters[fast]'), "
           "else h11. Only the speed differs.",
           "Acceptor(http)", default="auto"),
]

PROXIES = [
    Option("trusted-proxies", "Proxies", NETWORK,
           "Believe X-Forwarded-For, -Proto and -Host of these peers, and remove them from the requests of all others: "
           "127.0.0.1, 10.0.0.0/8, unix, or * (everybody).",
           "Acceptor(trusted_proxies)", default=(), default_text="$FORWARDED_ALLOW_IPS, else nobody", repeatable=True),
    Option("forwarded-header", "Proxies", choice("x-forwarded", "forwarded"),
           "Which headers those proxies send: X-Forwarded-..., or Forwarded (RFC 7239).",
           "acceptor.forwarded.ForwardedHeaders(header)", default="x-forwarded"),
    Option("proxy-protocol", "Proxies", NETWORK,
           "Connections of these peers begin with a PROXY header, as HAProxy sends it, and must.",
           "Acceptor(proxy_protocol)", default=(), repeatable=True),
]

SECURITY = [
    Option("certfile", "TLS", FILE,
           "PEM file: the certificate of this server, then the intermediate ones. Every connection is TLS then.",
           "TLS(certfile)"),
    Option("keyfile", "TLS", FILE,
           "PEM file with the private key.",
           "TLS(keyfile)", default_text="it is in --certfile"),
    Option("keyfile-password-file", "TLS", FILE,
           "File whose first line is the password of the private key.",
           "TLS(password)"),
    Option("ciphers", "TLS", TEXT,
           "For TLS 1.2: a list as `openssl ciphers` takes it.",
           "TLS(ciphers)", default_text="Python's"),
    Option("tls-minimum", "TLS", choice("1.2", "1.3"),
           "The oldest version of TLS to speak.",
           "TLS(minimum_version)", default="1.2"),
    Option("client-certificate", "TLS", choice("none", "optional", "required"),
           "Whether clients are asked for a certificate, signed by --client-ca.",
           "TLS(client_certificate)", default="none"),
    Option("client-ca", "TLS", FILE,
           "PEM file of the authorities that sign the certificates of clients.",
           "TLS(client_ca)"),
]

LIFE = [
    Option("graceful-timeout", "Lifecycle", duration(zero=True),
           "When told to stop: requests in progress have so long to end, then they are cut, and the exit code is 3.",
           "Acceptor.serve_forever(deadline)", default=30.0),
    Option("leave", "Lifecycle", duration(zero=True),
           "When told to stop: first go on serving for so long, while --ready-path says 503, so that load balancers "
           "send no more.",
           "Acceptor.serve_forever(leave)", default=0.0),
    Option("live-path", "Lifecycle", URL_PATH,
           "A path to answer 200 at as long as the server lives, such as /livez. While all threads are busy it is "
           "answered without one, if the connection has been accepted: give --queue a number, for with none it "
           "waits in the kernel. Not over TLS, nor behind a PROXY header.",
           "acceptor.health.Health(live); Acceptor(urgent)"),
    Option("ready-path", "Lifecycle", URL_PATH,
           "A path to answer 200 at while the server is ready, and 503 once it is told to stop, such as /readyz. "
           "While all threads are busy, as --live-path.",
           "acceptor.health.Health(ready); Acceptor(urgent)"),
    Option("hooks", "Lifecycle", Kind("MODULE:OBJECT", TEXT.parse),
           "An object, or without a colon a module, with any of the functions starting, ready, stopping, stopped "
           "(called with the Acceptor, in the main process), process_start and process_exit (in each process that "
           "serves, before and after it does), thread_start and thread_exit.",
           "Acceptor(hooks); Taskmaster.on_thread_start, on_thread_exit; PreforkTaskmaster.on_process_start, "
           "on_process_exit"),
    Option("pidfile", "Lifecycle", FILE,
           "Write the process id, of the main process, here while the server runs.",
           ""),
]

LOGS = [
    Option("access-log", "Logs", FILE,
           "A line for each response, in this file; - is standard output.",
           'Acceptor(access_log); the logger "acceptor.access"', default_text="off"),
    Option("access-log-format", "Logs", Kind("FORMAT", TEXT.parse).checked(AccessFormatter),
           "common, combined, json, or a template such as '%(h)s \"%(r)s\" %(s)s %(D)s': client, request "
           "line, status, microseconds. All fields are in `python -m pydoc acceptor.access.AccessFormatter`.",
           "acceptor.access.AccessFormatter(style)", default="common"),
    Option("error-log", "Logs", FILE,
           "Everything else that the server has to say, in this file; - is standard error. What the application writes "
           "itself (wsgi.errors, print, its own logging) stays on standard error.",
           'the loggers "acceptor" and "taskmaster"', default="-"),
    Option("log-level", "Logs", choice("debug", "info", "warning", "error", "critical"),
           "Log this level and above.",
           "Logger.setLevel", default="info"),
    Option("log-format", "Logs", choice("text", "json"),
           "Format of the error log: lines for people, or a JSON object in each line.",
           "Handler.setFormatter", default="text"),
    Option("log-config", "Logs", FILE,
           "Instead of the other log options: a dictConfig as .json or .toml, or the ini form of "
           "logging.config.fileConfig. The access log is on if it has a handler for the logger acceptor.access.",
           "logging.config"),
]

WATCHING = [
    Option("control", "Watching", CONTROL,
           "Where to show what the server does: each thread, the connections that wait, and figures for Prometheus "
           "(/metrics), such as 127.0.0.1:9000 or unix:/run/app-control.sock. It has threads of its own. See it in a "
           "browser, or by `taskmaster top ADDRESS`. An address that other machines can reach needs --control-token.",
           "watching.ControlServer(acceptor, bind)"),
    Option("control-token", "Watching", TEXT,
           "What must be known to see it: http://ADDRESS/?token=TEXT, or a header Authorization: Bearer TEXT. Set it "
           "in the environment: command lines can be seen by everybody on the machine.",
           "watching.ControlServer(token)"),
]

DEVELOPMENT = [
    Option("reload", "Development", FLAG,
           "Restart the server when a file changes. Meanwhile clients wait; they are not refused.",
           "", default=False),
    Option("reload-dir", "Development", DIRECTORY,
           "Watch the files in and below here.",
           "", default=(), default_text="--app-dir", repeatable=True),
    Option("reload-include", "Development", Kind("PATTERN", TEXT.parse),
           "Watch files with names like this, too: '*.html'.",
           "", default=(), default_text="*.py alone", repeatable=True),
]

CONFIGURATION = [
    Option("config", "Configuration", FILE,
           "TOML file with these options, without their dashes. Of a pyproject.toml the table [tool.taskmaster] is "
           "read.",
           "", default_text="./pyproject.toml, if it has that table"),
    Option("check-config", "Configuration", FLAG,
           "Load everything, the application and the certificates too, but listen nowhere. Say what is wrong, or that "
           "nothing is.",
           "", default=False, everywhere=False),
    Option("print-config", "Configuration", FLAG,
           "Print every option, its value and where that is from, as a TOML file for --config.",
           "", default=False, everywhere=False),
]

OPTIONS: tuple[Option, ...] = (*APPLICATION, *LISTEN, *MODEL, *WORKERS, *LOGS, *WATCHING, *DEVELOPMENT, *CONFIGURATION,
                               *LIFE, *PROXIES, *SECURITY, *TIMEOUTS, *LIMITS, *HTTP)
"""Those that most people need come first."""
SECTIONS: tuple[str, ...] = tuple(dict.fromkeys(option.section for option in OPTIONS))

_BY_NAME = {option.name: option for option in OPTIONS}


def option_named(name: str) -> Option:
    """KeyError if there is none."""
    return _BY_NAME[name]
