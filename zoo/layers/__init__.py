"""Blocks that two or more architectures or exports use."""
