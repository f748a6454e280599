"""Pictures and texts a second from files and strings to vectors: ours against open_clip and transformers.

All three hold the same random weights, and are used as their documentation says: open_clip with its transform a
picture at a time, stacked; transformers with its processor a batch at a time; ours with lists. Every way ends with one
tensor of normalised vectors, and these are compared: our evaluation transform is open_clip's bit for bit, unless
`exact_pixels` is off. A plain product takes its turn too: what the model's operations would take at its rate.

    python benchmarks/embed.py --json embed.json
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPModel, CLIPProcessor

import diptych
from diptych import systems
from diptych.clip.model import CLIP, ClipConfig
from diptych.clip.weights import write_weights
from harness import add_clock, arguments, machine, print_machine, show, take_turns, write_json
from samples import captions, photographs
from train_step import PRODUCT, plain_products, products_of

PEER = "open_clip"
OURS = "diptych"
MODELS = {
    "ViT-B/32": ClipConfig(activation="gelu"),
    # So small that reading the files is most of the work.
    "small, 64 px": ClipConfig(
        embed_dim=128, image_size=64, image_width=128, image_layers=(4,), image_heads=4, patch_size=16,
        text_width=128, text_layers=3, text_heads=4, activation="gelu",
    ),
}  # fmt: skip

Encode = Callable[[], Tensor]


def main() -> None:
    parser = arguments(__doc__)
    add_clock(parser)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--pictures", type=int, default=128)
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.quick:
        options.models, options.pictures, options.texts, options.rounds = ["small, 64 px"], 8, 32, 1
    torch.set_num_threads(options.threads)
    print_machine()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        files, files_origin = write_photographs(Path(folder) / "photographs", options.pictures)
        texts, texts_origin = captions(options.texts)
        for name in options.models:
            peers = Peers(MODELS[name], Path(folder) / name.replace("/", "-"), options.batch)
            for what, origin, ways in (
                ("pictures", files_origin, peers.of_pictures(files)),
                ("texts", texts_origin, peers.of_texts(texts)),
            ):
                results[f"{name}, {what}"] = compare(f"{name}, {what} ({origin})", ways, what, options)
    write_json(options, {**machine(), "batch": options.batch, "clock": options.clock, "results": results})


def compare(title: str, ways: dict[str, Encode], unit: str, options: argparse.Namespace) -> dict[str, Any]:
    differences = furthest(ways)
    num = num_encoded(ways[OURS])
    turns: dict[str, Callable[[], float]] = {name: partial(num_encoded, encode) for name, encode in ways.items()}
    turns[PRODUCT] = plain_products(products_of(ways[OURS]) // num)
    rates = take_turns(turns, rounds=options.rounds, clock=options.clock)
    found = show(f"{title}, batch {options.batch}, {options.clock} clock", rates, PEER, unit)
    for name, difference in differences.items():
        print(f"  {name} is at most {difference:.1e} from {PEER} in any entry")
    return found | {"largest_difference": differences}


def furthest(ways: dict[str, Encode]) -> dict[str, float]:
    """The largest difference of any entry of the normalised vectors from the peer's."""
    found = {name: encode() for name, encode in ways.items()}
    return {name: float((vectors - found[PEER]).abs().max()) for name, vectors in found.items() if name != PEER}


def num_encoded(encode: Encode) -> int:
    return len(encode())


def write_photographs(folder: Path, num: int) -> tuple[list[Path], str]:
    folder.mkdir()
    photos, origin = photographs(num)
    files = [folder / f"{number}.jpg" for number in range(num)]
    for file, photo in zip(files, photos, strict=True):
        file.write_bytes(photo)
    return files, origin


class Peers:
    """The same random weights in three libraries."""

    def __init__(self, config: ClipConfig, folder: Path, batch: int) -> None:
        torch.manual_seed(0)
        write_weights(folder / "open_clip", config, CLIP(config).state_dict(), "open_clip")
        systems.convert(folder / "open_clip", folder / "huggingface", "huggingface")
        self.batch = batch
        self.ours = diptych.load(folder / "open_clip", device="cpu")
        self.ours_quick = diptych.load(folder / "open_clip", device="cpu", exact_pixels=False)
        self.model, _, self.transform = open_clip.create_model_and_transforms(f"local-dir:{folder / 'open_clip'}")
        self.model.eval()
        self.tokenizer = open_clip.get_tokenizer("ViT-B-32")
        self.hf_model = CLIPModel.from_pretrained(folder / "huggingface").eval()
        self.hf_processor = CLIPProcessor.from_pretrained(folder / "huggingface")

    def of_pictures(self, files: Sequence[Path]) -> dict[str, Encode]:
        return {
            PEER: partial(self.joined, files, self.open_clip_images),
            "transformers": partial(self.joined, files, self.transformers_images),
            OURS: partial(self.ours.encode_image, files, batch=self.batch),
            "diptych, exact_pixels=False": partial(self.ours_quick.encode_image, files, batch=self.batch),
        }

    def of_texts(self, texts: Sequence[str]) -> dict[str, Encode]:
        return {
            PEER: partial(self.joined, texts, self.open_clip_texts),
            "transformers": partial(self.joined, texts, self.transformers_texts),
            OURS: partial(self.ours.encode_text, texts, batch=self.batch),
        }

    def joined(self, all_of_them: Sequence[Any], encode: Callable[[Any], Tensor]) -> Tensor:
        with torch.no_grad():
            return torch.cat([F.normalize(encode(part), dim=-1) for part in self.batches(all_of_them)])

    def batches(self, all_of_them: Sequence[Any]) -> Iterator[Sequence[Any]]:
        for start in range(0, len(all_of_them), self.batch):
            yield all_of_them[start : start + self.batch]

    def open_clip_images(self, files: Sequence[Path]) -> Tensor:
        return self.model.encode_image(torch.stack([self.transform(Image.open(file)) for file in files]))

    def open_clip_texts(self, texts: Sequence[str]) -> Tensor:
        return self.model.encode_text(self.tokenizer(texts))

    def transformers_images(self, files: Sequence[Path]) -> Tensor:
        pictures = [Image.open(file) for file in files]
        found: Tensor = self.hf_model.get_image_features(
            **self.hf_processor(images=pictures, return_tensors="pt")
        ).pooler_output
        return found

    def transformers_texts(self, texts: Sequence[str]) -> Tensor:
        inputs = self.hf_processor(text=list(texts), return_tensors="pt", padding=True, truncation=True)
        found: Tensor = self.hf_model.get_text_features(**inputs).pooler_output
        return found


if __name__ == "__main__":
    main()
