"""One knob at a time: `plan` has the knobs, `run` is one run, `report` makes tables and sentences, `study` is all."""
