"""Two commits side by side: `sides` has the code of both, `study` compares."""
