"""`strategies` is the lecture: six ways of waiting; `server` uses one, `study` compares them, `report` says it."""
