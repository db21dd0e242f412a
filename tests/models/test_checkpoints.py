import hashlib

import pytest

from pipelines.errors import ConfigError, InfrastructureError
from pipelines.models.checkpoints import resolve, weights_hash
from pipelines.strict import Checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def at(path, sha256=None):
    return Checkpoint(uri=str(path), sha256=sha256)


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
        resolve(checkpoint)

    assert words in str(caught.value)


def test_pickle_needs_its_hash_and_is_checked_against_it(tmp_path):
    path = tmp_path / "sam_vit_b.pth"
    path.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()

    with pytest.raises(ConfigError, match=f"#sha256={digest} if you trust"):
        resolve(at(path))
    assert resolve(at(path, digest)) == path
    with pytest.raises(InfrastructureError, match=f"has sha256 {digest}, expected {'0' * 64}"):
        resolve(at(path, "0" * 64))


def test_folder_has_the_hash_of_its_sorted_list_of_files(tmp_path):
    for name, text in [("b.json", "{}"), ("a/model.safetensors", "x"), ("README.md", "card"), (".git/c.json", "{}")]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    digests = [hashlib.sha256(text).hexdigest() for text in (b"x", b"{}")]
    expected = hashlib.sha256(f"{digests[0]}  a/model.safetensors\n{digests[1]}  b.json\n".encode()).hexdigest()

    assert weights_hash(at(tmp_path)) == expected
    assert resolve(at(tmp_path, expected)) == tmp_path


def test_weights_hash_follows_the_files(tmp_path):
    (tmp_path / "model.safetensors").write_text("one")
    before = weights_hash(at(tmp_path))

    (tmp_path / "model.safetensors").write_text("other")

    assert weights_hash(at(tmp_path)) != before
