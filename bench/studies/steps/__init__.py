"""The steps of a request: `operations` has them, also for profilers; `study` times, and counts instructions."""
