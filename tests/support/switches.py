"""Faults planted in copies of C++ code, each behind a switch: one program for all of them."""

from __future__ import annotations

# Code that is right until the environment says which fault is there.
SWITCH = """
#include <cstdlib>
namespace planted {
inline const char* const text = std::getenv("FAULT");
inline const int chosen = text == nullptr ? -1 : std::atoi(text);
inline bool off(int fault) { return fault == chosen; }
}  // namespace planted
"""


def plant(folder, header, faults):
    """Puts into files of `folder`, by number, (file, before, after with OFF in it, ...)."""
    (folder / header).write_text((folder / header).read_text() + SWITCH)
    for number, (name, before, after, *_) in enumerate(faults):
        text = (folder / name).read_text()
        assert before in text
        switched = after.replace("OFF", f"planted::off({number})")
        (folder / name).write_text(text.replace(before, switched, 1))
