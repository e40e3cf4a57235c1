"""Experiments with a form of their own. In each, `study` is the whole in order; the rest is what it is made of.

    speed      what a request costs, ours and others', under wrk
    scale      more connections than threads, more cores than the GIL lets a process use
    threads    how threads move what a request costs, and the slowest answers: one knob at a time
    regress    is one commit slower than another
    steps      the steps of a request, without a network
    waiting    six ways in which threads can wait on one listen socket: a lecture
    hostile    clients that try to hold every thread
"""
