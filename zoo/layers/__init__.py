"""Layers that two or more architectures or exports share."""
