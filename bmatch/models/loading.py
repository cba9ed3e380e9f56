"""Models and tokenizers from checkpoint folders, by transformers; code in them is never run."""

from __future__ import annotations

import json
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from bmatch.architecture.deriving import auto_class
from bmatch.files.pointers import require_content
from bmatch.jobs.device import SPREAD
from bmatch.models.checkpoint import Checkpoint

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
"""Any of these makes a folder one with a tokenizer."""


def load_model(checkpoint: Checkpoint, dtype: str, device: str, spare: int = 0) -> Any:
    """The language model of a checkpoint, in eval mode.

    Parameters
    ----------
    checkpoint : Checkpoint
    dtype : str
        float32, bfloat16 or float16.
    device : str
        ``auto`` spreads it over all GPUs, memory and disk.
    spare : int
        Bytes that it then leaves free on the first of them.

    Raises
    ------
    ValueError
        If transformers cannot read the weights.
    MemoryError
        If they do not fit.
    """
    from transformers import AutoConfig

    with _reading(checkpoint, "weights"):
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        config = AutoConfig.from_pretrained(checkpoint.config_folder, **options)
        with ExitStack() as failing:
            if device == SPREAD:
                options |= _spread(spare, failing)
            model: Any = auto_class(config).from_pretrained(
                checkpoint.folder, config=config, dtype=getattr(torch, dtype), **options
            )
            weakref.finalize(model, failing.pop_all().close)
        model = (model if device == SPREAD else model.to(device)).eval()
    if getattr(model, "_hf_peft_config_loaded", False):
        model.disable_adapters()  # one lay beside the weights: it is not among what was checked
    return model


def _spread(spare: int, after: ExitStack) -> dict[str, Any]:
    """How transformers is told to spread a model out.

    Weights that stay on disk are read from where they are; only those that transformers makes
    otherwise are written to a folder, which is removed `after` the model.
    """
    from accelerate.utils import get_max_memory

    room = get_max_memory()
    first = next(iter(room))
    room[first] = max(room[first] - spare, 0)
    folder = after.enter_context(
        tempfile.TemporaryDirectory(prefix="bmatch-", ignore_cleanup_errors=True)
    )
    return {"device_map": "auto", "max_memory": room, "offload_folder": folder}


def has_tokenizer(checkpoint: Checkpoint) -> bool:
    """Whether a tokenizer lies in the folder, or beside it."""
    return _tokenizer_folder(checkpoint) is not None


def _tokenizer_folder(checkpoint: Checkpoint) -> Path | None:
    for folder in (checkpoint.folder, checkpoint.beside):
        if folder is not None and any((folder / name).is_file() for name in TOKENIZER_FILES):
            return folder
    return None


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The tokenizer of a checkpoint.

    One that is code of its own is read from its ``tokenizer.json``, which says the same as data.

    Raises
    ------
    ValueError
        If transformers cannot read it, it is code without a ``tokenizer.json``, or a file of it is
        a Git-LFS pointer.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    folder = _tokenizer_folder(checkpoint) or checkpoint.folder
    for path in folder.iterdir():
        if path.suffix in (".json", ".model", ".txt") and path.is_file():
            require_content(path)  # which could be read as lines of a vocabulary
    with _reading(checkpoint, "tokenizer"):
        try:
            return AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except ValueError:
            if not _is_code(folder):
                raise
    if not (folder / "tokenizer.json").is_file():
        raise ValueError(
            f"the tokenizer in {folder} is code of its own, and bmatch runs no code from "
            "checkpoints: save it as tokenizer.json, or put another model's tokenizer in its place"
        )
    with _reading(checkpoint, "tokenizer"):
        fast: Any = PreTrainedTokenizerFast
        return fast(tokenizer_file=str(folder / "tokenizer.json"))


def _is_code(folder: Path) -> bool:
    """Whether the tokenizer's config names a class in the folder."""
    file = folder / "tokenizer_config.json"
    return file.is_file() and "auto_map" in json.loads(file.read_text(encoding="utf-8"))


@contextmanager
def _reading(checkpoint: Checkpoint, what: str) -> Iterator[None]:
    """Says in one sentence which folder transformers could not read, and why."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # the libraries below raise bare Exception too
        first, *rest = (str(error).strip() or type(error).__name__).splitlines()
        reason = " ".join([first, *map(str.strip, rest)]) if first.endswith(":") else first
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in reason:
            raise MemoryError(reason) from error
        raise ValueError(
            f"transformers cannot read the {what} in {checkpoint.folder}: {reason}"
        ) from error
