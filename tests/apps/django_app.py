"""The application of `tests.apps`, as one writes it with Django.

Its sessions are in a database, SQLite in a file, to which each thread has a connection of its own as to any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import django  # type: ignore[import-untyped]
from asgiref.local import Local
from django.conf import settings  # type: ignore[import-untyped]
from django.core.management import call_command  # type: ignore[import-untyped]
from django.core.signals import request_finished  # type: ignore[import-untyped]
from django.core.wsgi import get_wsgi_application  # type: ignore[import-untyped]
from django.db import connections  # type: ignore[import-untyped]
from django.http import (  # type: ignore[import-untyped]
    FileResponse,
    HttpResponse,
    HttpResponseBadRequest,
    JsonResponse,
    StreamingHttpResponse,
)
from django.middleware.csrf import get_token  # type: ignore[import-untyped]
from django.shortcuts import redirect, render  # type: ignore[import-untyped]
from django.urls import path, reverse  # type: ignore[import-untyped]
from django.views.decorators.csrf import csrf_exempt  # type: ignore[import-untyped]
from django.views.decorators.http import (  # type: ignore[import-untyped]
    condition,
    require_GET,
    require_http_methods,
    require_POST,
    require_safe,
)

from acceptor.wsgi import Application
from tests.apps import FILE_NAME, TEMPLATES, Digest, probe

__all__ = ["database", "known_length", "make"]

local, thread_local = Local(), threading.local()
context: contextvars.ContextVar[str] = contextvars.ContextVar("token")


def make(folder: Path) -> Application:
    """Set Django up, which is possible once in a process, and return the application.

    folder: where its database is made.
    """
    settings.configure(
        SECRET_KEY=secrets.token_hex(),
        ALLOWED_HOSTS=["127.0.0.1", "test", "shop.example"],
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=["django.contrib.sessions"],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
        ],
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [TEMPLATES]}],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "database"}},
        DATA_UPLOAD_MAX_MEMORY_SIZE=1_000_000,
        FILE_UPLOAD_TEMP_DIR=folder,
        LOGGING_CONFIG=None,
    )
    django.setup()
    call_command("migrate", verbosity=0)
    connections.close_all()
    request_finished.connect(finished)
    application: Application = get_wsgi_application()
    return application


def database() -> Path:
    """The database's file."""
    return Path(settings.DATABASES["default"]["NAME"])


