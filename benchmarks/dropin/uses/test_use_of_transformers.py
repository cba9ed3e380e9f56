"""transformers: matchers of its detection and segmentation models, given what they should find.

Some queries predict the targets, in an order of their own; matched pairs are known by that.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.loss.loss_deformable_detr import DeformableDetrHungarianMatcher
from transformers.loss.loss_for_object_detection import HungarianMatcher
from transformers.loss.loss_grounding_dino import GroundingDinoHungarianMatcher
from transformers.loss.loss_rt_detr import RTDetrHungarianMatcher
from transformers.models.mask2former.modeling_mask2former import Mask2FormerHungarianMatcher
from transformers.models.maskformer.modeling_maskformer import MaskFormerHungarianMatcher
from transformers.models.oneformer.modeling_oneformer import OneFormerHungarianMatcher

QUERIES, CLASSES, TARGETS = 100, 20, (30, 7, 0)

RT_DETR = SimpleNamespace(
    matcher_class_cost=2.0,
    matcher_bbox_cost=5.0,
    matcher_giou_cost=2.0,
    use_focal_loss=True,
    matcher_alpha=0.25,
    matcher_gamma=2.0,
)
OF_BOXES = {
    "DETR": HungarianMatcher(1, 5, 2),
    "Deformable DETR": DeformableDetrHungarianMatcher(1, 5, 2),
    "Grounding DINO": GroundingDinoHungarianMatcher(1, 5, 2),
    "RT-DETR": RTDetrHungarianMatcher(RT_DETR),  # type: ignore[no-untyped-call]
}
OF_MASKS = {
    "MaskFormer": MaskFormerHungarianMatcher(1.0, 20.0, 1.0),
    "Mask2Former": Mask2FormerHungarianMatcher(2.0, 5.0, 5.0, num_points=400),
    "OneFormer": OneFormerHungarianMatcher(2.0, 5.0, 5.0, num_points=400),
}


def planted(generator: torch.Generator) -> list[torch.Tensor]:
    """The query of each target, a problem an image."""
    return [torch.randperm(QUERIES, generator=generator)[:count] for count in TARGETS]


def check(found: list[tuple[torch.Tensor, torch.Tensor]], queries: list[torch.Tensor]) -> None:
    """Matched pairs of each image are the planted ones."""
    for (query, target), expected in zip(found, queries, strict=True):
        assert query.dtype == target.dtype == torch.int64
        assert torch.equal(query, expected.sort().values)
        assert torch.equal(expected[target], query)


@pytest.mark.parametrize("name", OF_BOXES)
def test_boxes(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    queries = planted(generator)
    centres, sizes = torch.rand(2, len(TARGETS), QUERIES, 2, generator=generator)
    boxes = torch.cat([0.1 + 0.8 * centres, 0.02 + 0.1 * sizes], dim=-1)
    labels = [torch.randint(CLASSES, (count,), generator=generator) for count in TARGETS]
    logits = torch.randn(len(TARGETS), QUERIES, CLASSES, generator=generator)
    targets = []
    for image, (query, label) in enumerate(zip(queries, labels, strict=True)):
        logits[image, query, label] = 9.0
        targets.append({"class_labels": label, "boxes": boxes[image, query]})
    outputs: dict[str, Any] = {"logits": logits, "pred_boxes": boxes}
    if name == "Grounding DINO":
        outputs["label_maps"] = tuple(torch.eye(CLASSES) for _ in TARGETS)
    check(OF_BOXES[name](outputs, targets), queries)


@pytest.mark.parametrize("name", OF_MASKS)
def test_masks(name: str) -> None:
    torch.manual_seed(0)  # of the points where some compare masks
    generator = torch.Generator().manual_seed(0)
    queries = planted(generator)[:2]
    masks = torch.rand(2, QUERIES, 32, 32, generator=generator) < 0.5
    labels = [torch.randint(CLASSES, (count,), generator=generator) for count in TARGETS[:2]]
    logits = torch.randn(2, QUERIES, CLASSES + 1, generator=generator)
    wanted = []
    for image, (query, label) in enumerate(zip(queries, labels, strict=True)):
        logits[image, query, label] = 9.0
        wanted.append(masks[image, query].float())
    predicted = torch.where(masks, 4.0, -4.0)
    check(OF_MASKS[name](predicted, logits, wanted, labels), queries)
