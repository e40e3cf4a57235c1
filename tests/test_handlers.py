"""The workloads, and the easy handlers: what is bound to a function's parameters, and what is refused."""

from __future__ import annotations

import functools
import io
import math
import threading
import time
from collections.abc import Callable, Iterable
from http.client import HTTPConnection
from typing import Any, List, Optional, Union  # noqa: UP035  # what users still write must work, too
from urllib.parse import urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import handlers
from acceptor import Acceptor, ClientDisconnectedError, Headers, HTTPError, Request, Response
from handlers import ECHO_LIMIT, delay, easy_handler, echo, hello, spin
from taskmaster import PooledTaskmaster

FORM = "application/x-www-form-urlencoded"


class Body(io.RawIOBase):
    """A request's body, which counts the bytes that were read of it."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)
        self.taken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._data.readinto(buffer)
        self.taken += count
        return count


def make_request(target: str = "/", method: str = "GET", body: bytes | Body = b"", kind: str | None = None,
                 length: int | str | None = None) -> Request:
    """A request as the acceptor would make it. kind: its Content-Type; length: its Content-Length, if it has one."""
    headers = [(b"host", b"test")]
    if kind is not None:
        headers.append((b"content-type", kind.encode("latin-1")))
    if length is not None:
        headers.append((b"content-length", str(length).encode("latin-1")))
    return Request(method, target, "1.1", Headers(headers), body=Body(body) if isinstance(body, bytes) else body)


def status_of(handler: Callable[[Request], object], request: Request) -> int:
    """The status that the acceptor would answer with."""
    try:
        answer = handler(request)
    except HTTPError as error:
        return error.status
    return answer.status if isinstance(answer, Response) else 200


def text_of(response: Response) -> str:
    assert isinstance(response.body, bytes), f"{response!r} should have a body of bytes"
    return response.body.decode()


def test_everything_exported_is_there_and_nothing_is_exported_twice() -> None:
    assert [name for name in handlers.__all__ if not hasattr(handlers, name)] == []
    assert sorted(set(handlers.__all__)) == sorted(handlers.__all__)


# hello.

def test_hello_answers_with_its_greeting_as_text() -> None:
    response = hello(make_request())
    assert (response.status, response.body) == (200, b"Hello, World")
    assert dict(response.headers)[b"content-type"] == b"text/plain; charset=utf-8"


def test_hello_makes_nothing_for_a_request() -> None:
    assert hello(make_request("/a")) is hello(make_request("/b"))


# echo.

@given(st.binary(max_size=2000))
def test_echo_answers_with_the_bytes_that_were_sent_and_their_type(data: bytes) -> None:
    response = echo(make_request(method="POST", body=data, kind="image/png", length=len(data)))
    assert (response.status, response.body) == (200, data)
    assert dict(response.headers)[b"content-type"] == b"image/png"


@pytest.mark.parametrize("kind", [None, ""])
def test_echo_calls_bytes_without_a_type_what_they_are(kind: str | None) -> None:
    response = echo(make_request(method="POST", body=b"abc", kind=kind))
    assert dict(response.headers)[b"content-type"] == b"application/octet-stream"


def test_echo_without_a_body_answers_an_empty_one() -> None:
    assert echo(Request("GET", "/", "1.1", Headers([]))).body == b""


@pytest.mark.parametrize("length", [None, ECHO_LIMIT])
def test_echo_answers_a_body_of_exactly_its_limit(length: int | None) -> None:
    data = b"x" * ECHO_LIMIT
    assert echo(make_request(method="POST", body=data, length=length)).body == data


def test_echo_refuses_one_byte_more_than_its_limit() -> None:
    with pytest.raises(HTTPError) as caught:
        echo(make_request(method="POST", body=b"x" * (ECHO_LIMIT + 1)))
    assert caught.value.status == 413
    assert str(ECHO_LIMIT) in text_of(caught.value.response)


def test_echo_reads_nothing_of_a_body_that_announces_itself_as_too_long() -> None:
    body = Body(b"x" * 10)
    request = make_request(method="POST", body=body, length=ECHO_LIMIT + 1)
    assert status_of(echo, request) == 413
    assert body.taken == 0, f"{body.taken} bytes were read of a body that is refused"


def test_echo_does_not_read_a_chunked_body_much_beyond_its_limit() -> None:
    body = Body(b"x" * (3 * ECHO_LIMIT))
    assert status_of(echo, make_request(method="POST", body=body)) == 413
    assert body.taken < 2 * ECHO_LIMIT, f"{body.taken} bytes were read, the limit is {ECHO_LIMIT}"


@pytest.mark.parametrize("length", ["", "5, 5", "²", "five", "-1", "9" * 5000])
def test_echo_judges_the_body_itself_where_its_length_is_no_number(length: str) -> None:
    assert echo(make_request(method="POST", body=b"abcde", length=length)).body == b"abcde"


@pytest.mark.parametrize("kind", ["text/plain\x01", "a\x7fb", "a\rb", " text/plain"])
def test_echo_refuses_a_type_that_no_response_can_have(kind: str) -> None:
    assert status_of(echo, make_request(method="POST", body=b"abc", kind=kind)) == 400


def test_echo_passes_on_that_the_client_has_left() -> None:
    class Broken(Body):
        def readinto(self, buffer: Any) -> int:
            raise ClientDisconnectedError("gone")

    with pytest.raises(ClientDisconnectedError):
        echo(make_request(method="POST", body=Broken(b"")))


# delay and spin.

def test_delay_sleeps_once_for_as_long_as_it_was_told_and_answers_as_hello(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    handler = delay(0.25)
    monkeypatch.setattr(time, "sleep", slept.append)
    assert slept == [], "it slept when it was made"
    assert handler(make_request()) is hello(make_request())
    assert slept == [0.25]


def test_spin_burns_the_cpu_time_of_its_own_thread_and_answers_as_hello(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([5.0, 5.0, 5.1, 5.2, 5.3])
    taken: list[float] = []

    def thread_time() -> float:
        taken.append(next(readings))
        return taken[-1]

    handler = spin(0.2)
    monkeypatch.setattr(time, "thread_time", thread_time)
    assert handler(make_request()) is hello(make_request())
    assert taken == [5.0, 5.0, 5.1, 5.2], "it should stop at the first reading that is 0.2 s after the start"


def test_spin_burns_at_least_what_it_was_told_by_the_real_clock() -> None:
    handler = spin(0.002)
    start = time.thread_time()
    handler(make_request())
    assert time.thread_time() - start >= 0.002


@pytest.mark.parametrize("make", [delay, spin])
@pytest.mark.parametrize("wrong", ["1", None, True, [], 1j])
def test_a_duration_that_is_no_number_is_refused_by_type(make: Callable[[Any], object], wrong: object) -> None:
    with pytest.raises(TypeError) as caught:
        make(wrong)
    assert str(caught.value).startswith(make.__name__)
    assert "pass a number of seconds" in str(caught.value)


@pytest.mark.parametrize("make", [delay, spin])
@pytest.mark.parametrize("wrong", [-1, -0.001, math.nan, math.inf, -math.inf, 3600.1, 10**400])
def test_a_duration_out_of_range_is_refused_with_the_range(make: Callable[[Any], object], wrong: float) -> None:
    with pytest.raises(ValueError, match="above 0 and up to 3600"):
        make(wrong)


@pytest.mark.parametrize("make", [delay, spin])
@pytest.mark.parametrize("zero", [0, 0.0, -0.0])
def test_a_duration_of_zero_is_refused_in_favour_of_hello(make: Callable[[Any], object], zero: float) -> None:
    with pytest.raises(ValueError, match="use hello"):
        make(zero)


@pytest.mark.parametrize("make", [delay, spin])
def test_a_workload_says_its_duration_in_its_name(make: Callable[[float], Any]) -> None:
    assert make(0.005).__qualname__ == f"{make.__name__}(0.005)"


# Easy handlers: what is bound.

def bind(function: Callable[..., object], query: str = "", **how: Any) -> dict[str, object]:
    """The arguments that an easy handler with the signature of `function` would be called with."""
    bound: dict[str, object] = {}

    @functools.wraps(function)
    def record(*positional: object, **named: object) -> str:
        names = list(function.__annotations__)
        bound.update(zip(names, positional, strict=False))
        bound.update(named)
        return "done"

    assert easy_handler(record)(make_request(f"/?{query}", **how)) == "done"
    return bound


def refusal(function: Callable[..., Any], query: str = "", **how: Any) -> str:
    """The text of the 400 that an easy handler of `function` answers."""
    with pytest.raises(HTTPError) as caught:
        easy_handler(function)(make_request(f"/?{query}", **how))
    assert caught.value.status == 400, f"{caught.value}"
    assert dict(caught.value.response.headers)[b"content-type"] == b"text/plain; charset=utf-8"
    return text_of(caught.value.response)


def each(s: str, i: int, f: float, b: bool) -> Any: ...
def lists(s: list[str], i: list[int]) -> Any: ...
def optional(s: str | None, i: int | None, f: Optional[float], b: Union[bool, None]) -> Any: ...  # noqa: UP007, UP045
def one_int(n: int) -> Any: ...
def one_str(s: str) -> Any: ...
def one_float(f: float) -> Any: ...
def one_bool(b: bool) -> Any: ...


def greet(request: Request, name: str = "World", times: int = 1) -> str:
    return f"{request.method}: " + f"Hello, {name}!" * times


@pytest.mark.parametrize(("query", "answer"), [
    ("", "GET: Hello, World!"),
    ("name=Ada", "GET: Hello, Ada!"),
    ("times=2&name=Ada", "GET: Hello, Ada!Hello, Ada!"),
    ("name=caf%C3%A9+%26&other=1", "GET: Hello, café &!"),
    ("name=", "GET: Hello, !"),
    ("name", "GET: Hello, !"),
])
def test_parameters_come_from_the_query_by_name_and_type(query: str, answer: str) -> None:
    assert easy_handler(greet)(make_request(f"/greet?{query}")) == answer


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(-(10**398), 10**398),
       st.floats(allow_nan=False, allow_infinity=False), st.booleans())
@example("&=+%?;\x00\r\n", -0, -0.0, False)
def test_values_of_every_type_come_back_as_they_were_sent(s: str, i: int, f: float, b: bool) -> None:
    sent = {"s": s, "i": i, "f": f, "b": b}
    query = urlencode(sent)
    assert bind(each, query) == sent, query
    assert bind(each, method="POST", body=query.encode(), kind=FORM) == sent, query


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))), st.lists(st.integers()))
def test_lists_come_back_in_the_order_in_which_they_were_sent(s: list[str], i: list[int]) -> None:
    query = urlencode({"s": s, "i": i}, doseq=True)
    assert bind(lists, query) == {"s": s, "i": i}, query


@given(st.text(), st.text(), st.binary(max_size=200))
def test_whatever_is_sent_the_answer_is_200_or_400(query: str, value: str, form: bytes) -> None:
    target = f"/?{query}&i={value}&f={value}&b={value}&s={value}"
    for function in (each, lists, optional):
        status = status_of(easy_handler(function), make_request(target, "POST", body=form, kind=FORM))
        assert status in (200, 400), f"{function.__name__}: {status} for {target!r} with {form!r}"


@pytest.mark.parametrize(("text", "value"), [
    ("1", True), ("true", True), ("True", True), ("YES", True), ("on", True),
    ("0", False), ("false", False), ("FALSE", False), ("no", False), ("off", False),
])
def test_a_bool_has_four_spellings_each_way(text: str, value: bool) -> None:
    assert bind(one_bool, f"b={text}") == {"b": value}


@pytest.mark.parametrize("text", ["", "x", "1.0", "1_0", "+1", "%201", "1%20", "--1", "0x10", "%D9%A3", "1e3", "1%0A",
                                  "1%00", "9" * 401])
def test_an_int_is_digits_and_perhaps_a_sign(text: str) -> None:
    assert refusal(one_int, f"n={text}").startswith("Parameter n: expected a whole number, got ")


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "-inf", "1e999", "1_0.0", ".", "e5", "1,5", "1.5%20", "0x1p3",
                                  "0" * 400 + "1"])
def test_a_float_is_a_finite_number_as_python_writes_it(text: str) -> None:
    assert refusal(one_float, f"f={text}").startswith("Parameter f: expected a number, got ")


@pytest.mark.parametrize("text", ["", "2", "t", "truee", "null"])
def test_any_other_bool_is_refused(text: str) -> None:
    assert refusal(one_bool, f"b={text}").startswith("Parameter b: expected true or false, got ")


def test_text_that_is_not_utf_8_is_refused() -> None:
    assert refusal(one_str, "s=caf%E9") == "Parameter s: expected text in UTF-8, got 'caf\\udce9'.\n"
    assert "expected text in UTF-8" in refusal(one_str, method="POST", body=b"s=caf\xe9", kind=FORM)


def test_a_field_that_nobody_wants_is_ignored_whatever_it_is() -> None:
    assert bind(one_str, "s=a&q=%E9%FF&q=2&&=&%00=1") == {"s": "a"}


def test_a_parameter_without_default_that_is_not_sent_is_named_with_its_type() -> None:
    assert refusal(one_int) == "Parameter n: missing; expected a whole number.\n"


def test_a_field_sent_twice_for_one_value_is_refused_wherever_it_was_sent() -> None:
    assert refusal(one_int, "n=1&n=1") == "Parameter n: sent 2 times; expected a whole number, once.\n"
    assert "sent 2 times" in refusal(one_int, "n=1", method="POST", body=b"n=1", kind=FORM)


def test_one_bad_value_of_a_list_is_refused() -> None:
    assert refusal(lists, "s=a&i=1&i=two") == "Parameter i: expected a whole number, got 'two'.\n"


@given(st.text(min_size=1))
@example("\U0001f600" * 5000)
def test_what_a_refusal_repeats_is_short_and_holds_only_printable_ascii(value: str) -> None:
    query = urlencode({"n": f"x{value}"}, errors="surrogatepass")
    text = refusal(one_int, query)
    assert text.removesuffix("\n").isprintable(), f"{text!r}"
    assert text.isascii(), f"{text!r}"
    assert len(text) < 500, f"{len(text)} characters: {text!r}"


@pytest.mark.parametrize("query", ["", "s=&i=&f=&b="])
def test_what_may_be_none_is_none_if_it_is_not_sent_or_empty_and_no_text(query: str) -> None:
    nothing = None if not query else ""
    assert bind(optional, query) == {"s": nothing, "i": None, "f": None, "b": None}


def test_what_may_be_none_is_converted_if_it_is_sent() -> None:
    assert bind(optional, "s=a&i=1&f=.5&b=no") == {"s": "a", "i": 1, "f": 0.5, "b": False}
    assert "Parameter i" in refusal(optional, "i=x")


def test_a_default_is_taken_only_if_the_field_is_not_sent() -> None:
    def function(i: int | None = 7, many: list[int] = [1, 2]) -> Any: ...  # noqa: B006

    assert bind(function) == {"i": 7, "many": [1, 2]}
    assert bind(function, "i=&many=3") == {"i": None, "many": [3]}


def test_a_list_may_be_none_or_hold_any_of_the_types() -> None:
    def function(f: list[float], b: List[bool], n: list[int] | None) -> Any: ...  # noqa: UP006

    assert bind(function) == {"f": [], "b": [], "n": None}
    assert bind(function, "f=1&f=2e3&b=on&n=5") == {"f": [1.0, 2000.0], "b": [True], "n": [5]}


def test_a_list_that_is_not_sent_is_a_new_one_each_time() -> None:
    def function(many: list[str]) -> str:
        many.append("x")
        return ",".join(many)

    handler = easy_handler(function)
    assert [handler(make_request()) for _ in range(2)] == ["x", "x"]


def test_every_way_of_passing_arguments_works_and_the_request_may_stand_anywhere() -> None:
    def function(a: int, /, b: str, *, c: bool = False, asked: Request) -> str:
        return f"{a} {b} {c} {asked.target}"

    assert easy_handler(function)(make_request("/?c=1&b=x&a=2")) == "2 x True /?c=1&b=x&a=2"


def test_a_function_may_do_without_the_request_and_without_parameters() -> None:
    def function() -> bytes:
        return b"nothing asked"

    assert easy_handler(function)(make_request("/?a=1")) == b"nothing asked"


def test_a_method_works() -> None:
    class Counter:
        def add(self, n: int) -> str:
            return str(n + 1)

    assert easy_handler(Counter().add)(make_request("/?n=4")) == "5"


def test_what_the_function_raises_passes_through() -> None:
    def function(n: int) -> str:
        return str(1 // n)

    with pytest.raises(ZeroDivisionError):
        easy_handler(function)(make_request("/?n=0"))


# Easy handlers: forms.

@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize("kind", [FORM, "Application/X-WWW-Form-URLencoded; charset=UTF-8"])
def test_parameters_come_from_the_query_and_the_form(method: str, kind: str) -> None:
    assert bind(each, "s=a&i=1", method=method, body=b"f=2&b=on", kind=kind) == {"s": "a", "i": 1, "f": 2.0, "b": True}


def test_a_list_holds_what_the_query_said_and_then_what_the_form_said() -> None:
    assert bind(lists, "s=a&i=1", method="POST", body=b"s=b&i=2", kind=FORM) == {"s": ["a", "b"], "i": [1, 2]}


@pytest.mark.parametrize(("method", "kind"), [
    ("GET", FORM), ("HEAD", FORM), ("DELETE", FORM), ("POST", None), ("POST", "application/json"),
    ("POST", "multipart/form-data"), ("POST", FORM + "x"),
])
def test_any_other_body_is_left_for_the_function_to_read(method: str, kind: str | None) -> None:
    def function(request: Request, n: int = 0) -> bytes:
        return b"%d " % n + request.body.read()

    assert easy_handler(function)(make_request("/", method, b"n=5", kind)) == b"0 n=5"


def test_a_form_of_exactly_its_limit_is_read_and_one_byte_more_is_not() -> None:
    handler = easy_handler(one_str, form_limit=5)
    assert status_of(handler, make_request("/", "POST", b"s=abc", FORM)) == 200
    assert status_of(handler, make_request("/", "POST", b"s=abcd", FORM)) == 413


def test_a_form_that_announces_itself_as_too_long_is_not_read() -> None:
    body = Body(b"s=abcd")
    assert status_of(easy_handler(one_str, form_limit=5), make_request("/", "POST", body, FORM, length=6)) == 413
    assert body.taken == 0


def test_a_thousand_fields_are_read_and_one_more_is_not() -> None:
    query = "&".join(["i=1"] * 1000)
    assert bind(lists, query)["i"] == [1] * 1000
    assert refusal(lists, query + "&i=1") == "The query has more than 1000 fields.\n"
    form = f"{query}&i=1".encode()
    assert refusal(lists, method="POST", body=form, kind=FORM) == "The form has more than 1000 fields.\n"


# Easy handlers: what is refused when they are made.

def rest_positional(*args: int) -> Any: ...
def rest_named(**kwargs: int) -> Any: ...
def a_dict(x: dict[str, int]) -> Any: ...
def a_bare_list(x: list) -> Any: ...  # type: ignore[type-arg]
def an_old_bare_list(x: List) -> Any: ...  # type: ignore[type-arg]  # noqa: UP006
def a_list_of_lists(x: list[list[int]]) -> Any: ...
def a_union(x: int | str) -> Any: ...
def a_wide_union(x: int | str | None) -> Any: ...
def a_complex(x: complex) -> Any: ...
def anything(x: Any) -> Any: ...
def only_none(x: None) -> Any: ...
def a_request_or_none(x: Request | None) -> Any: ...


@pytest.mark.parametrize("function", [a_dict, a_bare_list, an_old_bare_list, a_list_of_lists, a_union, a_wide_union,
                                      a_complex, anything, only_none, a_request_or_none])
def test_an_annotation_that_is_not_supported_is_refused_with_those_that_are(function: Callable[..., str]) -> None:
    with pytest.raises(TypeError, match="annotate it with str, int, float, bool, list") as caught:
        easy_handler(function)
    assert function.__name__ in str(caught.value), "the function should be named"
    assert "`x: " in str(caught.value), "the parameter should be named"


@pytest.mark.parametrize("function", [rest_positional, rest_named])
def test_parameters_without_a_name_are_refused(function: Callable[..., str]) -> None:
    with pytest.raises(TypeError, match=f"{function.__name__}.*name each parameter"):
        easy_handler(function)


def test_a_parameter_without_annotation_is_refused_with_one_that_would_do() -> None:
    with pytest.raises(TypeError, match="`x`: annotate it, as in `x: str`"):
        easy_handler(lambda x: "")
    with pytest.raises(TypeError, match="annotate it, as in `request: Request`"):
        easy_handler(lambda request: "")


def test_an_annotation_that_cannot_be_found_is_refused_with_where_it_may_hide() -> None:
    def function(x: int) -> Any: ...

    function.__annotations__["x"] = "Missing"
    with pytest.raises(TypeError, match=r"name 'Missing' is not defined.*TYPE_CHECKING"):
        easy_handler(function)


def test_a_coroutine_function_is_refused() -> None:
    async def function(n: int) -> Any: ...

    with pytest.raises(TypeError, match="`async def`; handlers run on threads"):
        easy_handler(function)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [functools.partial(one_int, n=1), int, print, Body])
def test_what_is_no_function_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="pass a function"):
        easy_handler(wrong)


@pytest.mark.parametrize("wrong", [None, "no", 5])
def test_what_cannot_be_called_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="pass a callable"):
        easy_handler(wrong)


@pytest.mark.parametrize(("wrong", "error"), [(0, ValueError), (-1, ValueError), ("1", TypeError), (None, TypeError),
                                              (True, TypeError), (1.0, TypeError)])
def test_a_wrong_form_limit_is_refused(wrong: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"form_limit=.*: pass "):
        easy_handler(one_int, form_limit=wrong)


# Through a server.

def ask(port: int, method: str, target: str, body: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None) -> tuple[int, bytes, str | None]:
    """Status, body and Content-Type of the answer, over a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, target, body, headers or {}, encode_chunked=not isinstance(body, bytes))
        response = connection.getresponse()
        return response.status, response.read(), response.getheader("content-type")
    finally:
        connection.close()


