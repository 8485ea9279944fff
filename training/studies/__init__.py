"""Studies: ideas of the course as sets of tracked runs, with one figure each."""
