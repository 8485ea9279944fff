"""From data to a registered, exported, measured model."""
