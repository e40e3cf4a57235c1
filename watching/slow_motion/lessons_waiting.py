"""Lessons, second part: what becomes of those who wait, if others stay, ask too much, or the server changes."""

from __future__ import annotations

from taskmaster.pooled import PooledTaskmaster
from taskmaster.recycling import RecyclingTaskmaster
from watching.slow_motion.lesson import lesson
from watching.slow_motion.stage import Stage


@lesson("keep-alive-hold", "Keep-alive, the textbook's way: an idle client keeps its thread", PooledTaskmaster,
        threads=2, idle="hold")
def keep_alive_hold(stage: Stage) -> None:
    ada, bob = stage.connect("Ada"), stage.connect("Bob")
    stage.step("Ada and Bob arrive. Each has a worker.", Ada="worker 1", Bob="worker 2")
    ada.answer()
    bob.answer()
    stage.step("Both have their answers, and stay, as browsers do. Each worker waits for its client.",
               Ada="worker 1", Bob="worker 2")
    stage.connect("Cy")
    stage.step("Cy arrives. He waits in the queue, though nobody works.", Cy="the queue")
    ada.ask()
    stage.step("Ada asks again. She has a worker, and is served at once.", Ada="worker 1", Cy="the queue")
    ada.answer()
    stage.step("She has her answer, and stays. Cy has seen others being served, and waits.", Ada="worker 1",
               Cy="the queue")
    bob.leave()
    stage.step("Bob leaves at last. So Cy is served. As many idle clients as there are threads can stop this server.",
               Bob="gone", Cy="worker 2")


@lesson("keep-alive-park", "Keep-alive, parked: an idle client costs no thread", PooledTaskmaster,
        threads=2, idle="park")
def keep_alive_park(stage: Stage) -> None:
    ada, bob = stage.connect("Ada"), stage.connect("Bob")
    stage.step("Ada and Bob arrive. Each has a worker.", Ada="worker 1", Bob="worker 2")
    ada.answer()
    bob.answer()
    stage.step("Both have their answers, and stay. Their connections are parked: they wait where the listen socket is, "
               "and the workers are free.", Ada="parked", Bob="parked")
    cy = stage.connect("Cy")
    stage.step("Cy arrives, and is served at once.", Cy="worker 1")
    ada.ask()
    stage.step("Ada asks again. accept() returns her connection, as if it were new, and it is handed to worker 2. "
               "That is the price in this model: a hand-off for each request.", Ada="worker 2")
    ada.answer()
    cy.answer()
    stage.step("Ada and Cy have their answers. Three clients stay now, and two workers are free.",
               Ada="parked", Bob="parked", Cy="parked")
    bob.leave()
    stage.step("Bob leaves. That takes a thread for a moment, which finds his connection closed.", Bob="gone")


@lesson("slow-clients-hold", "Clients that say nothing, the textbook's way: each keeps a thread", RecyclingTaskmaster,
        standby=2, max_thread_count=2, idle="hold")
def slow_clients_hold(stage: Stage) -> None:
    sly = stage.connect("Sly", requests=0)
    stage.connect("Tim", requests=0)
    stage.step("Sly and Tim connect, and send nothing, or half a head. Two threads wait for the rest.",
               Sly="thread 2", Tim="thread 1")
    stage.connect("Ada")
    stage.step("Ada arrives, with a whole request. No thread is left for her, and no CPU is used.", Ada="the kernel")
    sly.leave()
    stage.step("Sly goes (or a deadline ends his patience with us). So Ada is served.", Sly="gone", Ada="thread 2")


@lesson("slow-clients-park", "Clients that say nothing, parked: none keeps a thread", RecyclingTaskmaster,
        standby=2, max_thread_count=2, idle="park")
def slow_clients_park(stage: Stage) -> None:
    sly = stage.connect("Sly", requests=0)
    stage.connect("Tim", requests=0)
    stage.step("Sly and Tim connect, and send nothing. A thread looks, finds nothing to do, and parks each.",
               Sly="parked", Tim="parked")
    ada = stage.connect("Ada")
    stage.step("Ada arrives, with a whole request, and is served at once.", Ada="thread 2", Sly="parked", Tim="parked")
    sly.ask()
    stage.step("Sly sends a request at last. A thread takes it from accept(), as it would take a new connection.",
               Sly="thread 1", Ada="thread 2")
    sly.answer()
    ada.answer(leaves=True)
    stage.step("Both have their answers. Sly is parked again, beside Tim.", Sly="parked", Tim="parked", Ada="gone")


@lesson("pipelining-always", "A client that always has a next request (1): she is served until she tires",
        PooledTaskmaster, threads=1, idle="park", inline="always")
