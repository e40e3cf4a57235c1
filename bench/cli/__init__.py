"""The command line of the lab, in two halves.

    lab        doctor, micro, run, report, compare, trace: the lab itself
    studies    waiting, hostile, scale, speed, threads, regress, steps: experiments with a form of their own
"""
