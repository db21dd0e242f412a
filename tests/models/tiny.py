"""Models of the real classes with a few thousand random weights, written as the folders and files that loaders read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    PreTrainedTokenizerFast,
    SwinConfig,
)

from pipelines.models import Call
from pipelines.models.loading import make_call
from pipelines.models.sam import build_sam
from pipelines.strict import Checkpoint

WORDS = ["a", "red", "blue", "striped", "shirt", "bag", "shoe", "photo", "."]
BERT_IDS = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}
SAM_CONFIG: dict[str, Any] = {
    "image_encoder": {
        "img_size": 64,
        "patch_size": 8,
        "embed_dim": 16,
        "depth": 2,
        "num_heads": 2,
        "mlp_ratio": 2,
        "out_chans": 16,
        "qkv_bias": True,
        "use_rel_pos": True,
        "window_size": 4,
        "global_attn_indexes": [1],
    },
    "prompt_encoder": {
        "embed_dim": 16,
        "image_embedding_size": [8, 8],
        "input_image_size": [64, 64],
        "mask_in_chans": 8,
    },
    "transformer": {"depth": 2, "embedding_dim": 16, "mlp_dim": 32, "num_heads": 2},
    "mask_decoder": {
        "num_multimask_outputs": 3,
        "transformer_dim": 16,
        "iou_head_depth": 3,
        "iou_head_hidden_dim": 16,
    },
    "pixel_mean": [128.0, 128.0, 128.0],
    "pixel_std": [64.0, 64.0, 64.0],
}
SCHEDULE: dict[str, Any] = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "clip_sample": False,
    "steps_offset": 1,
}


def a_call(call_size: int = 1, threads: int = 1, role: str = "segmenter", path: Path | str = "here") -> Call:
    """How a network of this process is called; the checkpoint matters only to what loads one."""
    return make_call(role, Checkpoint(uri=str(path)), call_size, threads)


def noise(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    """A picture of noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_detector(folder: Path, own_shape: bool = False) -> Path:
    """A Grounding DINO of 64 pixels, with fusion layers that matter.

    Its processor says one square or, `own_shape`, a shortest side of 64 and a longest of 107 pixels, as official ones
    say 800 and 1333.
    """
    torch.manual_seed(0)
    backbone = SwinConfig(
        image_size=64,
        embed_dim=16,
        depths=[1, 1, 1],
        num_heads=[2, 2, 2],
        window_size=4,
        out_features=["stage2", "stage3"],
    )
    config = GroundingDinoConfig(
        backbone_config=backbone,
        text_config=_bert(),
        num_queries=8,
        encoder_layers=1,
        decoder_layers=2,
        d_model=32,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        num_feature_levels=2,
        max_text_len=64,
    )
    model = GroundingDinoForObjectDetection(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("vision_param", "text_param")):
                weight.fill_(1.0)
            else:
                weight.add_(torch.randn_like(weight) * 0.05)
    model.save_pretrained(folder)
    size = {"shortest_edge": 64, "longest_edge": 107} if own_shape else {"height": 64, "width": 64}
    GroundingDinoImageProcessor(do_resize=own_shape, do_pad=own_shape, size=size).save_pretrained(folder)
    bert_tokenizer().save_pretrained(folder)
    return folder


def write_text_encoder(folder: Path) -> Path:
    """The config and tokenizer of a BERT, as they lie beside an official checkpoint of Grounding DINO."""
    _bert().save_pretrained(folder)
    bert_tokenizer().save_pretrained(folder)
    return folder


def _bert() -> BertConfig:
    return BertConfig(
        vocab_size=1200,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )


def write_segmenter(folder: Path) -> Path:
    """A Sam of 64 pixels, as `packshot train` writes one."""
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(SAM_CONFIG))
    weights = {name: one.half().contiguous() for name, one in build_sam(SAM_CONFIG).state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    return folder


def write_painter(folder: Path, channels: int = 9, text_layers: int = 1, mid_attention: bool = False) -> Path:
    """An inpainting pipeline whose autoencoder shrinks by 8."""
    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        norm_num_groups=2,
        layers_per_block=1,
        mid_block_add_attention=mid_attention,
        scaling_factor=4.0,
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=channels,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    pipeline = StableDiffusionInpaintPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(CLIPTextConfig(**{**_clip_text(), "num_hidden_layers": text_layers})),
        tokenizer=clip_tokenizer(),
        unet=unet,
        scheduler=DDIMScheduler(**SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def write_lora(path: Path, painter: Path) -> Path:
    """A LoRA of rank 2 on the attention of a painter's UNet, with weights that matter."""
    torch.manual_seed(1)
    unet: Any = UNet2DConditionModel.from_pretrained(painter / "unet", low_cpu_mem_usage=False)
    unet.add_adapter(LoraConfig(r=2, lora_alpha=2, init_lora_weights=False, target_modules=["to_q", "to_v", "to_k"]))
    StableDiffusionInpaintPipeline.save_lora_weights(
        path.parent, unet_lora_layers=get_peft_model_state_dict(unet), weight_name=path.name
    )
    return path


def write_encoder(folder: Path) -> Path:
    """A CLIP of 32 pixels and 8 tokens."""
    torch.manual_seed(0)
    vision = {
        "image_size": 32,
        "patch_size": 8,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    CLIPModel(CLIPConfig(text_config=_clip_text(), vision_config=vision, projection_dim=8)).save_pretrained(folder)
    clip_tokenizer().save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def _clip_text() -> dict[str, Any]:
    return {
        "vocab_size": 32,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 8,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 3,
    }


def bert_tokenizer() -> PreTrainedTokenizerFast:
    """Whole words, with BERT's own numbers for its special tokens."""
    ids = {**BERT_IDS, **{word: 1100 + number for number, word in enumerate(WORDS) if word != "."}}
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return _tokenizer({**ids, "[unused]": 1199}, names, "[CLS]", "[SEP]", 64)


def clip_tokenizer() -> PreTrainedTokenizerFast:
    """Whole words, with CLIP's frame."""
    ids = {word: number for number, word in enumerate(["<pad>", "<start>", "<unk>", "<end>", *WORDS])}
    names = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<start>", "eos_token": "<end>"}
    return _tokenizer({**ids, "<unused>": 31}, names, "<start>", "<end>", 8)


def _tokenizer(
    ids: dict[str, int], names: dict[str, str], first: str, last: str, length: int
) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=names["unk_token"]))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), "removed", invert=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        f"{first} $A {last}", None, [(first, ids[first]), (last, ids[last])]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=length, **names)
