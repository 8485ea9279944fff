"""OpenAI's API, one file a part."""
