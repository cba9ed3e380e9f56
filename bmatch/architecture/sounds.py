"""A sound for a small model that listens beside its text.

As with pictures: what a tower of sounds writes to the text's stream is known from a run through
both, and each way in which models are given a sound is tried.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

import torch

from bmatch.architecture.pictures import features
from bmatch.architecture.shrink import parts_of

_TEXT = 5
"""Tokens after the sound's."""
_CHANNELS = re.compile(r"num_mel_bins|input_(dim|size|feat_size)|feature_size")
_FEATURES = re.compile(r"(\w+_)?input_features")
_MASK = re.compile(r"(\w*feature\w*_|audio_attention_)mask")
_FRAMES = 64
_FRAMES_OF = ("max_source_positions", "n_window")
"""Fields of which models take sounds of twice as many frames."""


def with_sound(model: Any, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Arguments of a model with a sound behind its tokens, or in their place, if it takes any.

    Parameters
    ----------
    model : transformers model
        Small, on the CPU.
    given : dict
        As for `with_picture`, or from there.
    """
    single = {name: tensor[:1] for name, tensor in given.items()}
    ids = single.pop("input_ids")
    if _FEATURES.fullmatch(model.main_input_name):  # in place of tokens
        for sound in _sounds(model):
            with contextlib.suppress(Exception), torch.no_grad():  # another way than this model's
                model(**single, **sound)
                return single | sound
    token = _token(model.config)
    if token is None:
        return given
    for sound in _sounds(model):
        said = ""
        for count in _counts(model, sound):
            heard = torch.full((1, count), token)
            both = {**single, **sound, "input_ids": torch.cat([ids, heard, ids[:, -_TEXT:]], dim=1)}
            try:
                with torch.no_grad():
                    model(**both)
            except Exception as error:  # of whatever kind a class raises
                if str(error) == said:  # whatever their number: another way than this model's
                    break
                said = str(error)
            else:
                return both
    return given


def _token(config: Any) -> int | None:
    """That stands for a piece of a sound."""
    for part in (config, getattr(config, "audio_config", None)):
        for name in ("audio_token_id", "audio_token_index"):
            if isinstance(token := getattr(part, name, None), int):
                return token
    return None


def _sounds(model: Any) -> Iterator[dict[str, torch.Tensor]]:
    """A random spectrogram in each way in which models take one."""
    takes = inspect.signature(model.forward).parameters
    names = [name for name in takes if _FEATURES.fullmatch(name)]
    masks = [name for name in takes if _MASK.fullmatch(name)]
    generator = torch.Generator().manual_seed(3)
    for name, (channels, frames) in product(names, _sizes(model.config)):
        heard = torch.randn((1, frames, channels), generator=generator)
        mask = dict.fromkeys(masks, torch.ones((1, frames), dtype=torch.bool))
        for given in ({name: heard.mT.contiguous()}, {name: heard}):
            yield given | mask
            if mask:
                yield given


def _sizes(config: Any) -> Iterator[tuple[int, int]]:
    """Channels and frames of a sound, by the config and those that it holds."""
    own = vars(config)
    lengths = [2 * own[name] for name in _FRAMES_OF if isinstance(own.get(name), int)]
    channels = {v for name, v in own.items() if _CHANNELS.fullmatch(name) and isinstance(v, int)}
    yield from product(sorted(channels), [*lengths, _FRAMES])
    for part in parts_of(config).values():
        yield from _sizes(part)


def _counts(model: Any, sound: dict[str, torch.Tensor]) -> Iterable[int]:
    """How many tokens may stand for it: as many as its features, or each number if none tells."""
    listens = getattr(model.base_model, "get_audio_features", None)
    if listens is not None:
        takes = inspect.signature(listens).parameters
        told = {name: tensor for name, tensor in sound.items() if name in takes}
        with contextlib.suppress(Exception), torch.no_grad():
            return [sum(len(rows) for rows in features(listens(**told)))]
    return range(1, max(max(tensor.shape) for tensor in sound.values()))
