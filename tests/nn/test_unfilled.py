"""Building without drawing: the same names, shapes and buffers, and no time spent."""

from __future__ import annotations

import subprocess
import sys

import torch
from torch.testing import assert_close

from diptych.clip import recipes
from diptych.clip.model import CLIP
from diptych.nn.unfilled import unfilled


def test_the_model_is_the_same_but_for_its_weights():
    config = recipes.tiny().model
    drawn, bare = CLIP(config), unfilled(CLIP, config)
    shapes = {name: tensor.shape for name, tensor in drawn.state_dict().items()}
    assert {name: tensor.shape for name, tensor in bare.state_dict().items()} == shapes
    bare.load_state_dict(drawn.state_dict())
    assert_close(dict(bare.named_buffers()), dict(drawn.named_buffers()), rtol=0, atol=0)


def test_no_generator_is_touched_and_drawing_goes_on_afterwards():
    torch.manual_seed(3)
    expected = torch.rand(5)
    torch.manual_seed(3)
    unfilled(CLIP, recipes.tiny().model)
    assert_close(torch.rand(5), expected, rtol=0, atol=0)
    weights = torch.nn.Linear(7, 6).weight
    assert weights.abs().max() <= 7**-0.5 and weights.std() > 0.1


def test_the_compiler_is_not_imported():
    code = (
        "import sys; from diptych.clip import recipes; from diptych.clip.model import CLIP; "
        "from diptych.nn.unfilled import unfilled; unfilled(CLIP, recipes.tiny().model); "
        "raise SystemExit('sympy' in sys.modules or 'torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
