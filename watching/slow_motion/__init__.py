"""Slow motion: a real taskmaster with its real threads, which move one at a time, because a script says so.

For a lesson, a picture in a document, or a test that wants to know who does what, in which order:

    from taskmaster import PooledTaskmaster
    from watching.slow_motion import Stage

    with Stage(PooledTaskmaster(threads=1, idle="hold"), title="My lesson") as stage:
        ada = stage.connect("Ada")
        stage.step("Ada arrives, and worker 1 serves her.", Ada="worker 1")
        bob = stage.connect("Bob")
        stage.step("Bob waits: there is one worker.", Bob="the queue")
        ada.answer(leaves=True)
        stage.step("Ada has her answer, and leaves. Worker 1 takes Bob.", Ada="gone", Bob="worker 1")
    print(stage.text())
    stage.svg("my-lesson.svg")
    assert stage.story.letters("worker 1") == "__HHHH"

`python -m watching.slow_motion` lists the lessons there are, and plays them. Nothing here sleeps, and the same script
gives the same picture, to the byte.

    stage       Stage: what a script does, and the order in which threads move
    gates       where they stand meanwhile, and how to know that nothing moves any more
    script      the clients, and the acceptor they come to
    executor    an executor for models that offload handlers
    story       what has happened, as plain data
    text, svg   the same as text, and as a picture
    lessons     the scripts of docs/lessons
"""

from watching.slow_motion.executor import StagedExecutor
from watching.slow_motion.gates import StageError
from watching.slow_motion.script import Client
from watching.slow_motion.stage import Stage
from watching.slow_motion.story import Story

__all__ = ["Client", "Stage", "StageError", "StagedExecutor", "Story"]
