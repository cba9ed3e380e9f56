"""What a clone without its large files holds in their place."""

from __future__ import annotations

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"
