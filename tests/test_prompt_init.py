"""What a prompt's rows start from."""

import json

import numpy as np
import pytest
import small
import tiny_vocabulary

from prompt_tuning_jax import artifacts
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.method import Chain
from prompt_tuning_jax.methods.lora import LoRA
from prompt_tuning_jax.methods.prompt import Prompt
from prompt_tuning_jax.prompt_init import ClassLabels, File, SampledVocabulary, Text, Uniform
from prompt_tuning_jax.vocabulary import Vocabulary

# Row i of the table is i + 0, i + 0.1, …: a row tells which token it is.
TABLE = (np.arange(96)[:, None] + np.arange(16) / 10).astype(np.float32)
THETA = {"token_embedder": {"embedding": TABLE}}
FACTS = {"backbone": {"path": "x", "fingerprint": "0", "config": {}}}


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    path = tiny_vocabulary.train(tmp_path_factory.mktemp("vocabulary"))
    return Vocabulary(path, extra_ids=6)


def rows(start, vocabulary, length=8, label_words=(), seed=0):
    """The first rows [P,D] of a prompt of `length`."""
    (prompt,) = prompts(Prompt(length, start), vocabulary, label_words, seed)
    return prompt


def prompts(method, vocabulary, label_words=(), seed=0):
    """The first N prompts [N,P,D] of a method."""
    read = method.read(vocabulary, label_words)
    return np.asarray(small.init(method, THETA, start=read, seed=seed)["shared"]["prompt"])


def tokens(prompt):
    """Which token each row is the embedding of."""
    ids = np.rint(prompt[:, 0]).astype(int)
    assert np.array_equal(prompt, TABLE[ids])
    return ids.tolist()


@pytest.mark.parametrize(("start", "low", "high"), [(Uniform(), -0.5, 0.5), (Uniform(0), 0, 0.5)])
def test_uniform(vocabulary, start, low, high):
    prompt = rows(start, vocabulary, 150)
    assert prompt.min() >= low and prompt.max() < high
    # 2400 draws: 5 standard deviations of their mean and of their share below a quarter
    assert prompt.mean() == pytest.approx((low + high) / 2, abs=0.03 * (high - low))
    assert np.mean(prompt < low + (high - low) / 4) == pytest.approx(0.25, abs=0.045)
    assert not np.array_equal(prompt, rows(start, vocabulary, 150, seed=1))
    assert np.array_equal(prompt, rows(start, vocabulary, 150))


def test_sampled_vocabulary_are_the_most_common_pieces_each_once(vocabulary):
    for seed in range(5):
        ids = tokens(rows(SampledVocabulary(12), vocabulary, 12, seed=seed))
        assert sorted(ids) == list(range(3, 15))  # pad, eos and unk are 0, 1, 2
    assert ids != sorted(ids)


def test_sampled_vocabulary_has_no_sentinels(vocabulary):
    assert vocabulary.vocab_size == vocabulary.pieces + 6
    ids = tokens(rows(SampledVocabulary(5000), vocabulary, vocabulary.pieces - 3))
    assert sorted(ids) == list(range(3, vocabulary.pieces))


def test_more_rows_than_tokens_are_drawn_again(vocabulary):
    ids = tokens(rows(SampledVocabulary(2), vocabulary, 40))
    assert set(ids) == {3, 4} and len(ids) == 40


def test_class_labels_are_the_means_of_their_pieces(vocabulary):
    words = ("True", "not_entailment")
    pieces = [vocabulary.encode(word) for word in words]
    assert len(pieces[0]) != len(pieces[1]) > 1
    prompt = rows(ClassLabels(fill=SampledVocabulary(20)), vocabulary, 9, words)
    for row, ids in zip(prompt, pieces, strict=False):
        np.testing.assert_allclose(row, TABLE[ids].astype(np.float64).mean(0), rtol=1e-6)
    rest = tokens(prompt[2:])
    assert len(set(rest)) == 7 and set(rest) <= set(range(3, 23))
    # labels of its own go before the task's
    (row, *_) = rows(ClassLabels(("False",)), vocabulary, 9, words)
    np.testing.assert_allclose(row, TABLE[vocabulary.encode("False")].mean(0), rtol=1e-6)


def test_more_class_labels_than_rows_and_none_at_all(vocabulary, caplog):
    (row,) = rows(ClassLabels(), vocabulary, 1, ("True", "False"))
    np.testing.assert_allclose(row, TABLE[vocabulary.encode("True")].mean(0), rtol=1e-6)
    assert len(tokens(rows(ClassLabels(), vocabulary, 4))) == 4
    assert "no label words" in caplog.text
    with pytest.raises(UserError, match="''"):
        rows(ClassLabels(("",)), vocabulary)


