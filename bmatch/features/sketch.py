"""Activations of features over any number of tokens, kept as short rows.

A count sketch adds each token, with a random sign, into one of a few buckets. Inner products of
sketches estimate those of the activations with an error of about 1 / sqrt(terms) of their lengths,
so that the closest of 10^5 features can be told, from 10^7 tokens, in memory for a few hundred
numbers a feature.

M. Charikar, K. Chen, M. Farach-Colton, "Finding frequent items in data streams", Theoretical
Computer Science 312 (2004).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


class ActivationSketch:
    """What features did over tokens, as rows whose cosines estimate their correlations.

    Both dictionaries must see the same tokens in the same order, and have sketches of the same
    `terms` and `seed`; how tokens are cut into batches does not matter.

    Parameters
    ----------
    features : int
        Of the dictionary.
    terms : int
        A power of two: buckets of the sketch. Correlations come out within about
        ``1 / sqrt(terms)``.
    seed : int
        Of buckets and signs.
    device : torch device, optional
        Where activations are, and the sketch.

    Raises
    ------
    ValueError
        If a size is not positive, or `terms` no power of two.

    Examples
    --------
    >>> import numpy as np
    >>> from bmatch.features import ActivationSketch
    >>> sketch = ActivationSketch(features=300)
    >>> for batch in np.random.default_rng(0).normal(size=(4, 100, 300)):
    ...     sketch.update(batch)
    >>> sketch.directions().shape
    torch.Size([300, 512])
    """

    def __init__(
        self,
        features: int,
        terms: int = 512,
        seed: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        if features < 1 or terms < 1 or terms & (terms - 1):
            raise ValueError(
                "a sketch needs a feature at least, and a power of two of terms, got "
                f"features={features}, terms={terms}"
            )
        self._draw = np.random.Generator(np.random.PCG64(seed))
        self._sums = torch.zeros(terms, features, dtype=torch.float64, device=device)
        self._ones = torch.zeros(terms, dtype=torch.float64)  # of tokens, signed
        self._total = torch.zeros(features, dtype=torch.float64, device=device)
        self.tokens = 0

    @torch.no_grad()
    def update(self, activations: Any) -> None:
        """Add activations of tokens, array or tensor [N, features].

        Raises
        ------
        ValueError
            If there are of other features, or not finite.
        """
        batch = torch.as_tensor(activations).to(self._sums)  # float64 where the sketch lies
        terms, features = self._sums.shape
        if batch.ndim != 2 or batch.shape[1] != features:
            raise ValueError(
                f"activations must be [tokens, {features}], got shape {tuple(batch.shape)}"
            )
        if not torch.isfinite(batch).all():
            raise ValueError(f"activations from token {self.tokens} on are not finite")
        drawn = torch.from_numpy(self._draw.integers(0, 2 * terms, len(batch)))
        bucket, sign = drawn >> 1, 1.0 - 2.0 * (drawn & 1)
        self._sums.index_add_(0, bucket.to(batch.device), batch * sign.to(batch)[:, None])
        self._ones.index_add_(0, bucket, sign.double())
        self._total += batch.sum(0)
        self.tokens += len(batch)

    def directions(self) -> torch.Tensor:
        """Sketches of the activations less their means, float32 [features, terms].

        A feature that never changes has zeros, up to roundings that are taken for zeros.
        """
        mean = self._total / max(self.tokens, 1)
        centred = self._sums - self._ones.to(mean.device)[:, None] * mean
        rounding = 1e-9 * self._sums.abs().amax(0) + 1e-30
        centred[:, centred.abs().amax(0) <= rounding] = 0.0
        return centred.T.float().contiguous()
