"""To see a server at work: its threads, where its connections wait, and how fast it answers.

    server          ControlServer: the page, and what it is made of, on a port of its own; access: who may see it
    page            the live page
    source          where the numbers come from: this process; remote: another one's control server; messages: as JSON
    counts          responses; lanes: threads; bursts: hand-offs and waits, from some milliseconds step by step
    trace           steps as a Chrome trace, and as pictures
    metrics         for Prometheus
    processes       of a PreforkTaskmaster
    compare         `taskmaster watch --compare`: models side by side, each in a process of its own (child, children),
                    under the same clients (load, load_process, clients)
    gather          `taskmaster watch URL...`: servers that run already; asking: control servers, for people
    top             `taskmaster top`; top_picture, top_history, top_keys
    slow_motion     lessons: a model, one event at a time

Nothing of it is in the way of a request but that a response is counted: see `acceptor.recording` and `watching.counts`.
"""

from watching.processes import control_for
from watching.remote import RemoteSource
from watching.server import ControlServer, Load
from watching.source import LocalSource, Source, SourceError

__all__ = ["ControlServer", "Load", "LocalSource", "RemoteSource", "Source", "SourceError", "control_for"]
