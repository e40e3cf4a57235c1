"""The application of `tests.apps`, as one writes it with Flask."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from typing import Any

import flask
from flask import Flask, Response, abort, g, redirect, render_template, request, session, url_for
from werkzeug.exceptions import HTTPException

from tests.apps import FILE_NAME, TEMPLATES, Digest, probe

__all__ = ["app"]

app = Flask(__name__, template_folder=str(TEMPLATES))
app.config.update(SECRET_KEY="not a secret", SESSION_COOKIE_SAMESITE="Lax")


@app.teardown_request
def finished(_: BaseException | None) -> None:
    probe.count("finished")


@app.after_request
def watch(response: Response) -> Response:
    response.call_on_close(lambda: probe.count("closed"))
    return response


@app.errorhandler(HTTPException)
def error_page(error: HTTPException) -> Any:
    """The same page for every status; the headers, such as Allow, are those of the error."""
    response = error.get_response()
    response.set_data(render_template("error.html", title=f"{error.code} {error.name}"))
    return response


@app.get("/")
def index() -> str:
    return render_template("index.html", title="Start", user=session.get("user"), login=url_for("login"))


@app.get("/hello/<name>")
def hello(name: str) -> str:
    return render_template("index.html", title=request.args.get("title", "Hello"), user=name)


@app.get("/about/")
def about() -> str:
    return "about"


@app.route("/login", methods=["GET", "POST"])
def login() -> Any:
    if request.method == "POST":
        if not hmac.compare_digest(request.form.get("token", ""), session.get("token", "-")):
            abort(403)
        session["user"] = request.form["user"]
        return redirect(url_for("index"))
    token = session.setdefault("token", secrets.token_hex())
    return render_template("login.html", title="Log in", action=url_for("login"), token_name="token", token=token)


@app.post("/logout")
def logout() -> Any:
    if not hmac.compare_digest(request.form.get("token", ""), session.get("token", "-")):
        abort(403)
    session.clear()
    return redirect(url_for("index"))


@app.get("/counter")
def counter() -> dict[str, int]:
    session["count"] = session.get("count", 0) + 1
    return {"count": session["count"]}


@app.get("/cookies")
def cookies() -> Response:
    response = flask.make_response("three")
    response.set_cookie("one", "1")
    response.set_cookie("two", "2; and a half", max_age=3600, path="/cookies")
    response.delete_cookie("three")
    return response


@app.post("/upload")
def upload() -> dict[str, Any]:
    if (file := request.files.get("file")) is None:
        return {"title": request.form.get("title"), "name": None, "size": 0}
    digest = Digest(iter(lambda: file.stream.read(65536), b""))
    return {"title": request.form["title"], "name": file.filename, "size": digest.size, "sha256": str(digest)}


@app.post("/body")
def body() -> dict[str, Any]:
    digest = Digest(iter(lambda: request.stream.read(65536), b""))
    return {"size": digest.size, "sha256": str(digest)}


@app.post("/ignore")
def ignore() -> str:
    return "ignored"


@app.post("/limited")
def limited() -> str:
    request.max_content_length = 1_000_000
    return str(len(request.get_data()))


@app.post("/json")
def json() -> Any:
    return flask.jsonify(request.get_json())


@app.get("/headers")
def headers() -> Response:
    response = flask.make_response("")
    response.headers["X-Echo"] = request.headers["X-Echo"]
    return response


@app.get("/stream/<int:count>")
def stream(count: int) -> Response:
    return Response(probe.pieces(count), mimetype="text/plain")


@app.get("/gated")
def gated() -> Response:
    return Response(probe.gated(), mimetype="text/plain")


@app.get("/halfway")
def halfway() -> Response:
    return Response(probe.halfway(), mimetype="text/plain")


@app.get("/async")
async def asynchronous() -> dict[str, str]:
    await asyncio.sleep(0)
    return {"path": request.path}


@app.get("/crash")
def crash() -> str:
    raise RuntimeError("the application crashes")


@app.get("/file")
def file() -> Response:
    return flask.send_file(probe.file, as_attachment=True, download_name=FILE_NAME)


@app.get("/where")
def where() -> dict[str, Any]:
    return {"url": url_for("where", _external=True), "secure": request.is_secure, "client": request.remote_addr}


@app.get("/mine/<token>")
def mine(token: str) -> dict[str, str]:
    g.token = session["token"] = token
    probe.meet()
    return {"g": g.token, "session": session["token"], "url": request.path}
