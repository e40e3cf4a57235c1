"""What a lesson is: a script for a stage, with a name and a title."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from taskmaster.base import Taskmaster
from watching.slow_motion.stage import Stage
from watching.slow_motion.story import Story

__all__ = ["LESSONS", "Lesson", "lesson"]


class Lesson(NamedTuple):
    name: str
    title: str
    play: Callable[[], Story]
    """Plays it, in some 50 ms, and returns what has happened."""


LESSONS: dict[str, Lesson] = {}
"""By name; `watching.slow_motion.lessons` has them all."""


def lesson(name: str, title: str, model: Callable[..., Taskmaster], **options: Any
           ) -> Callable[[Callable[[Stage], None]], Callable[[Stage], None]]:
    """Makes a lesson of the script below it, for a taskmaster that is made by `model(**options)`."""
    def make(script: Callable[[Stage], None]) -> Callable[[Stage], None]:
        said = ", ".join(f"{option}={value!r}" for option, value in options.items())

        def play() -> Story:
            with Stage(model(**options), title=title, model=f"{model.__name__}({said})") as stage:
                script(stage)
            return stage.story

        LESSONS[name] = Lesson(name, title, play)
        return script
    return make
