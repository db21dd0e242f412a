import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
from safetensors.torch import load_file

from pipelines.errors import ConfigError, InfrastructureError
from pipelines.models import Grid
from pipelines.models.calls import parameter_bytes
from pipelines.models.grounding_dino import GroundingDino
from pipelines.models.loading import (
    ADAPTERS,
    SEGMENTERS,
    inspect,
    load_detector,
    load_encoder,
    load_proposer,
    load_segmenter,
)
from pipelines.strict import Checkpoint
from tests.models import disc_segmenter
from tests.models.tiny import a_call, write_detector, write_encoder, write_painter, write_segmenter

WITH_DISCS = (*SEGMENTERS, disc_segmenter.__name__)
GRID = Grid(points_per_side=2, crop_layers=0, min_predicted_iou=0, min_stability=0, box_nms_iou=1, box_rounds=0)


def test_importing_the_loader_loads_neither_torch_nor_ray():
    code = "import sys, pipelines.models.loading, pipelines.models.words; print({'torch', 'ray'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


def test_calls_of_any_size_share_the_loaded_network(tmp_path):
    write_detector(tmp_path)

    one = load_detector(a_call(path=tmp_path), side_px=32)
    other = load_detector(a_call(4, path=tmp_path), side_px=64)

    assert isinstance(one, GroundingDino)
    assert isinstance(other, GroundingDino)
    assert one.network is other.network
    assert (one.side_px, other.side_px) == (32, 64)
    assert (one.call.call_size, other.call.call_size) == (1, 4)


def test_a_proposer_is_made_on_the_segmenter_s_network(tmp_path):
    call = a_call(path=write_segmenter(tmp_path))

    assert load_proposer(call, GRID).segmenter.sam is load_segmenter(call).sam


def test_half_a_model_names_its_role_and_place(tmp_path):
    folder = write_segmenter(tmp_path / "segmenter")
    (folder / "model.safetensors").unlink()

    with pytest.raises(InfrastructureError, match=f"cannot load the segmenter '{folder}'"):
        load_segmenter(a_call(path=folder))


@pytest.fixture
def discs(tmp_path):
    (tmp_path / "discs.txt").write_text("radius 3")
    return tmp_path / "discs.txt"


def test_a_new_adapter_is_one_module_and_its_name_in_the_tuple(discs, tmp_path):
    picture, box = np.zeros((20, 30, 3), np.uint8), np.array([10, 5, 20, 15], np.float32)

    ((answer,),) = load_segmenter(a_call(path=discs), WITH_DISCS)([picture], [[box]])
    sam = load_segmenter(a_call(path=write_segmenter(tmp_path / "sam")), WITH_DISCS)

    assert answer.masks.shape == (1, 20, 30)
    assert answer.masks[0, 10, 15]
    assert answer.masks.sum() == 29  # the pixels within 3 of the box's middle
    assert len(next(sam([picture], [[box]]))) == 1


def test_a_file_that_no_adapter_opens_is_told_what_each_of_them_opens(discs):
    with pytest.raises(InfrastructureError) as without:
        load_segmenter(a_call(path=discs))
    other = discs.with_name("other.txt")
    other.write_text("nothing")
    with pytest.raises(InfrastructureError) as with_discs:
        load_segmenter(a_call(path=other), WITH_DISCS)

    assert "is one file, and is no model that can be told" in str(without.value)
    assert str(without.value).endswith("or a folder that `packshot train` wrote")
    assert str(with_discs.value).endswith("or a folder that `packshot train` wrote; or a text file that says `radius`")


def test_a_segmenter_that_cannot_propose_says_so_to_find(discs):
    with pytest.raises(ConfigError, match="needs a box or points and cannot propose masks by itself, as `find` asks"):
        load_proposer(a_call(path=discs), GRID, WITH_DISCS)


def test_a_model_of_another_role_is_named_with_what_the_role_opens(tmp_path):
    encoder, segmenter = write_encoder(tmp_path / "encoder"), write_segmenter(tmp_path / "segmenter")
    painter = write_painter(tmp_path / "painter")

    for role, path, told in [
        ("detector", encoder, "is a model of type 'clip'; as detector, Packshot opens Grounding DINO: a transformers "),
        ("encoder", segmenter, "is the first Segment Anything: "),
        ("encoder", painter, "is a diffusers pipeline StableDiffusionInpaintPipeline; as encoder, Packshot opens CLIP"),
        ("detector", encoder, "mm-grounding-dino; or an official groundingdino_*.pth with its config .py beside it"),
    ]:
        with pytest.raises(ConfigError) as refused:
            inspect(role, Checkpoint(uri=str(path)))
        assert told in str(refused.value)


def test_an_encoder_embeds_no_texts_to_no_rows(tmp_path):
    assert load_encoder(a_call(path=write_encoder(tmp_path))).embed_texts([]).shape == (0, 8)


@pytest.mark.parametrize(
    ("role", "write"),
    [
        ("detector", write_detector),
        ("segmenter", write_segmenter),
        ("painter", write_painter),
        ("encoder", write_encoder),
    ],
)
def test_the_bytes_by_which_networks_are_kept_are_those_of_all_their_weights(role, write, tmp_path):
    folder = write(tmp_path)
    numbers = sum(weight.numel() for file in folder.rglob("*.safetensors") for weight in load_file(file).values())

    network = import_module(ADAPTERS[role][0]).load(folder, a_call(role=role))

    assert 4 * numbers <= parameter_bytes(network) < 4 * numbers * 1.2 + 1000
