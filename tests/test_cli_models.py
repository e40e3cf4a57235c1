"""The taskmaster that the options make: of the five models, of a class of the user's own, and in processes."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from acceptor.cli.configuration import read_configuration
from acceptor.cli.errors import CliError, ConfigurationError, StartError
from acceptor.cli.models import MODELS, describe, in_effect, inner_of, make_taskmaster
from acceptor.cli.offload import LateExecutor
from acceptor.cli.options import option_named
from taskmaster import (
    EventLoopTaskmaster,
    PooledTaskmaster,
    RecyclingTaskmaster,
    SingleThreadedTaskmaster,
    Taskmaster,
    ThreadPerConnectionTaskmaster,
)
from taskmaster.cpus import available_cpus
from taskmaster.prefork import PreforkTaskmaster
from taskmaster.threaded import DEFAULT_IDLE

OWN = """
from taskmaster import PooledTaskmaster, RecyclingTaskmaster, Taskmaster

class Plain(PooledTaskmaster):
    pass

class Passing(RecyclingTaskmaster):
    def __init__(self, colour="red", **options):
        super().__init__(**options)

class Few(PooledTaskmaster):
    def __init__(self, threads=3):
        super().__init__(threads=threads)

class Demanding(PooledTaskmaster):
    def __init__(self, colour):
        super().__init__()

class Picky(PooledTaskmaster):
    def __init__(self):
        raise ValueError("not on a Monday")

class Broken(PooledTaskmaster):
    def __init__(self):
        raise OSError("no disk")

class Abstract(Taskmaster):
    pass

