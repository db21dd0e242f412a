"""What a user would write instead: the loop of a Grounded-SAM demo. Models loaded once, one picture at a time.

Detect with transformers' Grounding DINO, cut with segment-anything's predictor, paint with diffusers' inpainting
pipeline, score with CLIP, save. The same weights, pictures, steps and variants as Packshot; no manifest, no exact
paste, no proof, no retry.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline
from PIL import Image
from safetensors.torch import load_file
from segment_anything import SamPredictor
from transformers import (
    AutoTokenizer,
    CLIPImageProcessor,
    CLIPModel,
    GroundingDinoForObjectDetection,
    GroundingDinoProcessor,
)

from pipelines.models.sam import build_sam
from pipelines.pixels.crops import letterbox

EMBEDDED = Path(__file__).parents[1] / "pipelines" / "embedded"


@torch.inference_mode()
def main(jobs_file: Path, out: Path) -> None:
    """Paint every job (image, category, prompt) save each variant as PNG, squashed to the model's square and back."""
    given = json.loads(jobs_file.read_text())
    processor = GroundingDinoProcessor.from_pretrained(EMBEDDED / "detector")
    detector = GroundingDinoForObjectDetection.from_pretrained(EMBEDDED / "detector", dtype=torch.float32).eval()
    config = json.loads((EMBEDDED / "segmenter" / "config.json").read_text())
    sam = build_sam(config)
    sam.load_state_dict(
        {name: tensor.float() for name, tensor in load_file(EMBEDDED / "segmenter" / "model.safetensors").items()},
        strict=False,
    )
    predictor = SamPredictor(sam.eval())
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(
        EMBEDDED / "painter", safety_checker=None, dtype=torch.float32
    )
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    clip = CLIPModel.from_pretrained(EMBEDDED / "encoder", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED / "encoder")
    image_processor = CLIPImageProcessor.from_pretrained(EMBEDDED / "encoder")

    side = processor.image_processor.size["height"]
    for job in given["jobs"]:
        image = np.asarray(Image.open(job["image"]).convert("RGB"))
        square, scale = letterbox(image, side)
        inputs = processor(images=Image.fromarray(square), text=f"{job['category']} .", return_tensors="pt")
        found = processor.post_process_grounded_object_detection(
            detector(**inputs),
            inputs["input_ids"],
            threshold=given["min_score"],
            text_threshold=0.25,
            target_sizes=[(side, side)],
        )[0]
        if not len(found["boxes"]):
            continue
        predictor.set_image(image)
        box = (found["boxes"][found["scores"].argmax()] / scale).numpy()
        masks, _, _ = predictor.predict(box=box, multimask_output=False)
        size = given["crop_px"]
        painted = pipeline(
            prompt=job["prompt"],
            negative_prompt=given["negative"],
            image=Image.fromarray(image).resize((size, size)),
            mask_image=Image.fromarray(masks[0].astype(np.uint8) * 255).resize((size, size)),
            height=size,
            width=size,
            num_inference_steps=given["steps"],
            guidance_scale=given["guidance"],
            num_images_per_prompt=given["variants"],
        ).images
        words = tokenizer(job["prompt"], return_tensors="pt", padding="max_length", truncation=True)
        small = [picture.resize((128, 128)) for picture in painted]
        clip(**words, **image_processor(images=small, return_tensors="pt"))
        for number, picture in enumerate(painted):
            picture.resize(image.shape[1::-1]).save(out / f"{job['key']}-{number}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
