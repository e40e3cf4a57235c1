"""All lessons, in the order in which to read them. Each is a script that reads like a story.

Where a caption says where somebody is, the stage has checked it: see `Stage.step`. The pictures in docs/lessons are
made of these, by `python -m watching.slow_motion --write docs/lessons`.
"""

from watching.slow_motion import lessons_models, lessons_waiting  # noqa: F401  # they fill LESSONS
from watching.slow_motion.lesson import LESSONS, Lesson

__all__ = ["LESSONS", "Lesson"]
