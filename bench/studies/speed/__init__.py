"""What a request costs: `study` runs it; `entrants` take part; `claims` say what is claimed, and whether it holds.

`run` is one run; `transfer` has 100 MB, up and down; `probe` is the least that a threaded server can do: the measure of
the machine.
"""
