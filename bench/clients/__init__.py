"""The loads, each a process of its own, standard library only.

    load       a closed loop: every client asks again as soon as it has been answered
    probe      an open loop: a schedule decides; probe_loop: how it is kept
    arrivals   one connection after another, or all at once
    steps      clients that come and go, on a plan
    slow       a byte every 10 ms
    flood      clients that never wait for an answer
    crowd      clients that are idle

    generators what makes a closed loop, by name: load, and others' wrk, hey, h2load, autocannon (by foreign)
    result     what each of these reports
    histogram  percentiles, by HdrHistogram
"""
