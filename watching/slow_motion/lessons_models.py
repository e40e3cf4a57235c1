"""Lessons, first part: who accepts and who serves, in each model."""

from __future__ import annotations

from taskmaster.event_loop import EventLoopTaskmaster
from taskmaster.per_connection import ThreadPerConnectionTaskmaster
from taskmaster.pooled import PooledTaskmaster
from taskmaster.recycling import RecyclingTaskmaster
from taskmaster.single import SingleThreadedTaskmaster
from watching.slow_motion.executor import StagedExecutor
from watching.slow_motion.lesson import lesson
from watching.slow_motion.stage import Stage


@lesson("single", "One thread: the second client waits", SingleThreadedTaskmaster)
def single(stage: Stage) -> None:
    stage.step("One thread waits in accept(). It will do everything.")
    ada = stage.connect("Ada")
    stage.step("Ada arrives. The thread has accepted her connection, and serves it itself.", Ada="the thread")
    stage.connect("Bob")
    stage.step("Bob arrives. Nobody is in accept(), so he waits in the kernel, in the backlog of the listen socket.",
               Bob="the kernel")
    ada.answer()
    stage.step("Ada has her answer, and keeps her connection. The thread waits with her for her next request; "
               "Bob waits too, though nobody works.", Ada="the thread", Bob="the kernel")
    ada.ask()
    stage.step("Ada asks again, and is served again: she has the server for herself.",
               Ada="the thread", Bob="the kernel")
    ada.answer(leaves=True)
    stage.step("Ada has her answer, and leaves. Only now does the thread call accept() again, which returns Bob.",
               Ada="gone", Bob="the thread")


@lesson("per-connection", "A thread for each connection: born with it, gone with it", ThreadPerConnectionTaskmaster,
        max_thread_count=2, max_accept_count=1)
def per_connection(stage: Stage) -> None:
    stage.step("One thread waits in accept(). There is no other yet.")
    ada = stage.connect("Ada")
    stage.step("Ada arrives. The accepting thread starts worker 1 for her, and is in accept() again.", Ada="worker 1")
    bob = stage.connect("Bob")
    stage.step("Bob arrives, and gets worker 2.", Bob="worker 2")
    ada.answer(leaves=True)
    stage.step("Ada has her answer, and leaves. Worker 1 was hers: it ends.", Ada="gone")
    cy = stage.connect("Cy")
    stage.step("Cy arrives, and gets a new thread, worker 3. Each connection pays for the start and the end of one.",
               Cy="worker 3")
    stage.connect("Dora")
    stage.step("Dora arrives. Two are served, and max_thread_count=2: she waits in a queue, and holds no thread.",
               Dora="the queue")
    stage.connect("Eve")
    stage.step("Eve arrives. One waits, and max_accept_count=1: she is refused, with 503.", Eve="503")
    bob.answer(leaves=True)
    stage.step("Bob leaves. Worker 2 does not end: it takes Dora from the queue. At its limit, this model is a pool.",
               Bob="gone", Dora="worker 2")
    cy.answer(leaves=True)
    stage.step("Cy leaves. Nobody waits in the queue, so worker 3 ends.", Cy="gone")


@lesson("pool", "A pool: every connection is handed over", PooledTaskmaster, threads=2, queue_size=1, idle="hold")
def pool(stage: Stage) -> None:
    stage.step("One thread waits in accept(). Two workers, made at the start, wait at the queue.")
    ada = stage.connect("Ada")
    stage.step("Ada arrives. The accepting thread queues her connection, which wakes worker 1, and is in accept() "
               "again. This is the hand-off that each connection pays for.", Ada="worker 1")
    bob = stage.connect("Bob")
    stage.step("Bob arrives, and is handed to worker 2.", Bob="worker 2")
    stage.connect("Cy")
    stage.step("Cy arrives. No worker is free: he stays in the queue.", Cy="the queue")
    stage.connect("Dora")
    stage.step("Dora arrives. The queue is full, for queue_size=1: she is refused, with 503.", Dora="503")
    ada.answer(leaves=True)
    stage.step("Ada has her answer, and leaves. Worker 1 takes Cy from the queue: no thread has to be started for him.",
               Ada="gone", Cy="worker 1")
    bob.answer(leaves=True)
    stage.step("Bob leaves. Worker 2 waits at the queue again. There are always two, busy or not.", Bob="gone")


