"""WSC as T5 puts it: say whom the *marked* pronoun means; the span of the record is the target.

As `wsc_simple` of `t5.data.preprocessors` and `t5.data.postprocessors`, on the records of TFDS's
`super_glue/wsc.fixed`. The benchmark's label says whether the span is what the pronoun means: it is
learnt from the records where it is, and a prediction counts as "yes" where it names the span.
"""

import dataclasses
import string
from collections.abc import Iterator

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks.lines import number_of, text_of
from prompt_tuning_jax.tasks.nested import inside
from prompt_tuning_jax.tasks.task import Example, Source

_DETERMINERS = frozenset(
    "a an few her his each every many much my our some that the their these this those which whose "
    "your".split()
)
# Names of several people with a text between them, which TFDS leaves as they are.
_SPLIT_SPANS = ("Kamenev and Zinoviev", "Kamenev, Zinoviev, and Stalin")


@dataclasses.dataclass(frozen=True)
class TrueReferents:
    """WSC's records; of the training split those alone whose span is the referent (259 of 554)."""

    source: Source

    @property
    def splits(self) -> tuple[str, ...]:
        return self.source.splits

    def records(self, split: str, data_dir: str | None = None) -> Iterator[dict]:
        for record in self.source.records(split, data_dir):
            if split != "train" or _label(record) != 0:
                yield record

    def origin(self, split: str, data_dir: str | None = None) -> str:
        return self.source.origin(split, data_dir)

    def describe(self) -> dict:
        return self.source.describe()


def repaired_records(row: dict) -> list[dict]:
    """A line of the official file as `wsc.fixed` has it: spans as the text spells them.

    Raises:
      UserError: a span is no part of the text, not even repaired.
    """
    target = inside(row, "target")
    record = {
        "text": text_of(row, "text", "wsc"),
        "label": row.get("label"),
        "_at": row["_at"],
        **({"idx": row["idx"]} if "idx" in row else {}),
    }
    for span in ("span1", "span2"):
        record[f"{span}_text"] = text_of(target, f"{span}_text", "wsc")
        record[f"{span}_index"] = number_of(target, f"{span}_index", "wsc")
    for span in ("span1", "span2"):
        record[f"{span}_text"] = _repaired(record, span)
    return [record]


def examples(record: dict) -> list[Example]:
    """The text with its pronoun marked; the target is the span, "" where the label is unknown.

    "label" is 1 where the pronoun means the span ("referent"), 0 where not, None if unknown.
    """
    label = _label(record)
    referent = text_of(record, "span1_text", "wsc")
    example: Example = {
        "inputs": f"wsc: {_marked(record)}",
        "targets": "" if label is None else referent,
        "referent": referent,
        "label": label,
    }
    if "idx" in record:
        example["idx"] = number_of(record, "idx", "wsc")
    return [example]


def label(example: Example) -> int:
    """What predictions are compared with."""
    return example["label"]


def names_referent(text: str, example: Example) -> int:
    """1 where a prediction names the span, 0 where it names something else, -1 where nothing.

    Case and determiners aside, one must have all words of the other: "bunny" names "the fuzzy
    bunny". "Bob" does not name "Bob's hat": both or neither have an apostrophe.
    """
    said, referent = _bare(text), _bare(example["referent"])
    if not said:
        return -1
    if ("'" in said) != ("'" in referent):
        return 0
    words, right = set(said.split(" ")), set(referent.split(" "))
    return int(words <= right or right <= words)


def _bare(text: str) -> str:
    words = text.strip().lower().split(" ")
    return " ".join(word for word in words if word not in _DETERMINERS)


def _label(record: dict) -> int | None:
    value = record.get("label")
    if value is None or value == -1:
        return None
    if value not in (0, 1):
        raise UserError(f"{record['_at']}: label {value!r} is not true or false")
    return int(value)


def _repaired(record: dict, span: str) -> str:
    text, whole = record[f"{span}_text"], record["text"]
    if text in whole or text in _SPLIT_SPANS:
        return text
    words, index = whole.split(), record[f"{span}_index"]
    # the first letter as the text has it there, no stop at the end, no line break
    first = words[index][0] if 0 <= index < len(words) else ""
    start = text[:1].lower() if first.islower() else text[:1].upper()
    fixed = (start + text[1:]).rstrip(".").replace("\n", " ")
    if fixed not in whole:
        raise UserError(f"{record['_at']}: {span}_text '{text}' is not in the text")
    return fixed


def _marked(record: dict) -> str:
    """The text with stars around the pronoun, the word of number span2_index from 0.

    T5 mends two sentences of the corpus by hand: in one the number is that of the word before, in
    the other the pronoun has punctuation attached. Here both are mended in any sentence.
    """
    text = text_of(record, "text", "wsc")
    pronoun = text_of(record, "span2_text", "wsc")
    index = number_of(record, "span2_index", "wsc")
    words = text.split(" ")
    if words[index : index + 1] != [pronoun] and words[index + 1 : index + 2] == [pronoun]:
        index += 1
    if not 0 < index < len(words):
        raise UserError(
            f"{record['_at']}: span2_index {index} is no word of the text after its first"
        )
    rest = words[index].removeprefix(pronoun)
    if words[index] == pronoun:
        after = words[index + 1 :]
    elif rest != words[index] and not rest.strip(string.punctuation):
        after = [rest, *words[index + 1 :]]
        while not after[-1]:
            after.pop()
    else:
        raise UserError(f"{record['_at']}: word {index} of the text is not '{pronoun}'")
    return f"{' '.join(words[:index])} *{pronoun}* {' '.join(after)}"
