from pipelines.models.words import unknown_words
from pipelines.strict import Checkpoint
from tests.models.tiny import write_encoder, write_painter, write_segmenter


def at(path):
    return Checkpoint(uri=str(path))


def test_words_that_a_word_level_tokenizer_does_not_know_are_named_once(tmp_path):
    painter, encoder = write_painter(tmp_path / "painter"), write_encoder(tmp_path / "encoder")
    texts = ["A Zebra shirt", "a zebra, blue bag " + "a " * 20 + "late"]

    assert unknown_words(at(painter), texts) == ["Zebra", "zebra", ",", "late"]
    assert unknown_words(at(encoder), ["a red shirt"]) == []


def test_checkpoint_without_a_tokenizer_has_no_unknown_words(tmp_path):
    assert unknown_words(at(write_segmenter(tmp_path)), ["zebra"]) == []
