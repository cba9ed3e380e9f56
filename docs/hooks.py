"""What mkdocs asks for while it builds the site: every public name must say what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import griffe
from mkdocs.exceptions import PluginError


def on_pre_build(config: Any) -> None:
    """Refuse to build where a public name has no docstring, or no page of the reference has it."""
    root = Path(config.config_file_path).parent
    reference = "\n".join(page.read_text() for page in (root / "docs" / "api").glob("*.md"))
    package = griffe.load("bmatch", search_paths=[root], resolve_aliases=True)
    for name in package.exports or ():
        public = package[str(name)]
        if public.is_module:
            names = [f"{name}.{inner}" for inner in public.exports or ()]
        else:
            names = [str(name)]
        for path in names:
            require_described(package, path)
            if f"::: bmatch.{path}\n" not in reference:
                raise PluginError(f"no page in docs/api has `::: bmatch.{path}`")


def require_described(package: Any, path: str) -> None:
    """A public name, and of a class its public methods and properties, too."""
    described = package[path]
    members = described.members.values() if described.is_class else ()
    functions = [m for m in members if m.is_public and (m.is_function or "property" in m.labels)]
    for item in (described, *functions):
        special = item.name.startswith("__") and item is not described
        if item.docstring is None and not special:
            raise PluginError(f"{item.path} is public and has no docstring")
