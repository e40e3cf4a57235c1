"""`python -m watching.slow_motion`: lists the lessons, plays one step by step, or writes them all."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from watching.slow_motion.lessons import LESSONS
from watching.slow_motion.story import STATES, Story
from watching.slow_motion.svg import LIGHT, draw
from watching.slow_motion.text import caption, grid, heading, legend, render

_EPILOG = f"""
How to read a lesson
  A row is a thread, and a column a moment: one thread has been let go, and has come to where it waits again. A letter
  says what the thread does; a small letter beside it, whose connection it has from there on.

{chr(10).join(f"    {letter}  {words}" for letter, words in STATES.items())}

  Rows below the threads are for clients whom no thread serves: in the kernel (not accepted yet, or parked and ready),
  in the queue (accepted), or parked.

Try
  python -m watching.slow_motion single               what a server without concurrency does, a step for each Enter
  python -m watching.slow_motion pool --all           all of it at once; compare it with
  python -m watching.slow_motion recycling --all      which hands nothing over
  python -m watching.slow_motion pool --svg pool.svg  a picture, for a document

A lesson of your own takes ten lines of Python, for any taskmaster, yours included: see `pydoc watching.slow_motion`.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m watching.slow_motion", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=_EPILOG,
        description="Taskmasters in slow motion: real threads, scripted clients, one event at a time. "
                    "Without arguments, lists the lessons.")
    parser.add_argument("lesson", nargs="?", help="plays this one; Enter: the next step, q and Enter: enough")
    parser.add_argument("--all", action="store_true", help="all steps at once")
    parser.add_argument("--svg", metavar="FILE", type=Path, help="write its picture here instead")
    parser.add_argument("--write", metavar="DIRECTORY", type=Path, help="write text and picture of every lesson there")
    chosen = parser.parse_args(arguments)
    logging.getLogger("taskmaster").addHandler(logging.NullHandler())  # that somebody gets 503 is part of the lesson
    if chosen.write:
        _write(chosen.write)
    elif chosen.lesson is None:
        print(_listing())
    elif chosen.lesson not in LESSONS:
        parser.error(f"there is no lesson {chosen.lesson!r}; there are: {', '.join(LESSONS)}")
    elif chosen.svg:
        chosen.svg.write_text(draw(LESSONS[chosen.lesson].play()))
        print(f"{chosen.svg} written")
    else:
        _show(LESSONS[chosen.lesson].play(), at_once=chosen.all or not sys.stdin.isatty())
    return 0


def _listing() -> str:
    wide = max(map(len, LESSONS))
    rows = [f"  {lesson.name:{wide}}  {lesson.title}" for lesson in LESSONS.values()]
    return "\n".join(["Lessons, each played by:  python -m watching.slow_motion NAME\n", *rows,
                      "\n--help says how to read them."])


def _write(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, lesson in LESSONS.items():
        story = lesson.play()
        (directory / f"{name}.txt").write_text(render(story))
        (directory / f"{name}.svg").write_text(draw(story))
        print(f"{directory / name}.txt, .svg: {len(story.steps)} steps")


def _show(story: Story, at_once: bool) -> None:
    colours = LIGHT if sys.stdout.isatty() and "NO_COLOR" not in os.environ else None
    print(heading(story), end="\n\n")
    if at_once:
        print(grid(story, colours=colours), legend(story), sep="\n\n", end="\n\n")
        print("\n".join(caption(step) for step in story.steps if step.caption))
        return
    print(legend(story), end="\n\n")
    for number, step in enumerate(story.steps, 1):
        print(grid(story, number, colours))
        print(f"\n{caption(step) if step.caption else '  It has started.'}")
        if number < len(story.steps):
            try:
                if input("      [Enter] ").strip().lower().startswith("q"):
                    return
            except (EOFError, KeyboardInterrupt):
                print()
                return


if __name__ == "__main__":
    sys.exit(main())
