"""Who does what, event by event. `run` is the command, `server` the server that records, `phases` where a request's
time goes; lanes, the trace for Perfetto and the picture of 50 ms are `watching.trace`'s."""
