"""Architectures, one file each: a config dataclass and an nn.Module."""
