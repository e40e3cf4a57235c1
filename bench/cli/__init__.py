"""The command line of the lab, in two halves.

    lab        doctor, micro, run, report, compare, trace: the lab itself
    studies    waiting, hostile, scale, speed, threads, regress, steps, watching: experiments with a form of their own
"""
