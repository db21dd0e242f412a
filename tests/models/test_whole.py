"""What is missing in a checkpoint is never made up: folders in official layouts, whole and with something taken out."""

import hashlib
import json
import shutil
import subprocess
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.errors import ConfigError, InfrastructureError
from pipelines.models import Sampling, checkpoints, groundingdino_config, sam
from pipelines.models.files import DIFFUSERS, TRANSFORMERS, weight_files
from pipelines.models.grounding_dino import see_samples_one_by_one
from pipelines.models.kinds import kind_of
from pipelines.models.loading import (
    inspect,
    load_detector,
    load_encoder,
    load_painter,
    load_segmenter,
    make_call,
)
from pipelines.strict import Checkpoint
from tests.models.tiny import write_detector, write_encoder, write_painter, write_segmenter

SAMPLING = Sampling(sampler="ddim", spacing="default", steps=20, guidance=7.5, strength=1.0, clip_skip=0)

WRITE = {"detector": write_detector, "segmenter": write_segmenter, "painter": write_painter, "encoder": write_encoder}
NETWORKS = [
    ("detector", "model"),
    ("encoder", "model"),
    ("segmenter", "model"),
    ("painter", "unet/diffusion_pytorch_model"),
    ("painter", "vae/diffusion_pytorch_model"),
    ("painter", "text_encoder/model"),
]
TOKENIZERS = [("detector", "."), ("encoder", "."), ("painter", "tokenizer")]


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    for role, write in WRITE.items():
        write(folder / role)
    return folder


@pytest.fixture
def whole(originals, tmp_path):
    """A function that copies a role's folder, to be harmed."""
    return lambda role: shutil.copytree(originals / role, tmp_path / role)


def load(role, path, **pin):
    call = make_call(role, Checkpoint(uri=str(path), **pin), 1, 1)
    if role == "painter":
        return load_painter(call, SAMPLING)
    return {"detector": load_detector, "segmenter": load_segmenter, "encoder": load_encoder}[role](call)


def refused(role, path, **pin):
    """What is said of a folder by loading it; looking at it without its weights has to say the same."""
    with pytest.raises((ConfigError, InfrastructureError)) as loaded:
        load(role, path, **pin)
    with pytest.raises((ConfigError, InfrastructureError)) as looked_at:
        inspect(role, Checkpoint(uri=str(path), **pin))
    assert str(looked_at.value)[:60] == str(loaded.value)[:60]
    return str(loaded.value)


def rewrite(file, change):
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def without_one(weights):
    return dict(list(weights.items())[1:])


def one_of_another_shape(weights):
    first = next(iter(weights))
    return {**weights, first: torch.zeros(7, 7, 7)}


def under_another_prefix(weights):
    return {f"wrapped.{name}": one for name, one in weights.items()}


@pytest.mark.parametrize("role", WRITE)
def test_whole_folder_can_be_loaded_and_is_looked_at_without_its_weights(role, originals):
    path = originals / role

    assert inspect(role, Checkpoint(uri=str(path))) == path
    assert load(role, path)


@pytest.mark.parametrize(("role", "stem"), NETWORKS)
@pytest.mark.parametrize("harm", [without_one, one_of_another_shape, under_another_prefix])
def test_weights_that_do_not_fill_the_network_are_refused_by_name(role, stem, harm, whole):
    folder = whole(role)
    file = folder / f"{stem}.safetensors"
    first = next(iter(load_file(file)))
    rewrite(file, harm)

    said = refused(role, folder)

    assert "fill" in said
    assert "fetch" in said
    if harm is not under_another_prefix:
        assert first.split(".")[-1] in said


@pytest.mark.parametrize(("role", "where"), TOKENIZERS)
def test_tokenizer_without_its_files_is_refused(role, where, whole):
    folder = whole(role)
    for file in (folder / where).glob("token*"):
        file.unlink()

    assert "tokenizer" in refused(role, folder)


@pytest.mark.parametrize(("role", "where"), TOKENIZERS)
def test_tokenizer_of_another_model_is_refused(role, where, whole):
    folder = whole(role)
    file = folder / where / "tokenizer.json"
    described = json.loads(file.read_text())
    described["model"]["vocab"].popitem()
    file.write_text(json.dumps(described))

    assert "numbers" in refused(role, folder)


def test_names_of_older_versions_are_known(whole):
    painter, encoder = whole("painter"), whole("encoder")
    rewrite(
        painter / "text_encoder" / "model.safetensors",
        lambda some: {
            **{f"text_model.{name.removeprefix('text_model.')}": one for name, one in some.items()},
            "text_model.embeddings.position_ids": torch.arange(8)[None],
        },
    )
    rewrite(
        encoder / "model.safetensors",
        lambda some: {**some, "text_model.embeddings.position_ids": torch.arange(8)[None]},
    )

    assert load("painter", painter)
    assert load("encoder", encoder)
    assert inspect("painter", Checkpoint(uri=str(painter)))


