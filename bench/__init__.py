"""The lab: concurrency models and other servers under HTTP load, and what the figures say. Run from a checkout:
python -m bench

    doctor      what this machine has, how quiet it is, what it can show
    physics     `micro`: what a thread, a hand-off, an accept, a sleep, the GIL cost here
    lab         the frame: cells, blocks, records, `run`, `report`, `compare`
    presets     the experiments that `run` knows
    trace       two seconds event by event
    studies     experiments with a form of their own: speed, scale, threads, regress, steps, waiting, hostile

    subjects    who is measured, by name; programs: the program and arguments that a name stands for
    interpreters  which Pythons there are, and what is installed in each
    models      our models, and how each gets the same capacity
    server      our server under test, a process of its own
    peers       the others: Python's, and the Lisp originals
    clients     the loads, processes of their own: closed loops, the open-loop probe, others' generators

    children    starting processes on a core, and ending them whatever happens
    processes   what the system tells of a process: CPU, threads, switches, memory
    machine     what has to be known of the machine, and who else was using it
    cells       runs of a closed loop, and the figures that several add up to
    table       figures as a table for the terminal
    progress    how far it is
    cli         the command line

Question, method, limits and results: README.md in this folder.
"""
