"""Windows of a corpus: T5's packing by hand, epochs that lose nothing, order by seed alone."""

import collections
import dataclasses
import hashlib
import itertools
import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import tiny_run
from hypothesis import given, settings
from hypothesis import strategies as st

from prompt_tuning_jax import data
from prompt_tuning_jax.batches import TrainingBatches
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks import corpora, objectives
from prompt_tuning_jax.tasks.text_files import Text
from prompt_tuning_jax.vocabulary import Vocabulary
from prompt_tuning_jax.window_stream import WindowStream
from prompt_tuning_jax.windows import Windows

HERE = pathlib.Path(__file__).parent
LENGTHS = {"inputs": 9, "targets": 9}  # windows of 8 tokens
LETTERS = "elmdicrythvngbwfpou"  # each of these is one piece
SOME = [["e e", "l l l l l l", "m"], ["d " * 21], ["i", "c", "r", "y y y"]]


@dataclasses.dataclass
class Listed:
    """A shard that knows how much of it was read."""

    name: str
    documents: list[str]
    seen: int = 0

    def texts(self) -> Iterator[str]:
        for text in self.documents:
            self.seen += 1
            yield text

    def state(self) -> str:
        return json.dumps(self.documents)


@dataclasses.dataclass(frozen=True)
class Lists(corpora.Stream):
    """A corpus of lists, as anybody may write a source of their own."""

    listed: tuple[Listed, ...]
    splits: tuple[str, ...] = ("train", "validation")

    def shards(self, split, data_dir=None):
        return self.listed

    def origin(self, split, data_dir=None):
        return "a list"

    def describe(self):
        return {}


@pytest.fixture(scope="module")
def vocabulary():
    return tiny_run.vocabulary()


def task_of(documents, objective=objectives.PrefixLM(), **numbers):
    listed = tuple(Listed(f"shard {n}", texts) for n, texts in enumerate(documents))
    return corpora.Corpus("own", Lists(listed, **numbers), objective)


def windows_of(vocabulary, documents, lengths=LENGTHS, **numbers):
    return Windows(task_of(documents, **numbers), "train", vocabulary, lengths)


def taken(stream, count, first=0):
    return [stream.window(number).tolist() for number in range(first, first + count)]


# ---- packing ---------------------------------------------------------------------------------


def test_windows_by_hand(vocabulary):
    windows = windows_of(vocabulary, SOME, together=3)
    ids = {text: vocabulary.encode(text) for texts in SOME for text in texts}
    # three documents are joined, whatever shard they are of, and cut every 8 tokens
    one = ids["e e"] + ids["l l l l l l"] + ids["m"]
    two = ids["d " * 21] + ids["i"] + ids["c"]
    three = ids["r"] + ids["y y y"]
    assert [len(tokens) for tokens in (one, two, three)] == [18, 45, 7]
    want = [one[:8], one[8:16], one[16:]]
    want += [two[start : start + 8] for start in range(0, 45, 8)] + [three]
    found = list(windows.read())
    assert [window.tolist() for group, _ in found for window in group] == want
    # each place is a beginning: what is read from it is what comes after it
    for skipped, (_, place) in enumerate(found, 1):
        rest = list(windows.read(place))
        assert [p for _, p in rest] == [p for _, p in found[skipped:]]
        for (again, _), (group, _) in zip(rest, found[skipped:], strict=True):
            assert list(map(list, again)) == list(map(list, group))


def test_what_has_no_tokens_is_no_document(vocabulary):
    blanks = [["\u200b"], ["\u200b", "e", "\u200b", "l"]]
    assert vocabulary.encode("\u200b") == []
    ((group, place),) = windows_of(vocabulary, blanks, together=2).read()
    assert [w.tolist() for w in group] == [vocabulary.encode("e") + vocabulary.encode("l")]
    assert (place.shard, place.document) == (1, 4)


def test_the_first_windows_stand_for_the_validation_split(vocabulary, tmp_path):
    task = task_of(SOME, together=3)
    windows = [
        w.tolist() for group, _ in Windows(task, "train", vocabulary, LENGTHS).read() for w in group
    ]
    for count, want in ((1, 1), (4, 4), (100, len(windows))):
        few = data.tokenise(task, "validation", vocabulary, LENGTHS, windows=count)
        assert [few.targets[row].tolist() for row in range(len(few))] == windows[:want]
        assert few.examples[0] == {"idx": 0, "inputs": "", "targets": "e e l l"}
    with pytest.raises(UserError, match="0 windows of own/validation"):
        data.tokenise(task, "validation", vocabulary, LENGTHS, windows=0)
    with pytest.raises(UserError, match="no split 'test', it has train, validation: give"):
        data.tokenise(task, "test", vocabulary, LENGTHS)


