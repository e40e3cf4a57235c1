"""What it costs to watch a server: `server` is watched, `viewer` watches, `study` compares."""
