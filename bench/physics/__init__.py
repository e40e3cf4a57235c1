"""What models are made of. `micro` is the command; `program` measures, a process of its own for each interpreter.

`threads` (and hand-offs, locks, accept), `clocks` (and sleeps) and `gil` are what it measures.
"""
