"""Who does what, event by event. `run` is the command, `server` the server that records.

    recorder   states, and a lane of events for each thread
    steps      what a taskmaster sees of its acceptor, recorded: neither of the two is changed
    tracks     lanes as slices and hand-offs; lanes: what they add up to
    chrome     the trace for Perfetto; picture: 50 ms as SVG; phases: where a request's time goes
"""