def known_length(app: Application) -> Application:
    """Around Django where clients send chunked bodies: it reads nothing unless it knows the length beforehand."""

    def whole(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with tempfile.SpooledTemporaryFile(1 << 20) as body:
            shutil.copyfileobj(environ["wsgi.input"], body)
            environ |= {"CONTENT_LENGTH": str(body.tell()), "wsgi.input": body}
            body.seek(0)
            with contextlib.closing(app(environ, start_response)) as response:  # type: ignore[type-var]
                yield from response

    return lambda environ, start_response: (whole if "HTTP_TRANSFER_ENCODING" in environ else app)(
        environ, start_response)


def finished(**_: Any) -> None:
    probe.count("finished")
    probe.count("closed")  # it is close() of the response that sends the signal


def index(request: Any) -> Any:
    return render(request, "index.html", {"title": "Start", "user": request.session.get("user"),
                                          "login": reverse("login")})


def hello(request: Any, name: str) -> Any:
    return render(request, "index.html", {"title": request.GET.get("title", "Hello"), "user": name})


def about(request: Any) -> Any:
    return HttpResponse("about")


def login(request: Any) -> Any:
    if request.method == "POST":
        request.session["user"] = request.POST["user"]
        return redirect("index")
    return render(request, "login.html", {"title": "Log in", "action": reverse("login"),
                                          "token_name": "csrfmiddlewaretoken", "token": get_token(request)})


def logout(request: Any) -> Any:
    request.session.flush()
    return redirect("index")


def counter(request: Any) -> Any:
    request.session["count"] = request.session.get("count", 0) + 1
    return JsonResponse({"count": request.session["count"]})


def cookies(request: Any) -> Any:
    response = HttpResponse("three")
    response.set_cookie("one", "1")
    response.set_cookie("two", "2; and a half", max_age=3600, path="/cookies")
    response.delete_cookie("three")
    return response


def upload(request: Any) -> Any:
    file = request.FILES.get("file")
    if file is None:
        return JsonResponse({"title": request.POST.get("title"), "name": None, "size": 0})
    digest = Digest(file.chunks())
    return JsonResponse({"title": request.POST["title"], "name": file.name, "size": digest.size,
                         "sha256": str(digest)})


def body(request: Any) -> Any:
    digest = Digest(iter(lambda: request.read(65536), b""))
    return JsonResponse({"size": digest.size, "sha256": str(digest)})


def ignore(request: Any) -> Any:
    return HttpResponse("ignored")


def limited(request: Any) -> Any:
    return HttpResponse(str(len(request.body)))


def echo_json(request: Any) -> Any:
    try:
        return JsonResponse(json.loads(request.body), safe=False)
    except ValueError as error:
        return HttpResponseBadRequest(str(error))


def headers(request: Any) -> Any:
    return HttpResponse("", headers={"X-Echo": request.headers["X-Echo"]})


def stream(request: Any, count: int) -> Any:
    return StreamingHttpResponse(probe.pieces(count), content_type="text/plain")


def gated(request: Any) -> Any:
    return StreamingHttpResponse(probe.gated(), content_type="text/plain")


def halfway(request: Any) -> Any:
    return StreamingHttpResponse(probe.halfway(), content_type="text/plain")


async def asynchronous(request: Any) -> Any:
    await asyncio.sleep(0)
    return JsonResponse({"path": request.path})


def crash(request: Any) -> Any:
    raise RuntimeError("the application crashes")


def file(request: Any) -> Any:
    return FileResponse(probe.file.open("rb"), as_attachment=True, filename=FILE_NAME)


def _etag(request: Any) -> str:
    status = probe.file.stat()
    return f'"{status.st_mtime_ns:x}-{status.st_size:x}"'


def _last_modified(request: Any) -> datetime:
    return datetime.fromtimestamp(probe.file.stat().st_mtime, UTC)


def where(request: Any) -> Any:
    return JsonResponse({"url": request.build_absolute_uri(reverse("where")), "secure": request.is_secure(),
                         "client": request.META["REMOTE_ADDR"]})


def mine(request: Any, token: str) -> Any:
    from django.contrib.sessions.models import Session  # type: ignore[import-untyped]  # not before django.setup()

    local.token = thread_local.token = token
    context.set(token)
    Session.objects.count()  # opens the database
    probe.meet()
    return JsonResponse({"local": local.token, "thread_local": thread_local.token, "context": context.get(),
                         "url": request.path})


def not_found(request: Any, exception: Exception) -> Any:
    return render(request, "error.html", {"title": "404 Not Found"}, status=404)


def server_error(request: Any) -> Any:
    return render(request, "error.html", {"title": "500 Internal Server Error"}, status=500)


handler404, handler500 = not_found, server_error
api = csrf_exempt
"""Not for browsers, whose forms have a token."""
urlpatterns = [
    path("", index, name="index"),
    path("hello/<name>", hello),
    path("about/", about),
    path("login", require_http_methods(["GET", "POST"])(login), name="login"),
    path("logout", require_POST(logout)),
    path("counter", require_GET(counter)),
    path("cookies", cookies),
    path("upload", api(require_POST(upload))),
    path("body", api(require_POST(body))),
    path("ignore", api(require_POST(ignore))),
    path("limited", api(require_POST(limited))),
    path("json", api(require_POST(echo_json))),
    path("headers", headers),
    path("stream/<int:count>", require_safe(stream)),
    path("gated", gated),
    path("halfway", halfway),
    path("async", asynchronous),
    path("crash", crash),
    path("file", condition(_etag, _last_modified)(file)),
    path("where", where, name="where"),
    path("mine/<token>", mine),
]
