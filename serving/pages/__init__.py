"""HTML pages for a browser."""