def test_attention_of_the_first_autoencoders_is_known_by_its_old_names(tmp_path):
    folder = write_painter(tmp_path, mid_attention=True)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def renamed(weights):
        for new, name in old.items():
            weights = {one.replace(f".{new}.", f".{name}."): weight for one, weight in weights.items()}
        return weights

    rewrite(folder / "vae" / "diffusion_pytorch_model.safetensors", renamed)

    assert "decoder.mid_block.attentions.0.query.weight" in load_file(
        folder / "vae" / "diffusion_pytorch_model.safetensors"
    )
    assert load("painter", folder)
    assert inspect("painter", Checkpoint(uri=str(folder)))


def as_bin(folder):
    for file in list(folder.rglob("*model.safetensors")):
        name = "pytorch_model.bin" if file.name == "model.safetensors" else "diffusion_pytorch_model.bin"
        torch.save(load_file(file), file.with_name(name))


def as_fp16(folder):
    for file in list(folder.rglob("*model.safetensors")):
        half = {name: one.half() if one.is_floating_point() else one for name, one in load_file(file).items()}
        save_file(half, file.with_name(file.name.replace("model.", "model.fp16.")), metadata={"format": "pt"})


def without_plain(folder):
    for file in list(folder.rglob("*model.safetensors")):
        file.unlink()


@pytest.mark.parametrize("role", ["detector", "encoder", "painter"])
def test_pickles_open_if_they_are_pinned_and_count_in_the_hash(role, whole):
    folder = whole(role)
    as_bin(folder)
    without_plain(folder)

    said = refused(role, folder)
    pin = said.partition("#sha256=")[2][:64]

    assert "a pickle, which is only read when its hash is pinned" in said
    assert load(role, folder, sha256=pin)
    assert inspect(role, Checkpoint(uri=str(folder), sha256=pin)) == folder
    next(folder.rglob("*pytorch_model.bin")).write_bytes(b"another")
    with pytest.raises(InfrastructureError, match="has sha256"):
        checkpoints.resolve(Checkpoint(uri=str(folder), sha256=pin))


def test_pickle_at_a_commit_of_the_hub_needs_no_other_pin(originals, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit = "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"
    folder = shutil.copytree(originals / "encoder", tmp_path / "models--org--clip" / "snapshots" / commit)
    as_bin(folder)
    without_plain(folder)

    assert load("encoder", "org/clip", revision=commit)


def test_pickle_that_would_run_code_is_not_run(whole, tmp_path):
    class Runs:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    folder = whole("encoder")
    without_plain(folder)
    torch.save({"logit_scale": Runs()}, folder / "pytorch_model.bin")
    said = refused("encoder", folder)

    with pytest.raises(InfrastructureError, match="cannot load the encoder"):
        load("encoder", folder, sha256=said.partition("#sha256=")[2][:64])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("role", ["detector", "encoder", "painter"])
def test_half_precision_files_open_where_there_are_no_others(role, whole):
    folder = whole(role)
    as_fp16(folder)
    without_plain(folder)

    assert inspect(role, Checkpoint(uri=str(folder))) == folder
    assert load(role, folder)


def test_layout_of_stable_diffusion_s_repository_opens_without_a_pin_or_what_is_not_needed(whole):
    folder = whole("painter")
    as_fp16(folder)
    as_bin(folder)
    without_plain(folder)
    index = json.loads((folder / "model_index.json").read_text())
    checked = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "requires_safety_checker": True}
    seen = {"image_encoder": ["transformers", "CLIPVisionModelWithProjection"]}
    (folder / "model_index.json").write_text(json.dumps({**index, **checked, **seen}))

    assert inspect("painter", Checkpoint(uri=str(folder))) == folder
    assert load("painter", folder)


def test_of_all_layouts_the_plain_one_is_read_and_a_pickle_beside_it_changes_no_hash(whole):
    folder = whole("encoder")
    before = checkpoints.weights_hash(Checkpoint(uri=str(folder)))
    embedded = load("encoder", folder).embed_texts(["a red shirt"])

    as_bin(folder)
    (folder / "pytorch_model.bin").write_bytes(b"no pickle at all")

    assert weight_files(folder, TRANSFORMERS).files == (folder / "model.safetensors",)
    assert checkpoints.weights_hash(Checkpoint(uri=str(folder))) == before
    copy = shutil.copytree(folder, folder.with_name("copy"))  # a process loads each folder once
    np.testing.assert_array_equal(load("encoder", copy).embed_texts(["a red shirt"]), embedded)


def test_kinds_of_files_are_taken_in_one_order(tmp_path):
    (tmp_path / "diffusion_pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": "one.bin"}}))
    (tmp_path / "one.bin").touch()
    assert weight_files(tmp_path, DIFFUSERS).files == (tmp_path / "one.bin",)

    (tmp_path / "diffusion_pytorch_model.fp16.safetensors").touch()
    assert weight_files(tmp_path, DIFFUSERS).variant == "fp16"

    (tmp_path / "diffusion_pytorch_model.safetensors").touch()
    assert weight_files(tmp_path, DIFFUSERS).variant is None


def test_folder_without_weights_says_which_it_wants(whole):
    folder = whole("painter")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()

    said = refused("painter", folder)

    assert f"there are no weights in {folder / 'unet'}; expected diffusion_pytorch_model.safetensors" in said