def pipelining_always(stage: Stage) -> None:
    greta = stage.connect("Greta", requests=2)
    stage.step("Greta arrives, and has sent two requests at once. Worker 1 serves the first.", Greta="worker 1")
    stage.connect("Bob")
    stage.step("Bob arrives, with one. He waits in the queue.", Bob="the queue")
    greta.answer()
    stage.step("Greta has one answer. Her next request is there already, so worker 1 serves it. Bob waits.",
               Greta="worker 1", Bob="the queue")
    for _ in range(2):
        greta.ask()
        greta.answer()
    stage.step("She sends one more while she is served, and once more. Bob waits.", Greta="worker 1", Bob="the queue")
    greta.answer()
    stage.step("Only when she has no request left does worker 1 let go of her, and take Bob. This was Puma's "
               "CVE-2019-16770: a few such clients, and nobody else is served.", Greta="parked", Bob="worker 1")


@lesson("pipelining-fair", "A client that always has a next request (2): she takes turns",
        PooledTaskmaster, threads=1, idle="park", inline="fair")
def pipelining_fair(stage: Stage) -> None:
    greta = stage.connect("Greta", requests=2)
    stage.step("Greta arrives, and has sent two requests at once. Worker 1 serves the first.", Greta="worker 1")
    bob = stage.connect("Bob")
    stage.step("Bob arrives, with one. He waits in the queue.", Bob="the queue")
    greta.answer()
    stage.step("Greta has one answer. Her next request is there already, but Bob waits: so her connection is given "
               "back, and comes behind him. Worker 1 serves Bob.", Greta="the queue", Bob="worker 1")
    bob.answer(leaves=True)
    stage.step("Bob has his answer, having waited for one request of hers. It is Greta's turn.",
               Bob="gone", Greta="worker 1")
    greta.ask()
    greta.answer()
    stage.step("She has sent one more. Nobody waits; but no other worker is free for whoever may come, so her "
               "connection goes round once more. With a worker to spare it would not.", Greta="worker 1")


@lesson("stop", "A stop: what was begun is finished, and nothing that had arrived is lost", RecyclingTaskmaster,
        standby=2, max_thread_count=2, idle="hold")
def stop(stage: Stage) -> None:
    ada, bob = stage.connect("Ada"), stage.connect("Bob")
    bob.answer()
    stage.step("Ada is being served. Bob has his answer, and stays.", Ada="thread 2", Bob="thread 1")
    cy, dora = stage.connect("Cy"), stage.connect("Dora")
    stage.step("Cy and Dora arrive. No thread is free: they wait in the kernel.", Cy="the kernel", Dora="the kernel")
    stage.stop()
    stage.step("The server is told to stop. Bob, who is idle, is closed at once. His thread calls accept(), which "
               "still returns those who had arrived: first Cy.",
               Ada="thread 2", Bob="gone", Cy="thread 1", Dora="the kernel")
    ada.answer()
    stage.step("Ada has her answer, and it is the last on her connection. Her thread accepts Dora.",
               Ada="gone", Dora="thread 2")
    cy.answer()
    stage.step("Cy has his answer. Nobody is left in the kernel: accept() returns None, and thread 1 leaves.",
               Cy="gone")
    dora.answer()
    assert stage.stopped
    stage.step("Dora has her answer, and thread 2 leaves. shutdown() has joined both, and returns.", Dora="gone")


@lesson("resize", "A pool is resized while it runs: more at once, fewer by and by", PooledTaskmaster,
        threads=1, idle="hold")
def resize(stage: Stage) -> None:
    taskmaster = stage.taskmaster
    assert isinstance(taskmaster, PooledTaskmaster)
    ada, bob, cy = (stage.connect(name) for name in ("Ada", "Bob", "Cy"))
    stage.step("There is one worker. It serves Ada; Bob and Cy wait in the queue.",
               Ada="worker 1", Bob="the queue", Cy="the queue")
    stage.call(taskmaster.resize, threads=3)
    stage.step("resize(threads=3). Two workers start, and take who waits.", Bob="worker 2", Cy="worker 3")
    stage.connect("Dora")
    stage.step("Dora arrives, and waits in the queue.", Dora="the queue")
    stage.call(taskmaster.resize, threads=1)
    stage.step("resize(threads=1). Two are too many, but nobody is interrupted.",
               Ada="worker 1", Bob="worker 2", Cy="worker 3", Dora="the queue")
    bob.answer(leaves=True)
    stage.step("Bob leaves. Worker 2 does not take Dora: it is one too many, and leaves.", Bob="gone", Dora="the queue")
    cy.answer(leaves=True)
    stage.step("Cy leaves, and so does worker 3.", Cy="gone", Dora="the queue")
    ada.answer(leaves=True)
    stage.step("Ada leaves. Worker 1 is the one that is to be there: it takes Dora.", Ada="gone", Dora="worker 1")