@pytest.mark.parametrize(
    "objective, lengths, size",
    [
        # T5's own numbers
        (objectives.SpanCorruption(), {"inputs": 512, "targets": 114}, 568),
        (objectives.SpanCorruption(), {"inputs": 1024, "targets": 229}, 1137),
        (objectives.PrefixLM(), {"inputs": 512, "targets": 512}, 511),
    ],
)
def test_a_window_is_what_the_objective_makes_a_full_row_of(
    vocabulary, objective, lengths, size, shared
):
    vocabulary = Vocabulary(str(shared / "data/vocab/cc_all.32000.sentencepiece.model"))
    task = task_of([["word " * 5 * size]], objective)
    assert Windows(task, "train", vocabulary, lengths).size == size
    batches = TrainingBatches([(data.training_set(task, vocabulary, lengths), 1.0)], 4, 0)
    batch = batches.batch(0)
    inputs = (batch["encoder_input_tokens"] != 0).sum(axis=1)
    targets = (batch["decoder_target_tokens"] != 0).sum(axis=1)
    if isinstance(objective, objectives.PrefixLM):
        assert (inputs + targets == 513).all()  # 511 tokens, and EOS after each part
    else:
        assert (inputs == lengths["inputs"]).all() and (targets == lengths["targets"]).all()


def test_targets_too_short_for_span_corruption(vocabulary):
    task = task_of(SOME, objectives.SpanCorruption())
    with pytest.raises(UserError, match="512 tokens of inputs makes 114 of targets"):
        Windows(task, "train", vocabulary, {"inputs": 512, "targets": 113})


@pytest.mark.parametrize("number", [{"noise_density": 1.0}, {"mean_noise_span_length": 0.5}])
def test_numbers_of_span_corruption(number):
    with pytest.raises(UserError, match=f"{next(iter(number))} = "):
        objectives.SpanCorruption(**number)


# ---- epochs ----------------------------------------------------------------------------------

corpus_of_letters = st.lists(
    st.lists(st.integers(1, 30), max_size=4).map(tuple), min_size=1, max_size=4
).filter(lambda shards: sum(map(len, shards)) > 0)


@settings(deadline=None, max_examples=60)
@given(corpus_of_letters, st.integers(1, 5), st.integers(1, 12), st.integers(0, 99))
def test_an_epoch_has_every_document_once(tmp_path_factory, sizes, together, shuffled, seed):
    vocabulary = tiny_run.vocabulary()
    letters = iter(LETTERS)
    shards = [[" ".join(next(letters) * n) for n in shard] for shard in sizes]
    want = collections.Counter(
        t for shard in shards for text in shard for t in vocabulary.encode(text)
    )
    windows = windows_of(vocabulary, shards, together=together, shuffled=shuffled)
    stream = WindowStream(windows, [seed], str(tmp_path_factory.mktemp("cache")))
    numbers = itertools.count()
    for _ in range(3):
        # an epoch ends where its last window does: none holds tokens of two epochs
        found: collections.Counter = collections.Counter()
        while found.total() < want.total():
            found.update(stream.window(next(numbers)).tolist())
        assert found == want


def test_epochs_and_seeds_differ_in_order(vocabulary, tmp_path):
    letters = [[f"{letter} " * 4 for letter in LETTERS]]
    windows = windows_of(vocabulary, letters, together=1)
    count = len(LETTERS)
    one = WindowStream(windows, [0], str(tmp_path))
    epochs = [taken(one, count, first) for first in (0, count, 2 * count)]
    other = taken(WindowStream(windows, [1], str(tmp_path)), count)
    assert all(sorted(epoch) == sorted(other) for epoch in epochs)
    assert len({json.dumps(order) for order in (*epochs, other)}) == 4


def test_shards_change_places(vocabulary, tmp_path):
    shards = [[f"{letter} " * 4] for letter in LETTERS]
    windows = windows_of(vocabulary, shards, together=1, shuffled=1)  # no order inside a block
    stream = WindowStream(windows, [0], str(tmp_path))
    one, two = taken(stream, len(LETTERS)), taken(stream, len(LETTERS), len(LETTERS))
    assert sorted(one) == sorted(two) and one != two and one != sorted(one)


# ---- a function of the seed and the number ---------------------------------------------------

MANY = [[f"{letter} " * size for size in range(1, 30)] for letter in LETTERS[:8]]


def many(vocabulary):
    return windows_of(vocabulary, MANY, together=4, shuffled=16)


def files(folder):
    return sorted((folder / "corpora").glob("[!.]*"))


