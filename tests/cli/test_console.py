"""What a terminal shows when the sentence comes in the middle of a bar."""

from __future__ import annotations

import os
import subprocess
import sys

from tiny_models import WIDTH

from bmatch import SignedPermutation


def test_the_error_stands_alone_on_a_terminal(misfits, tmp_path):
    """Under a pseudo-terminal, with a progress bar up when the error comes."""
    import pty

    SignedPermutation.identity(WIDTH).save(tmp_path / "g")
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "bmatch", "apply", "g", misfits / "nan", "--out", "out"],
        cwd=tmp_path,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "COLUMNS": "200", "TERM": "xterm"},
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            read = os.read(master, 4096)
        except OSError:
            break
        if not read:
            break
        shown += read
    os.close(master)
    assert process.wait() == 1
    text = shown.decode()
    assert "error: " in text
    after = text[text.rindex("error: ") :]
    assert "q_proj.weight" in after
    assert "\x1b[2K" not in after.split("q_proj")[0]  # nothing erases the line it starts on
