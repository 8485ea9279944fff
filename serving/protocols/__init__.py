"""One file per HTTP dialect, all over the same engine."""