def test_any_order_of_asking(vocabulary, tmp_path):
    want = taken(WindowStream(many(vocabulary), [3, 4], str(tmp_path / "a")), 600)
    stream = WindowStream(many(vocabulary), [3, 4], str(tmp_path / "b"))
    for number in np.random.default_rng(0).permutation(600)[:100]:
        assert stream.window(int(number)).tolist() == want[number]


def test_going_on_reads_no_more_than_it_needs(vocabulary, tmp_path):
    want = taken(WindowStream(many(vocabulary), [3], str(tmp_path)), 400)
    windows = many(vocabulary)
    again = WindowStream(windows, [3], str(tmp_path))
    assert taken(again, 4, 300) == want[300:304]
    # a block of 16 windows of 8 tokens, of documents of 30 on average
    assert sum(shard.seen for shard in windows.shards) < 40
    (file,) = files(tmp_path)
    file.unlink()
    cold = many(vocabulary)
    assert taken(WindowStream(cold, [3], str(tmp_path)), 4, 300) == want[300:304]
    assert sum(shard.seen for shard in cold.shards) > 80


def test_a_damaged_file_is_no_file(vocabulary, tmp_path):
    want = taken(WindowStream(many(vocabulary), [3], str(tmp_path)), 200)
    (file,) = files(tmp_path)
    sound = json.loads(file.read_text())
    for spoilt in ("", "{", "[]", "[[0]]", json.dumps(sound[1:]), json.dumps([*sound, sound[0]])):
        file.write_text(spoilt)
        again = WindowStream(many(vocabulary), [3], str(tmp_path))
        assert taken(again, 4, 150) == want[150:154]


def test_another_corpus_has_another_file(vocabulary, tmp_path):
    want = taken(WindowStream(many(vocabulary), [3], str(tmp_path)), 200)
    others = [
        (many(vocabulary), [4]),
        (windows_of(vocabulary, MANY[1:], together=4, shuffled=16), [3]),
        (windows_of(vocabulary, MANY, together=5, shuffled=16), [3]),
        (windows_of(vocabulary, MANY, together=4, shuffled=64), [3]),
        (windows_of(vocabulary, MANY, {"inputs": 10, "targets": 9}, together=4, shuffled=16), [3]),
    ]
    for number, (windows, seed) in enumerate(others, 2):
        assert taken(WindowStream(windows, seed, str(tmp_path)), 200) != want
        assert len(files(tmp_path)) == number


def test_a_folder_that_cannot_be_written_costs_time_alone(vocabulary, tmp_path, caplog):
    want = taken(WindowStream(many(vocabulary), [3], str(tmp_path)), 100)
    (tmp_path / "file").write_text("")
    blocked = WindowStream(many(vocabulary), [3], str(tmp_path / "file"))
    assert taken(blocked, 100) == want
    assert "was not kept" in caplog.text


OTHER_PROCESS = """
import hashlib, json, sys
import test_windows, tiny_run
from prompt_tuning_jax.window_stream import WindowStream

stream = WindowStream(test_windows.many(tiny_run.vocabulary()), [3], sys.argv[1])
print(hashlib.sha256(json.dumps(test_windows.taken(stream, 200, 100)).encode()).hexdigest())
"""


