"""HTTP dialects of the service, all on top of the same engine."""
