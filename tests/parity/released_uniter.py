"""The released UNITER's stored weights and batches as ours, and our gradients under its names."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from diptych.data.batch import Batch, RegionPart, TextPart
from diptych.uniter.heads import new_heads, sizes_in
from diptych.uniter.layouts import released
from diptych.uniter.model import UNITER


def model_of(published):
    model = UNITER(published.config)
    model.heads = new_heads(sizes_in(published.state), published.config)
    model.load_state_dict(published.state)
    return model.eval()


def batch_of(stored, name):
    """A stored batch, padded as the release padded it."""
    ids, features, boxes = (stored[f"{name}/{part}"] for part in ("input_ids", "img_feat", "img_pos_feat"))
    rows = max(len(ids), len(features))
    ids = ids.expand(rows, -1)
    regions = stored[f"{name}/attn_masks"].sum(dim=1) - (ids != 0).sum(dim=1)
    found = {
        key: stored[f"{name}/{key}"]
        for key in ("txt_type_ids", "img_type_ids", "img_masks")
        if f"{name}/{key}" in stored.files
    }
    hidden = found.get("img_masks")
    return Batch(
        keys=("",) * rows,
        group=torch.arange(rows),
        text=TextPart(ids=ids, mask=ids != 0, types=found.get("txt_type_ids")),
        regions=RegionPart(
            features=features.expand(rows, -1, -1),
            boxes=boxes[..., :4].expand(rows, -1, -1),
            box_features=boxes.expand(rows, -1, -1),
            mask=torch.arange(features.shape[1], device=stored.device) < regions[:, None],
            types=found.get("img_type_ids"),
            hidden=None if hidden is None else hidden.bool(),
        ),
    )


def close(ours, expected, what=""):
    assert_close(ours, expected, atol=1e-4, rtol=1e-4, msg=lambda told: f"{what}: {told}")


def released_gradients(model, loss):
    """Under the released names."""
    model.zero_grad()
    loss.backward()
    found = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    return released.key_map(found).to_theirs(found)