function = len
"""


def make(**options: str) -> Taskmaster:
    command_line = {name.replace("_", "-"): value for name, value in options.items()}
    return make_taskmaster(read_configuration(command_line, {}, Path("/nonexistent")), Path("/nonexistent"))


@pytest.mark.parametrize(("options", "kind", "attributes"), [
    ({}, RecyclingTaskmaster, {"standby": 4, "max_thread_count": 100, "max_accept_count": None, "idle_timeout": 10.0}),
    ({"threads": "64"}, RecyclingTaskmaster, {"standby": 4, "max_thread_count": 64}),
    ({"threads": "4"}, RecyclingTaskmaster, {"standby": 4, "max_thread_count": 4}),
    ({"threads": "4:64"}, RecyclingTaskmaster, {"standby": 4, "max_thread_count": 64}),
    ({"standby": "3", "queue": "5", "idle_timeout": "2.5"}, RecyclingTaskmaster,
     {"standby": 3, "max_accept_count": 5, "idle_timeout": 2.5}),
    ({"taskmaster": "recycling", "queue": "none"}, RecyclingTaskmaster, {"max_accept_count": None}),
    ({"taskmaster": "single"}, SingleThreadedTaskmaster, {"max_thread_count": 1}),
    ({"taskmaster": "Thread"}, ThreadPerConnectionTaskmaster, {"max_thread_count": 100, "max_accept_count": 20}),
    ({"taskmaster": "thread", "threads": "7", "queue": "0"}, ThreadPerConnectionTaskmaster,
     {"max_thread_count": 7, "max_accept_count": 0}),
    ({"taskmaster": "thread", "threads": "none"}, ThreadPerConnectionTaskmaster,
     {"max_thread_count": None, "max_accept_count": None}),
    ({"taskmaster": "pool"}, PooledTaskmaster, {"max_thread_count": 16, "max_accept_count": 1000}),
    ({"taskmaster": "pool", "threads": "7", "queue": "none"}, PooledTaskmaster,
     {"max_thread_count": 7, "max_accept_count": None}),
    ({"idle": "park"}, RecyclingTaskmaster, {"idle": "park", "inline": "fair"}),
    ({"idle": "hold"}, RecyclingTaskmaster, {"idle": "hold"}),
    ({"taskmaster": "pool", "idle": "Park"}, PooledTaskmaster, {"idle": "park"}),
    ({"taskmaster": "loop"}, EventLoopTaskmaster, {"offload": None, "max_thread_count": 1}),
    ({"taskmaster": "loop", "offload": "none"}, EventLoopTaskmaster, {"offload": None}),
    ({"taskmaster": "loop", "processes": "none"}, EventLoopTaskmaster, {"offload": None}),
])
def test_the_options_become_the_arguments_of_the_model(options: dict[str, str], kind: type[Taskmaster],
                                                       attributes: dict[str, Any]) -> None:
    made = make(**options)
    assert type(made) is kind
    assert {name: getattr(made, name) for name in attributes} == attributes


@pytest.mark.parametrize("offload", ["threads:3", "processes:2"])
def test_the_executor_is_not_made_before_it_is_needed(offload: str) -> None:
    made = make(taskmaster="loop", offload=offload)
    assert isinstance(made, EventLoopTaskmaster)
    assert isinstance(made.offload, LateExecutor)
    assert made.offload._executor is None


@pytest.mark.parametrize(("options", "attributes"), [
    ({"processes": "3"}, {"process_count": 3, "max_requests": None, "max_memory": None, "deadline": 30.0}),
    ({"processes": "auto"}, {"process_count": available_cpus()}),
    ({"processes": "1", "graceful_timeout": "5"}, {"process_count": 1, "deadline": 5.0}),
    ({"processes": "2", "max_requests": "1000"}, {"max_requests": 1000, "max_requests_jitter": 100}),
    ({"processes": "2", "max_requests": "1000", "max_requests_jitter": "0", "max_memory": "300M"},
     {"max_requests_jitter": 0, "max_memory": 300 << 20}),
    ({"processes": "2", "max_requests": "none", "max_memory": "none"}, {"max_requests": None, "max_memory": None}),
])
def test_with_processes_each_has_the_model(options: dict[str, str], attributes: dict[str, Any]) -> None:
    made = make(taskmaster="pool", threads="3", **options)
    assert isinstance(made, PreforkTaskmaster)
    assert {name: getattr(made, name) for name in attributes} == attributes
    assert isinstance(made.inner, PooledTaskmaster)
    assert made.inner.max_thread_count == 3
    assert inner_of(made) is made.inner
    assert inner_of(made.inner) is made.inner


@pytest.mark.parametrize(("options", "message"), [
    ({"taskmaster": "gevent"}, "--taskmaster 'gevent': there is no such model; recycling is the most like it"),
    ({"max_requests": "9"}, "--max-requests 9: it is about worker processes, and there are none without --processes"),
    ({"max_requests_jitter": "0"}, "--max-requests-jitter 0: it is about worker processes"),
    ({"max_memory": "1M"}, "give both, if only --processes 1"),
    ({"processes": "2", "max_requests_jitter": "9"}, "--max-requests-jitter 9: there is no --max-requests; give both"),
    ({"processes": "300"}, "--processes 300: write a whole number from 1 to 256"),
    ({"taskmaster": "single", "idle": "park"}, "the model single has no --idle; pool and recycling have"),
    ({"taskmaster": "loop", "idle": "park"}, "the model loop has no --idle; pool and recycling have"),
    ({"taskmaster": "loop", "queue": "3"}, "the model loop has no --queue; thread, pool and recycling have"),
    ({"taskmaster": "poool"}, "--taskmaster 'poool': there is no such model; write single, thread, pool, recycling"),
    ({"taskmaster": "poool"}, "or for one of your own package.module:Class; did you mean 'pool'?"),
    ({"taskmaster": "single", "threads": "4"}, "the model single has no --threads; thread, pool and recycling have"),
    ({"taskmaster": "single", "queue": "none"}, "--queue none: the model single has no --queue"),
    ({"taskmaster": "pool", "threads": "4:64"},
     "--threads 4:64: the model pool has no --standby, and no range of --threads; write --threads 64, or -t recycling"),
    ({"taskmaster": "pool", "standby": "4"}, "has no --standby, and no range of --threads; recycling has"),
    ({"taskmaster": "gthread"}, "--taskmaster 'gthread': there is no such model; pool is the most like it"),
    ({"taskmaster": "30"}, "gunicorn's -t is --timeout-handler here"),
    ({"taskmaster": "thread", "standby": "4"}, "--standby 4: the model thread has no --standby"),
    ({"taskmaster": "thread", "idle_timeout": "4"}, "4: the model thread has no --idle-timeout; recycling has"),
    ({"threads": "4:64", "standby": "5"}, "--threads 4:64 and --standby 5: both say how many threads wait"),
    ({"threads": "none"}, "--threads none: the model recycling has a bound; write a number of at least 1"),
    ({"taskmaster": "pool", "threads": "none"}, "--threads none: the model pool has a bound"),
    ({"standby": "500"}, "--taskmaster recycling: --standby 500 is more than --threads 100"),
    ({"taskmaster": "thread", "threads": "none", "queue": "3"}, "--queue 3 without --threads"),
])
def test_an_option_that_the_model_does_not_have_or_like_is_never_ignored(options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make(**options)
    assert message in str(caught.value)


def test_the_defaults_that_the_help_tells_are_those_of_the_models() -> None:
    assert option_named("taskmaster").default in MODELS
    thread, pool, recycling = ThreadPerConnectionTaskmaster(), PooledTaskmaster(), RecyclingTaskmaster()
    assert option_named("threads").default_text == (
        f"thread {thread.max_thread_count}, pool {pool.max_thread_count}, "
        f"recycling {recycling.standby}:{recycling.max_thread_count}")
    assert option_named("queue").default_text == (
        f"thread {thread.max_accept_count}, pool {pool.max_accept_count}, recycling "
        f"{str(recycling.max_accept_count).lower()}")
    assert option_named("standby").default_text.startswith(f"{recycling.standby}, ")
    assert option_named("idle-timeout").default_text == f"{recycling.idle_timeout:g}"
    assert option_named("idle").default_text == recycling.idle == pool.idle


@pytest.mark.parametrize(("options", "text"), [
    ({}, "RecyclingTaskmaster, 4 to 100 threads"),
    ({"taskmaster": "pool", "threads": "4"}, "PooledTaskmaster, 4 threads"),
    ({"taskmaster": "single"}, "SingleThreadedTaskmaster, 1 thread"),
    ({"taskmaster": "thread", "threads": "none"}, "ThreadPerConnectionTaskmaster, a thread for each connection"),
    ({"taskmaster": "loop"}, "EventLoopTaskmaster, 1 thread"),
    ({"taskmaster": "loop", "offload": "threads:4"}, "EventLoopTaskmaster, 1 thread and --offload"),
    ({"taskmaster": "single", "processes": "1"}, "1 worker process, each with SingleThreadedTaskmaster, 1 thread"),
    ({"processes": "2"}, "2 worker processes, each with RecyclingTaskmaster, 4 to 100 threads"),
])
def test_a_model_is_described_for_the_log(options: dict[str, str], text: str) -> None:
    assert describe(make(**options)) == text


@pytest.mark.parametrize(("options", "values"), [
    ({}, {"threads": "4:100", "standby": "4", "queue": "none", "idle-timeout": "10", "idle": DEFAULT_IDLE}),
    ({"processes": "2"}, {"threads": "4:100", "standby": "4", "queue": "none", "idle-timeout": "10",
                          "idle": DEFAULT_IDLE}),
    ({"threads": "4", "idle": "park"}, {"threads": "4:4", "standby": "4", "queue": "none", "idle-timeout": "10",
                                        "idle": "park"}),
    ({"taskmaster": "pool", "queue": "none"}, {"threads": "16", "queue": "none", "idle": DEFAULT_IDLE}),
    ({"taskmaster": "Thread"}, {"threads": "100", "queue": "20"}),
    ({"taskmaster": "single"}, {}),
    ({"taskmaster": "loop"}, {"offload": "none"}),
])
def test_what_is_in_effect_is_what_the_model_has(options: dict[str, str], values: dict[str, str]) -> None:
    command_line = {name.replace("_", "-"): value for name, value in options.items()}
    found = in_effect(read_configuration(command_line, {}, Path("/nonexistent")))
    assert set(found) == {"threads", "standby", "queue", "idle-timeout", "idle", "offload"}
    assert {name: value for name, value in found.items() if value} == values


@pytest.mark.parametrize("options", [{"taskmaster": "own_models:Plain"}, {"standby": "500"}])
def test_of_a_class_of_ones_own_and_of_wrong_options_nothing_is_said(options: dict[str, str]) -> None:
    assert in_effect(read_configuration(options, {}, Path("/nonexistent"))) == {}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module `own_models` that can be imported during the test."""
    (tmp_path / "own_models.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_models", raising=False)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(("options", "attributes"), [
    ({"taskmaster": "own_models:Plain", "threads": "3", "queue": "4"}, {"max_thread_count": 3, "max_accept_count": 4}),
    ({"taskmaster": "own_models:Passing", "threads": "3:4"}, {"standby": 3, "max_thread_count": 4}),
    ({"taskmaster": "own_models:Few", "threads": "5"}, {"max_thread_count": 5}),
    ({"taskmaster": "own_models:Few"}, {"max_thread_count": 3}),
])
def test_a_class_of_ones_own_gets_what_its_constructor_takes(options: dict[str, str], attributes: dict[str, Any]
                                                             ) -> None:
    made = make(**options)
    assert type(made).__module__ == "own_models"
    assert {name: getattr(made, name) for name in attributes} == attributes


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(("options", "error", "message"), [
    ({"taskmaster": "own_models:Few", "queue": "3"}, ConfigurationError,
     "--queue 3: Few() has no argument called queue_size or max_accept_count; it takes threads"),
    ({"taskmaster": "own_models:Picky", "threads": "3"}, ConfigurationError, "it takes none"),
    ({"taskmaster": "own_models:Demanding"}, ConfigurationError, "missing 1 required positional argument: 'colour'"),
    ({"taskmaster": "own_models:Picky"}, ConfigurationError, "--taskmaster own_models:Picky: not on a Monday"),
    ({"taskmaster": "own_models:Broken"}, StartError, "OSError: no disk"),
    ({"taskmaster": "own_models:Plian"}, StartError, "has no 'Plian'; did you mean 'Plain'?"),
    ({"taskmaster": "own_models:Abstract"}, StartError, "is not finished: it has no execute_acceptor, "),
    ({"taskmaster": "own_models:function"}, StartError, "name a class derived from taskmaster.Taskmaster"),
    ({"taskmaster": "own_models"}, ConfigurationError, "there is no such model"),
    ({"taskmaster": "own_models:"}, ConfigurationError, 'write "own_models:" and the name of what is meant'),
])
def test_a_class_of_ones_own_that_cannot_be_made_says_why(options: dict[str, str], error: type[CliError], message: str
                                                          ) -> None:
    with pytest.raises(error, match=re.escape(message)):
        make(**options)