@lesson("recycling", "Recycling: whoever accepts, serves", RecyclingTaskmaster, standby=2, max_thread_count=3,
        idle="hold")
def recycling(stage: Stage) -> None:
    stage.step("Two threads wait in accept(), both on the listen socket itself. There is no queue, and no dispatcher.")
    ada = stage.connect("Ada")
    stage.step("Ada arrives. Thread 2 accepts her connection, and serves it: it had it in its hands already. "
               "(Of those that wait, the one that came last wakes first.)", Ada="thread 2")
    bob = stage.connect("Bob")
    stage.step("Bob arrives. Thread 1 accepts him, and was the last that waited: so it starts thread 3, to wait in its "
               "place, before it serves him.", Bob="thread 1")
    ada.answer(leaves=True)
    stage.step("Ada has her answer, and leaves. Thread 2 is recycled: it waits in accept() again.", Ada="gone")
    cy = stage.connect("Cy")
    stage.step("Cy arrives. Thread 2, which came last, accepts and serves him.", Cy="thread 2")
    dora = stage.connect("Dora")
    stage.step("Dora arrives, and takes the last waiter. There may be three threads, and there are: none is started.",
               Dora="thread 3")
    eve = stage.connect("Eve")
    stage.step("Eve arrives. Nobody is in accept(): she waits in the kernel, and is not refused.", Eve="the kernel")
    bob.answer(leaves=True)
    stage.step("Bob leaves. Thread 1 calls accept(), which returns Eve at once.", Bob="gone", Eve="thread 1")
    for client in (cy, dora, eve):
        client.answer(leaves=True)
    stage.step("Cy, Dora and Eve leave. Now three threads wait, and standby=2: one too many.",
               Cy="gone", Dora="gone", Eve="gone")
    stage.time_out()
    stage.step("Thread 2 has waited longest. When it has got nothing for idle_timeout, it leaves.")
    stage.time_out()
    stage.step("The next one times out too, and stays: two are to wait, and two there are.")


@lesson("event-loop", "An event loop: one handler keeps everybody waiting", EventLoopTaskmaster)
def event_loop(stage: Stage) -> None:
    stage.step("One thread, the loop, waits in accept() for all connections at once.")
    ada = stage.connect("Ada")
    stage.step("Ada arrives. Her handler takes its time: it asks a database, say. The loop is in it.", Ada="the loop")
    bob = stage.connect("Bob")
    stage.connect("Cy")
    stage.step("Bob and Cy arrive. Whatever they ask for, nobody reads it.", Bob="the kernel", Cy="the kernel")
    ada.answer()
    stage.step("Ada has her answer, and stays: parked, she costs nothing. The loop runs Bob's handler.",
               Ada="parked", Bob="the loop", Cy="the kernel")
    ada.ask()
    stage.step("Ada asks again. She comes behind Cy.", Ada="the kernel", Cy="the kernel")
    bob.answer()
    stage.step("Bob has his answer. It is Cy's turn. One handler runs at a time, however idle the machine is.",
               Bob="parked", Cy="the loop", Ada="the kernel")


@lesson("event-loop-offload", "An event loop that offloads handlers: it reads and writes, others wait",
        EventLoopTaskmaster, offload=StagedExecutor(2))
def event_loop_offload(stage: Stage) -> None:
    stage.step("The loop waits in accept(). Two threads of an executor wait for jobs.")
    ada = stage.connect("Ada")
    stage.step("Ada arrives. The loop reads her request, submits her handler, parks her connection, and waits again.",
               Ada="executor 1")
    bob = stage.connect("Bob")
    stage.step("Bob arrives, while Ada's handler takes its time. His runs beside it.", Bob="executor 2")
    bob.answer()
    stage.step("Bob's handler returns: his connection comes back to the loop, which writes the answer. Each request is "
               "handed over, and back.", Ada="executor 1", Bob="parked")
    stage.connect("Cy")
    stage.connect("Dora")
    stage.step("Cy and Dora arrive. The loop reads what both ask for. One job waits, in the queue of the executor.",
               Cy="executor 2", Dora="the queue")
    ada.answer()
    stage.step("Ada has her answer, and executor 1 runs Dora's handler. This is a pool again, with a loop before it.",
               Ada="parked", Dora="executor 1")