def test_another_process_has_the_same(vocabulary, tmp_path):
    want = taken(WindowStream(many(vocabulary), [3], str(tmp_path / "a")), 200, 100)
    digest = hashlib.sha256(json.dumps(want).encode()).hexdigest()
    for folder in ("a", "b"):  # with the file, and without
        argv = [sys.executable, "-c", OTHER_PROCESS, str(tmp_path / folder)]
        done = subprocess.run(argv, cwd=HERE, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == digest


def test_little_of_a_corpus_is_read_at_a_time(vocabulary, tmp_path):
    endless = Listed("endless", ["e " * 20] * 100_000)
    task = dataclasses.replace(task_of([]), source=Lists((endless,), together=4, shuffled=32))
    stream = WindowStream(Windows(task, "train", vocabulary, LENGTHS), [0], str(tmp_path))
    stream.window(0)
    # a document has 40 tokens, so five windows: 8 documents a block
    assert endless.seen <= 8 + 4
    for number in range(1, 200):
        stream.window(number)
        assert endless.seen * 5 - number <= 2 * 40  # this block and the next


def test_a_corpus_of_nothing(vocabulary, tmp_path):
    for shards in ([[]], [["\u200b"], []]):
        stream = WindowStream(windows_of(vocabulary, shards), [0], str(tmp_path))
        with pytest.raises(UserError, match="corpus own, split 'train': no text in a list"):
            stream.window(0)
        with pytest.raises(UserError, match="no text in a list"):
            data.tokenise(task_of(shards), "validation", vocabulary, LENGTHS)


# ---- batches ---------------------------------------------------------------------------------


def reviews(tmp_path):
    (tmp_path / "reviews.jsonl").write_text('{"text": "a fine film", "label": "good"}\n' * 3)
    return Text("reviews", train=str(tmp_path / "reviews.jsonl"))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPT_TUNING_CACHE", str(tmp_path / "cache"))


def test_a_mixture_of_corpora_and_a_task(vocabulary, tmp_path, cache):
    one = task_of([["e " * 40]], objectives.PrefixLM())
    two = dataclasses.replace(task_of([["l " * 40]]), name="two")
    mixture = [
        (data.training_set(task, vocabulary, LENGTHS), rate)
        for task, rate in ((one, 1.0), (two, 2.0), (reviews(tmp_path), 1.0))
    ]
    batches = TrainingBatches(mixture, 64, seed=5)
    again = TrainingBatches(mixture, 64, seed=5)
    found = collections.Counter()
    e, el = (vocabulary.encode(letter)[-1] for letter in "el")
    for step in range(32):
        batch = batches.batch(step)
        tokens = np.concatenate([batch["encoder_input_tokens"], batch["decoder_target_tokens"]], 1)
        found += collections.Counter(
            "one" if e in row and el not in row else "two" if el in row and e not in row else "task"
            for row in tokens
        )
    assert found.total() == 2048
    assert {name: round(count / 512, 1) for name, count in found.items()} == {
        "one": 1.0, "two": 2.0, "task": 1.0
    }  # fmt: skip
    late = again.batch(31)
    assert all((late[name] == batch[name]).all() for name in batch)


@dataclasses.dataclass(frozen=True)
class Counted(objectives.PrefixLM):
    """Counts what it draws."""

    drawn: list = dataclasses.field(default_factory=list)

    def __call__(self, *arguments):
        self.drawn.append(1)
        return super().__call__(*arguments)


def test_hosts_draw_the_objectives_of_their_own_rows(vocabulary, tmp_path, cache):
    def batches(objective):
        corpus = task_of([["e " * 40], ["l o " * 30]], objective)
        mixture = [(task, 1.0) for task in (corpus, reviews(tmp_path))]
        made = [(data.training_set(task, vocabulary, LENGTHS), rate) for task, rate in mixture]
        return TrainingBatches(made, 16, seed=5)

    alone, counted = batches(objectives.PrefixLM()), Counted()
    together = batches(counted)
    for step in (0, 3, 40):
        whole = alone.batch(step)
        drawn = {}
        for hosts in (1, 2, 4):
            counted.drawn.clear()
            parts = [together.batch(step, host, hosts) for host in range(hosts)]
            drawn[hosts] = len(counted.drawn)
            for name, rows in whole.items():
                np.testing.assert_array_equal(np.concatenate([p[name] for p in parts]), rows)
        assert 0 < drawn[1] == drawn[2] == drawn[4] < 16


def test_what_a_corpus_cannot_tell(vocabulary, tmp_path, cache):
    tokens = data.training_set(task_of(SOME), vocabulary, LENGTHS)
    with pytest.raises(UserError, match="task own: the size of a corpus is not known"):
        TrainingBatches([(tokens, "proportional")], 8, 0)
    with pytest.raises(UserError, match="k_shot 4: task own has no labels"):
        TrainingBatches([(tokens, 1.0)], 8, 0, k_shot=4)
    with pytest.raises(UserError, match="PACK: task .*'s windows fill their rows"):
        TrainingBatches([(tokens, 1.0)], 8, 0, pack=True)
    with pytest.raises(UserError, match="2 tokens or more"):
        data.training_set(task_of(SOME), vocabulary, {"inputs": 1, "targets": 8})


# ---- real data -------------------------------------------------------------------------------


def test_an_epoch_of_real_documents(shared, tmp_path):
    vocabulary = Vocabulary(str(shared / "data/vocab/cc_all.32000.sentencepiece.model"))
    file = shared / "data/corpus/c4/c4_train.jsonl"
    task = corpora.Corpus("c4", corpora.Texts(str(file)), objectives.SpanCorruption())
    windows = Windows(task, "train", vocabulary, {"inputs": 512, "targets": 114})
    stream = WindowStream(windows, [0], str(tmp_path))
    texts = [json.loads(line)["text"] for line in file.read_text().splitlines()]
    want = np.concatenate([vocabulary.encode(text) for text in texts])
    # 1000 documents are 7 times 128 and 104: so many windows may be shorter
    read = [window for group, _ in windows.read() for window in group]
    assert (np.concatenate(read) == want).all()
    assert sum(len(window) < 568 for window in read) <= 8
    epoch = [stream.window(number) for number in range(len(read))]
    assert sorted(map(bytes, epoch)) == sorted(map(bytes, read))