def folder_of(tmp_path, name, **config):
    tmp_path.mkdir(exist_ok=True, parents=True)
    (tmp_path / name).write_text(json.dumps(config))
    return tmp_path


@pytest.mark.parametrize(
    ("role", "name", "config", "words"),
    [
        ("segmenter", "config.json", {"model_type": "sam"}, "is SAM in the layout of transformers; as segmenter"),
        (
            "segmenter",
            "config.json",
            {"model_type": "sam2"},
            "is SAM 2; as segmenter, Packshot opens the first Segment",
        ),
        ("segmenter", "config.json", {"architectures": ["BiRefNet"]}, "is a model of type 'BiRefNet'; as segmenter"),
        ("painter", "model_index.json", {"_class_name": "StableDiffusionXLInpaintPipeline"}, "is Stable Diffusion XL;"),
        ("painter", "model_index.json", {"_class_name": "FluxFillPipeline"}, "is FLUX; as painter"),
        ("painter", "model_index.json", {"_class_name": "OtherPipeline"}, "is a diffusers pipeline OtherPipeline; as"),
        ("encoder", "config.json", {"model_type": "dinov2"}, "is DINOv2; as encoder, Packshot opens CLIP"),
        ("encoder", "config.json", {"model_type": "siglip"}, "is SigLIP; as encoder"),
        ("detector", "config.json", {"model_type": "owlv2"}, "is OWLv2; as detector, Packshot opens Grounding DINO"),
    ],
)
def test_folder_of_another_kind_is_told_what_it_is_and_what_the_role_opens(role, name, config, words, tmp_path):
    assert words in refused(role, folder_of(tmp_path / "model", name, **config))


@pytest.mark.parametrize(
    ("role", "name", "weight", "words"),
    [
        ("segmenter", "mobile_sam.pt", "image_encoder.patch_embed.seq.0.c.weight mask_decoder.x", "is MobileSAM; as"),
        ("segmenter", "sam2_hiera_tiny.pt", "sam_mask_decoder.conv_s0.weight", "is SAM 2; as segmenter"),
        ("segmenter", "sam_hq_vit_b.pth", "image_encoder.neck.0 mask_decoder.hf_token.weight", "is SAM-HQ; as"),
        ("painter", "v1-5.ckpt", "model.diffusion_model.out.weight", "in one file; as painter"),
        ("painter", "v1-5.safetensors", "model.diffusion_model.out.weight", "P.from_single_file("),
        ("detector", "v1-5.ckpt", "model.diffusion_model.out.weight", "is Stable Diffusion in one file; as detector"),
    ],
)
def test_file_of_another_kind_is_told_by_the_names_of_its_weights(role, name, weight, words, tmp_path):
    path = tmp_path / name
    weights = {one: torch.zeros(1) for one in weight.split()}
    save_file(weights, path) if path.suffix == ".safetensors" else torch.save({"model": weights}, path)
    pin = hashlib.sha256(path.read_bytes()).hexdigest()

    assert words in refused(role, path, sha256=pin)
    assert len(checkpoints.weights_hash(Checkpoint(uri=str(path), sha256=pin))) == 64


def test_empty_folder_is_no_model(tmp_path):
    assert "is empty, and is no model" in refused("encoder", tmp_path)


def test_pickle_that_cannot_be_told_is_no_kind(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"something")
    with zipfile.ZipFile(tmp_path / "b.pth", "w") as archive:
        archive.writestr("other", b"model.diffusion_model.")

    for path in (tmp_path / "a.pth", tmp_path / "b.pth"):
        assert kind_of(path) is None
        assert not groundingdino_config.opens(path)
        assert not sam.opens(path)


def test_pickle_whose_weights_cannot_be_named_is_known_by_its_own_name_or_the_config_beside_it(tmp_path):
    for name in ("sam_vit_b_01ec64.pth", "groundingdino_swint_ogc.pth", "groundingdino_swint_ogc.py"):
        (tmp_path / name).write_bytes(b"of torch before 1.6")

    assert sam.opens(tmp_path / "sam_vit_b_01ec64.pth")
    assert not groundingdino_config.opens(tmp_path / "sam_vit_b_01ec64.pth")
    assert groundingdino_config.opens(tmp_path / "groundingdino_swint_ogc.pth")
    assert not sam.opens(tmp_path / "groundingdino_swint_ogc.pth")


def test_pin_of_a_folder_is_what_the_readme_s_command_says(originals):
    command = (
        "find * -type f \\( -name '*.safetensors' -o -name '*.json' -o -name '*.txt' -o -name '*.model' \\) "
        "| LC_ALL=C sort | xargs sha256sum | sha256sum"
    )
    folder = originals / "painter"

    said = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, check=True).stdout.split()[
        0
    ]

    assert checkpoints.pinned(Checkpoint(uri=str(folder))) == f"{folder}#sha256={said}"


def test_library_whose_fusion_layers_have_another_name_is_refused():
    with pytest.raises(
        InfrastructureError, match=r"0 layers named \*BiMultiHeadAttention, expected 6, in transformers"
    ):
        see_samples_one_by_one(torch.nn.Linear(1, 1), 6)