def test_text_in_its_order_cut_or_filled(vocabulary):
    text = "a cat sat on the mat"
    ids = vocabulary.encode(text)
    assert len(ids) > 5
    assert tokens(rows(Text(text), vocabulary, 5)) == ids[:5]
    longer = tokens(rows(Text(text, SampledVocabulary(10)), vocabulary, len(ids) + 3))
    assert longer[: len(ids)] == ids and set(longer[len(ids) :]) <= set(range(3, 13))
    with pytest.raises(UserError, match="no pieces"):
        rows(Text(""), vocabulary)


def test_several_prompts_start_apart(vocabulary):
    three = prompts(Prompt(4, SampledVocabulary(60), prompts=3), vocabulary)
    assert three.shape == (3, 4, 16)
    assert len({tuple(tokens(prompt)) for prompt in three}) == 3


# ---- files ---------------------------------------------------------------------------------


def test_a_published_prompt(shared, vocabulary):
    read = File(str(shared / "data/prompts/sst2.npy")).read(vocabulary, ())
    assert read["rows"].shape == (100, 768) and read["rows"].dtype == np.float32
    norms = np.linalg.norm(read["rows"], axis=1)
    assert (round(float(norms.min())), round(float(norms.max()))) == (344, 2177)


def test_an_array_s_rows(vocabulary, tmp_path):
    own = np.random.default_rng(0).standard_normal((4, 16))
    np.save(tmp_path / "prompt.npy", own)
    prompt = rows(File(str(tmp_path / "prompt.npy")), vocabulary, 4)
    assert np.array_equal(prompt, own.astype(np.float32))


@pytest.mark.parametrize("chained", [False, True])
def test_an_artifact_s_prompt(vocabulary, tmp_path, chained):
    own = np.random.default_rng(0).standard_normal((1, 4, 16)).astype(np.float32)
    method, tuned = Prompt(4), {"shared": {"prompt": own}, "encoder": {}, "decoder": {}}
    if chained:
        method = Chain((LoRA(), method))
        tuned = {part: {"0": {}, "1": tree} for part, tree in tuned.items()}
    artifacts.save_artifact(tmp_path / "artifact", method, tuned, FACTS)
    assert np.array_equal(rows(File(str(tmp_path / "artifact")), vocabulary, 4), own[0])


def test_file_errors_are_one_line_and_name_the_file(vocabulary, tmp_path):
    def error(name):
        with pytest.raises(UserError) as caught:
            rows(File(str(tmp_path / name)), vocabulary, 4)
        message = str(caught.value)
        assert "\n" not in message and str(tmp_path / name) in message
        return message

    assert "no such" in error("absent.npy")
    (tmp_path / "text.npy").write_text("1 2 3")
    assert "not a NumPy array" in error("text.npy")
    (tmp_path / "empty.npy").write_text("")
    assert "not a NumPy array" in error("empty.npy")
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}]), allow_pickle=True)
    assert "not a NumPy array" in error("pickle.npy")
    for name, array in (("cube.npy", np.zeros((1, 4, 16))), ("int.npy", np.zeros((4, 16), int))):
        np.save(tmp_path / name, array)
        assert "[P, D] floats" in error(name)
    np.save(tmp_path / "nan.npy", np.full((4, 16), np.nan))
    assert "NaN" in error("nan.npy")
    np.save(tmp_path / "wide.npy", np.zeros((4, 17)))
    assert "(4, 17)" in error("wide.npy") and "(4, 16)" in error("wide.npy")
    np.savez(tmp_path / "several.npz", a=np.zeros((4, 16)))
    assert "not a NumPy array" in error("several.npz")
    (tmp_path / "folder").mkdir()
    assert "no artifact" in error("folder")
    tuned = {"shared": {}, "encoder": {}, "decoder": {}}
    artifacts.save_artifact(tmp_path / "lora", LoRA(), tuned, FACTS)
    assert "no prompt" in error("lora")


def test_settings_errors():
    with pytest.raises(UserError, match="size"):
        SampledVocabulary(0)


def test_a_start_is_part_of_a_run_s_settings_but_not_of_its_artifact(tmp_path):
    method = Prompt(4, ClassLabels(("a", "b")))
    tuned = {"shared": {"prompt": np.zeros((1, 4, 16), np.float32)}, "encoder": {}, "decoder": {}}
    artifacts.save_artifact(tmp_path / "a", method, tuned, FACTS)
    assert "ClassLabels" not in json.dumps(artifacts.read_facts(tmp_path / "a"))
