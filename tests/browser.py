"""A browser without a window, driven over the DevTools protocol, to look at the live page.

    python -m tests.browser --frames                 frames a second with 3 x 100 lanes
    python -m tests.browser --screenshots FOLDER     the page in light and dark, wide and narrow

Chromium speaks the protocol over two pipes, its file descriptors 3 and 4: JSON messages that end with a NUL
(--remote-debugging-pipe). So it takes no library, and no port. https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.page_server import made_up

__all__ = ["BROWSER", "Browser"]

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 20.0
"""Seconds for an answer of the browser, or for a condition on the page."""
_FRAMES = """
new Promise((done) => {
  const times = [];
  const tick = (at) => {
    times.push(at);
    if (at - times[0] < %d) requestAnimationFrame(tick);
    else done(times);
  };
  requestAnimationFrame(tick);
})
"""
# As `exec` with these descriptors as 3 and 4: a shell's redirections know no more than one digit everywhere.
_EXEC = ("import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
         "os.execv(sys.argv[3], sys.argv[3:])")


class Browser:
    """One page in one browser of its own. For one thread; every call raises TimeoutError after `PATIENCE`."""

    def __init__(self, width: int = 1280, height: int = 900, ratio: float = 1) -> None:
        if BROWSER is None:
            raise FileNotFoundError("no chromium, chromium-browser or google-chrome in PATH: install one")
        self.errors: list[str] = []
        """What the console has had of errors and warnings, exceptions and violations of the page's policy included."""
        self._folder = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        # Above what the new process calls 3 and 4.
        theirs, ours = zip(*(map(_above, os.pipe()) for _ in range(2)), strict=True)
        read, self._write = theirs[0], ours[0]
        self._read, write = theirs[1], ours[1]
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _EXEC, str(read), str(write), BROWSER, "--headless=new", *sandbox,
                 "--remote-debugging-pipe", f"--user-data-dir={self._folder.name}", "--no-first-run",
                 "--hide-scrollbars", "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions",
                 "--disable-background-networking",
                 "about:blank"],
                pass_fds=(read, write), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True)
        finally:
            os.close(read)
            os.close(write)
        self._number = 0
        self._buffer = bytearray()
        self._session: str | None = None
        try:
            self._attach(width, height, ratio)
        except BaseException:
            self.close()
            raise

    def _attach(self, width: int, height: int, ratio: float) -> None:
        pages = [each for each in self.call("Target.getTargets")["targetInfos"] if each["type"] == "page"]
        target = pages[0]["targetId"] if pages else self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.resize(width, height, ratio)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the browser, all its processes."""
        for descriptor in (self._read, self._write):
            os.close(descriptor)
        try:
            self._process.wait(3)  # it ends when its pipes do
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        self._folder.cleanup()

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """A command of the protocol; RuntimeError with what it says if it fails."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": arguments}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._message(deadline, method)
            if answer.get("id") != self._number:
                self._note(answer)
            elif "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']}")
            else:
                result: dict[str, Any] = answer["result"]
                return result

    def _message(self, deadline: float, what: str) -> dict[str, Any]:
        while (end := self._buffer.find(b"\0")) < 0:
            if not select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"{what}: no answer from the browser in {PATIENCE:g} s")
            data = os.read(self._read, 1 << 16)
            if not data:
                raise RuntimeError(f"{what}: the browser has ended")
            self._buffer += data
        message: dict[str, Any] = json.loads(self._buffer[:end])
        del self._buffer[:end + 1]
        return message

    def _note(self, event: dict[str, Any]) -> None:
        about = event.get("params", {})
        if event.get("method") == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.errors.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")
        elif event.get("method") == "Runtime.exceptionThrown":
            details = about["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif event.get("method") == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning"):
            self.errors.append(" ".join(str(each.get("value", each.get("description"))) for each in about["args"]))

    def resize(self, width: int, height: int, ratio: float = 1) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=ratio,
                  mobile=False)

    def prefer(self, **media: str) -> None:
        """prefer(color_scheme="dark", reduced_motion="reduce")"""
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in media.items()])

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression, or of what it promises; RuntimeError with what it throws."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"].get("exception", {}).get("description", script))
        return result["result"].get("value")

    def until(self, script: str, accept: Callable[[Any], bool] = bool) -> Any:
        """The value of the expression, as soon as it is accepted; by default, as soon as it is true."""
        deadline = time.monotonic() + PATIENCE
        while not accept(value := self.evaluate(script)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{script} is {value!r} after {PATIENCE:g} s")
            self.evaluate("new Promise((done) => requestAnimationFrame(done))")  # a frame later
        return value

    def press(self, key: str) -> None:
        """A key: "s", " ", "ArrowLeft"."""
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        names = {"code": "Space"} if key == " " else {"code": key} if len(key) > 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", key=key, text=text,
                  windowsVirtualKeyCode=_VIRTUAL.get(key, ord(key.upper()) if len(key) == 1 else 0), **names)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, **names)

    def point(self, x: float, y: float, *, click: bool = False) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased") if click else ():
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """A PNG of what is seen; whole: of the whole page, however long."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))


_VIRTUAL = {"Tab": 9, "Enter": 13, "Escape": 27, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38,
            "ArrowRight": 39, "ArrowDown": 40}


def _above(descriptor: int) -> int:
    """The same, as a number from 10 up."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved


def _measure(browser: Browser, seconds: float) -> None:
    times = browser.evaluate(_FRAMES % (1000 * seconds))
    between = sorted(after - before for before, after in itertools.pairwise(times))
    print(f"{len(between) / (times[-1] - times[0]) * 1000:.1f} frames a second over {seconds:g} s; from one to the "
          f"next p50 {between[len(between) // 2]:.1f} ms, p95 {between[len(between) * 95 // 100]:.1f} ms, "
          f"most {between[-1]:.1f} ms", flush=True)


def _shoot(browser: Browser, folder: Path) -> None:
    for theme in ("light", "dark"):
        browser.prefer(color_scheme=theme)
        for width, height in ((1280, 900), (1920, 1080), (390, 844)):
            browser.resize(width, height)
            time.sleep(1.2)
            path = folder / f"{theme}-{width}x{height}.png"
            browser.screenshot(path)
            print(path, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.browser", description="Look at the live page.")
    parser.add_argument("--frames", action="store_true", help="measure frames for five seconds")
    parser.add_argument("--screenshots", type=Path, metavar="FOLDER", help="write them there")
    parser.add_argument("--lanes", type=int, default=100, help="threads of each of three made-up sources (100)")
    parser.add_argument("--url", help="a control server that runs, instead of a made-up one")
    parser.add_argument("--warm", type=float, default=4.0, metavar="SECONDS", help="watch so long before (4)")
    arguments = parser.parse_args()
    if not arguments.frames and arguments.screenshots is None:
        parser.error("say --frames, --screenshots FOLDER, or both")
    with ExitStack() as stack:
        url = arguments.url or stack.enter_context(made_up(arguments.lanes)).url
        browser = stack.enter_context(Browser(1920, 1080))
        browser.open(url)
        browser.until("document.querySelectorAll('.source').length > 0")
        print(f"watching for {arguments.warm:g} s ...", flush=True)
        time.sleep(arguments.warm)
        if arguments.frames:
            _measure(browser, 5)
        if arguments.screenshots is not None:
            arguments.screenshots.mkdir(parents=True, exist_ok=True)
            _shoot(browser, arguments.screenshots)
        print("\n".join(browser.errors) or "no errors in the console", flush=True)


if __name__ == "__main__":
    main()