def test_the_workloads_answer_through_a_server() -> None:
    for handler in (hello, delay(0.001), spin(0.001)):
        with Acceptor(handler, port=0, taskmaster=PooledTaskmaster(threads=2)) as server:
            assert ask(server.port, "GET", "/") == (200, b"Hello, World", "text/plain; charset=utf-8")
            assert ask(server.port, "HEAD", "/") == (200, b"", "text/plain; charset=utf-8")


def test_echo_answers_through_a_server_whatever_the_framing() -> None:
    data = bytes(range(256)) * 1000
    with Acceptor(echo, port=0, taskmaster=PooledTaskmaster(threads=2)) as server:
        assert ask(server.port, "POST", "/", data, {"Content-Type": "a/b"}) == (200, data, "a/b")
        pieces = (data[i:i + 999] for i in range(0, len(data), 999))
        assert ask(server.port, "POST", "/", pieces, {"Transfer-Encoding": "chunked"}) == (
            200, data, "application/octet-stream")
        expecting = {"Content-Length": str(ECHO_LIMIT + 1), "Expect": "100-continue"}
        assert ask(server.port, "POST", "/", None, expecting)[0] == 413, "and without asking for the body"


def test_spin_and_hello_may_run_in_many_threads_at_once() -> None:
    handler = spin(0.001)
    answers: list[object] = []
    threads = [threading.Thread(target=lambda: answers.append(handler(make_request()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [hello(make_request())] * 8
