import hashlib
import subprocess
import sys
from collections import OrderedDict

import pytest

from pipelines.errors import ConfigError, InfrastructureError
from pipelines.models import loading
from pipelines.models.grounding_dino import GroundingDino
from pipelines.models.words import unknown_words
from pipelines.recipe.settings import DetectSettings, PaintSettings, ScoreSettings, SegmentSettings
from pipelines.strict import Checkpoint
from tests.models.tiny import write_detector, write_encoder, write_painter, write_segmenter

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def at(path, sha256=None):
    return Checkpoint(uri=str(path), sha256=sha256)


def test_importing_the_loader_loads_neither_torch_nor_ray():
    code = "import sys, pipelines.models.loading, pipelines.models.words; print({'torch', 'ray'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("checkpoint", "error", "words"),
    [
        (Checkpoint(uri="embedded:nose"), InfrastructureError, "run `packshot train embedded nose`"),
        (Checkpoint(uri="embedded:../stages"), InfrastructureError, "is not in"),
        (Checkpoint(uri="s3://bucket/sam.pth"), ConfigError, "download it and give its path, with `#sha256=`"),
        (Checkpoint(uri="https://host/sam.pth"), ConfigError, "comes with a later version"),
        (Checkpoint(uri="org/model"), ConfigError, "give org/model@ and the 40-digit hash"),
        (
            Checkpoint(uri="org/model", revision=COMMIT),
            InfrastructureError,
            f"run `hf download org/model --revision {COMMIT} --include '*.json' --include '*.txt' --include",
        ),
        (Checkpoint(uri="/nowhere/model"), InfrastructureError, "there is no checkpoint at '/nowhere/model'"),
    ],
)
def test_checkpoint_that_is_not_there_says_what_to_do(checkpoint, error, words, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    with pytest.raises(error) as caught:
        loading.resolve(checkpoint)

    assert words in str(caught.value)


def test_pickle_needs_its_hash_and_is_checked_against_it(tmp_path):
    path = tmp_path / "sam_vit_b.pth"
    path.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()

    with pytest.raises(ConfigError, match=f"#sha256={digest} if you trust"):
        loading.resolve(at(path))
    assert loading.resolve(at(path, digest)) == path
    with pytest.raises(InfrastructureError, match=f"has sha256 {digest}, expected {'0' * 64}"):
        loading.resolve(at(path, "0" * 64))


def test_folder_has_the_hash_of_its_sorted_list_of_files(tmp_path):
    for name, text in [("b.json", "{}"), ("a/model.safetensors", "x"), ("README.md", "card"), (".git/c.json", "{}")]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    digests = [hashlib.sha256(text).hexdigest() for text in (b"x", b"{}")]
    expected = hashlib.sha256(f"{digests[0]}  a/model.safetensors\n{digests[1]}  b.json\n".encode()).hexdigest()

    assert loading.weights_hash(at(tmp_path)) == expected
    assert loading.resolve(at(tmp_path, expected)) == tmp_path


def test_weights_hash_follows_the_files(tmp_path):
    (tmp_path / "model.safetensors").write_text("one")
    before = loading.weights_hash(at(tmp_path))

    (tmp_path / "model.safetensors").write_text("other")

    assert loading.weights_hash(at(tmp_path)) != before


def test_stage_for_other_settings_shares_the_loaded_network(tmp_path):
    write_detector(tmp_path)

    one = loading.load_detector(DetectSettings(checkpoint=at(tmp_path), min_score=0.1))
    other = loading.load_detector(DetectSettings(checkpoint=at(tmp_path), min_score=0.9))

    assert isinstance(one, GroundingDino)
    assert isinstance(other, GroundingDino)
    assert one.network is other.network
    assert (one.min_score, other.min_score) == (0.1, 0.9)


def test_process_keeps_a_bounded_number_of_networks_and_hashes(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "_networks", OrderedDict())
    monkeypatch.setattr(loading, "_hashes", OrderedDict())
    monkeypatch.setattr(loading, "KEPT_HASHES", 2)
    folders = [write_segmenter(tmp_path / str(number)) for number in range(loading.KEPT_NETWORKS + 2)]

    networks = [load_sam(folder) for folder in folders]
    for folder in folders:
        loading.weights_hash(at(folder))

    assert len(loading._networks) == loading.KEPT_NETWORKS
    assert len(loading._hashes) == 2
    assert load_sam(folders[-1]) is networks[-1]
    assert load_sam(folders[0]) is not networks[0]


def load_sam(folder):
    return loading.load_segmenter(SegmentSettings(checkpoint=at(folder))).sam


def test_each_role_loads_its_folder(tmp_path):
    segmenter = write_segmenter(tmp_path / "segmenter")
    painter = write_painter(tmp_path / "painter")
    encoder = write_encoder(tmp_path / "encoder")

    assert callable(loading.load_segmenter(SegmentSettings(checkpoint=at(segmenter))))
    assert callable(loading.load_painter(PaintSettings(checkpoint=at(painter))))
    assert loading.load_encoder(ScoreSettings(checkpoint=at(encoder))).embed_texts([]).shape == (0, 8)


def test_half_a_model_names_its_role_and_place(tmp_path):
    folder = write_segmenter(tmp_path / "segmenter")
    (folder / "model.safetensors").unlink()

    with pytest.raises(InfrastructureError, match=f"cannot load the segmenter '{folder}'"):
        loading.load_segmenter(SegmentSettings(checkpoint=at(folder)))


def test_words_that_a_word_level_tokenizer_does_not_know_are_named_once(tmp_path):
    painter, encoder = write_painter(tmp_path / "painter"), write_encoder(tmp_path / "encoder")
    texts = ["A Zebra shirt", "a zebra, blue bag " + "a " * 20 + "late"]

    assert unknown_words(at(painter), texts) == ["Zebra", "zebra", ",", "late"]
    assert unknown_words(at(encoder), ["a red shirt"]) == []


def test_checkpoint_without_a_tokenizer_has_no_unknown_words(tmp_path):
    assert unknown_words(at(write_segmenter(tmp_path)), ["zebra"]) == []
