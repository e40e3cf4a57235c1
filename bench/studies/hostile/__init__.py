"""`attacks` has the hostile clients, `study` sets them on each model."""
