"""What a recording tells of a server: intervals, hand-offs and waits; a Chrome trace of them, and a picture.

    tracks    what each thread has done, as plain data
    lanes     Trace: what follows from it
    chrome    the trace for Perfetto
    picture   50 ms as SVG
"""

from watching.trace.chrome import chrome_events, names_of
from watching.trace.lanes import Trace
from watching.trace.tracks import tracks_of

__all__ = ["Trace", "chrome_events", "names_of", "tracks_of"]
