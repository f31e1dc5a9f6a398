"""Made-up benchmarks in the layout of the official files: every task, and what is odd about it.

`write` makes the folder; records of what is odd stand where a reader would trip: HTML, bullet
points, spans spelt otherwise, quotes that are text, rows cut short, scores between two words.
"""

import gzip
import json
import pathlib

_RTE = [
    ("A cat sat on the mat.", "The cat sat.", "entailment"),
    ('She said "no" twice,  loudly.', "She agreed.", "not_entailment"),
    ("It rained in Ghent & Liège.", "Ghent stayed dry.", "not_entailment"),
]
_CB = [
    ("A: I guess so. B: Do you think it rains?", "it rains", "neutral"),
    ("He knew that the shop was open.", "the shop was open", "entailment"),
    ("Nobody believed that the moon was square.", "the moon was square", "contradiction"),
]
_BOOLQ = [
    ("Ghent -- Ghent is a city in Belgium.", "is ghent in belgium", True),
    ("A spoon (from Old English) is no fork.", "is a spoon a fork", False),
]
_COPA = [
    ("The glass fell.", "It broke.", "It sang.", "effect", 0),
    ("The street was wet.", "The sun shone.", "It had rained.", "cause", 1),
]
_WIC = [
    ("bank", "She sat on the bank.", "The bank was closed.", False),
    ("run", "They run daily.", "He ran  home.", True),
]
# text, span1_text, span1_index, span2_text, span2_index, label
_WSC = [
    ("Ann asked Bea whether she could wait outside.", "Bea", 2, "she", 4, True),
    ("Ann asked Bea whether she could wait outside.", "Ann", 0, "she", 4, False),
    # a span with another case and a stop at its end
    ("The old dog barked at Tom until he left .", "the old dog.", 0, "he", 7, True),
    # a line break in a span
    ("We put the big box on the shelf since it was tidy .", "the big\nbox", 2, "It", 9, False),
    # the pronoun at the end, and two spaces
    ("The fuzzy bunny ran  and Bob followed it", "The fuzzy bunny", 0, "it", 8, True),
    # the two that T5 mends by hand (from the Winograd schemas)
    (
        "The boy continued to whip the pony , and eventually the pony threw him over. John laughed "
        'out quite loud. "Good for him," he said. ',
        "John",
        15,
        "him",
        22,
        False,
    ),
    (
        "When they had eventually calmed down a bit , and had gotten home, Mr. Farley put the "
        "magic pebble in an iron safe . Some day they might want to use it , but really for now, "
        "what more could they wish for?",
        "magic pebble",
        17,
        "it",
        30,
        True,
    ),
]


def _numbered(names: str, rows: list[tuple], first: int = 0) -> list[dict]:
    named = [dict(zip(names.split(), row, strict=True)) for row in rows]
    return [row | {"idx": idx} for idx, row in enumerate(named, start=first)]


def _wsc() -> list[dict]:
    names = "text span1_text span1_index span2_text span2_index label"
    rows = _numbered(names, _WSC)
    outside = ("text", "label", "idx")
    return [
        {name: row[name] for name in outside}
        | {"target": {name: value for name, value in row.items() if name not in outside}}
        for row in rows
    ]


def _multirc() -> list[dict]:
    def answers(first: int, *texts: str) -> list[dict]:
        return [
            {"text": text, "idx": first + place, "label": int(place % 2 == 0)}
            for place, text in enumerate(texts)
        ]

    town = (
        "<b>Sent 1: </b>Ann lives in Ghent.<br><b>Sent 2: </b>Ghent is <b>in</b> Belgium.<br>"
        "1 < 2 and <i>so</i> on."
    )
    meal = "<b>Sent 1: </b>Bob ate two eggs.<br>"
    return [
        {
            "idx": 0,
            "version": 1.1,
            "passage": {
                "text": town,
                "questions": [
                    {
                        "question": "Where does <b>Ann</b> live?",
                        "idx": 0,
                        "answers": answers(0, "Ghent", "Paris", "Belgium"),
                    },
                    {"question": "Who lives?", "idx": 1, "answers": answers(3, "Ann<br>", "Bob")},
                ],
            },
        },
        {
            "idx": 1,
            "version": 1.1,
            "passage": {
                "text": meal,
                "questions": [
                    {"question": "What did Bob eat?", "idx": 2, "answers": answers(5, "Eggs")}
                ],
            },
        },
    ]


def _record() -> list[dict]:
    news = (
        "The fair in Ghent opened (Reuters) on Monday, Ann Smith said.\n@highlight\nGhent opens "
        "fair\n@highlight\nAnn Smith is 'glad'\n@highlight\nWho knows?\n@highlight\nMore to come"
    )

    def spans(*texts: str) -> list[dict]:
        return [
            {"start": news.index(text), "end": news.index(text) + len(text) - 1} for text in texts
        ]

    first, second = news.index("Ghent"), news.index("Ghent opens")
    entities = [
        *spans("Reuters", "Ann Smith"),
        {"start": second, "end": second + 4},
        {"start": first, "end": first + 4},
    ]

    def answers(*texts: str) -> list[dict]:
        return [span | {"text": text} for span, text in zip(spans(*texts), texts, strict=True)]

    return [
        {
            "source": "Daily mail",
            "passage": {"text": news, "entities": entities},
            "idx": 4,
            "qas": [
                {
                    "query": "It was in @placeholder that they opened",
                    "answers": answers("Reuters", "Ghent", "Ghent"),
                    "idx": 7,
                },
                {"query": '"@placeholder," he said', "answers": answers("Ann Smith"), "idx": 8},
            ],
        },
        {
            "source": "CNN",
            "passage": {"text": "Bob won.", "entities": [{"start": 0, "end": 2}]},
            "idx": 5,
            "qas": [
                {"query": "@placeholder lost", "answers": [{"text": "Bob"}, {"text": "A. Bob"}]}
                | {"idx": 9}
            ],
        },
    ]


def _without_answers(row: object) -> object:
    """A test split's row: neither labels nor answers to choose."""
    if isinstance(row, list):
        return [_without_answers(inner) for inner in row]
    if not isinstance(row, dict):
        return row
    kept = {name: inner for name, inner in row.items() if name != "label"}
    if "query" in kept:
        del kept["answers"]
    return {name: _without_answers(inner) for name, inner in kept.items()}


SUPER_GLUE = {
    "BoolQ": _numbered("passage question label", _BOOLQ),
    "CB": _numbered("premise hypothesis label", _CB),
    "COPA": _numbered("premise choice1 choice2 question label", _COPA),
    "MultiRC": _multirc(),
    "ReCoRD": _record(),
    "RTE": _numbered("premise hypothesis label", _RTE, first=10),
    "WiC": [
        row | {"start1": 0, "end1": 3, "start2": 0, "end2": 3, "version": 1.1}
        for row in _numbered("word sentence1 sentence2 label", _WIC)
    ],
    "WSC": _wsc(),
}
DIAGNOSTICS = {
    "AX-b": [
        row | {"logic": "Negation", "idx": str(row["idx"])}
        for row in _numbered("sentence1 sentence2 label", _RTE)
    ],
    "AX-g": [
        row | {"pair_id": f"55{row['idx'] // 2}"}
        for row in _numbered("premise hypothesis label", [*_RTE[:2], *_RTE[1:]])
    ],
}
_PAIRS = [("A b c.", 'He said "x".'), ("One\u2028two", "Crème  brûlée"), ("Up", "Down")]


def _tsv(columns: str, *rows: tuple) -> str:
    return "".join("\t".join(map(str, row)) + "\n" for row in (columns.split(), *rows))


def _labelled(columns: str, labels: list, pairs: list[tuple] = _PAIRS) -> str:
    rows = zip(pairs, labels, strict=True)
    return _tsv(columns, *((i, *pair, label) for i, (pair, label) in enumerate(rows)))


def _unlabelled(columns: str, pairs: list[tuple] = _PAIRS) -> str:
    return _tsv(columns, *((i, *pair) for i, pair in enumerate(pairs)))


def _mnli(labels: list) -> str:
    return _labelled("index sentence1 sentence2 gold_label", labels)


_MRPC_COLUMNS = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
_SIMILAR = [(f"s{i}", f"t{i}") for i in range(9)]
_SCORES = [0, 5.0, 2.5, "3.100", 1.867, 4.75, 0.1, 0.3, 3.7]
_BINARY = {"train": [0, 1, 1], "dev": [1, 0, 1]}
_PAIR_COLUMNS = "index sentence1 sentence2"
GLUE = {
    # no header, and a column of marks
    "CoLA/train.tsv": 'gj04\t1\t\tThe sailors rode the breeze.\ngj04\t0\t*\tHim "ate\n',
    "CoLA/dev.tsv": "gj04\t1\t\tAnn slept.\n",
    "CoLA/test.tsv": _tsv("index sentence", (0, "Bob  slept.")),
    "SST-2/train.tsv": _tsv("sentence label", ("a fine film ", 1), ("dull", 0)),
    "SST-2/dev.tsv": _tsv("sentence label", ('"so" so', 0)),
    "SST-2/test.tsv": _tsv("index sentence", (0, "who knows")),
    "MRPC/msr_paraphrase_train.txt": "\ufeff"
    + _MRPC_COLUMNS
    + '1\t1\t2\tHe said "yes.\tHe said yes.\n0\t3\t4\tUp it went.\tDown.\n1\t5\t6\tA\tB\n',
    # the ids of the pairs that GLUE, and so TFDS, takes out of the training file for development
    "MRPC/mrpc_dev_ids.tsv": "5\t6\n",
    "MRPC/msr_paraphrase_test.txt": "\ufeff" + _MRPC_COLUMNS + "1\t7\t8\tC c\tC  c\n",
    "STS-B/train.tsv": _labelled("index sentence1 sentence2 score", _SCORES, _SIMILAR),
    "STS-B/dev.tsv": _labelled("index sentence1 sentence2 score", _SCORES[:3]),
    "STS-B/test.tsv": _unlabelled(_PAIR_COLUMNS),
    # a question with a line break, which makes two rows too short
    "QQP/train.tsv": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    "0\t1\t2\tWhy?\tWhy not?\t0\n1\t3\t4\tHow do\n I?\tHow?\t1\n2\t5\t6\tWho?\tWho is?\t1\n",
    "QQP/dev.tsv": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n0\t1\t2\tA?\tB?\t1\n",
    "QQP/test.tsv": _tsv("id question1 question2", (0, "A?", "B?")),
    "MNLI/train.tsv": _mnli(["neutral", "entailment", "contradiction"]),
    "MNLI/dev_matched.tsv": _mnli(["contradiction", "neutral", "entailment"]),
    "MNLI/dev_mismatched.tsv": _mnli(["neutral", "neutral", "entailment"]),
    "MNLI/test_matched.tsv": _unlabelled(_PAIR_COLUMNS),
    "MNLI/test_mismatched.tsv": _unlabelled(_PAIR_COLUMNS, _PAIRS[::-1]),
    "QNLI/train.tsv": _labelled(
        "index question sentence label", ["entailment", "not_entailment", "entailment"]
    ),
    "QNLI/dev.tsv": _labelled("index question sentence label", ["not_entailment"] * 3),
    "QNLI/test.tsv": _unlabelled("index question sentence"),
    "RTE/train.tsv": _labelled(
        "index sentence1 sentence2 label", ["not_entailment", "entailment", "entailment"]
    ),
    "RTE/dev.tsv": _labelled("index sentence1 sentence2 label", ["entailment"] * 3),
    "RTE/test.tsv": _unlabelled(_PAIR_COLUMNS),
    "WNLI/train.tsv": _labelled("index sentence1 sentence2 label", _BINARY["train"]),
    "WNLI/dev.tsv": _labelled("index sentence1 sentence2 label", _BINARY["dev"]),
    "WNLI/test.tsv": _unlabelled(_PAIR_COLUMNS),
    "AX/AX.tsv": _unlabelled(_PAIR_COLUMNS),
}


def _article(title: str, context: str, *questions: tuple) -> dict:
    qas = [
        {
            "id": f"{title}{number}",
            "question": question,
            "answers": [{"text": text, "answer_start": 0} for text in texts],
        }
        for number, (question, *texts) in enumerate(questions)
    ]
    return {"title": title, "paragraphs": [{"context": context, "qas": qas}]}


SQUAD = [
    _article(
        "a",
        " Ann (b. 1990) lives\tin Ghent;\n  Belgium's «north».",
        ("  Who's Ann?", "lives\tin Ghent", "(b. 1990)"),
        ("Where?", "(Ghent)", "Ghent", "Ghent"),
    ),
    _article("b", "Bob\u00a0won $3.50\u2028today \\o/ a_b", ("What did Bob win?", "$3.50")),
]
MRQA = [
    {"header": {"dataset": "Made", "split": "dev"}},
    {
        "id": "",
        "context": "  [DOC] Ann's cat. [PAR] It sat. ",
        "context_tokens": [["Ann", 8]],
        "qas": [
            {
                "qid": f"q{number}",
                "question": question,
                "question_tokens": [["Who", 0]],
                "detected_answers": [
                    {"text": "cat", "char_spans": [[0, 2]], "token_spans": [[0, 0]]}
                ],
                "answers": answers,
            }
            for number, (question, answers) in enumerate(
                [(" Whose  cat?", ["Ann's", "Ann"]), ("Who sat? ", ["the cat."])]
            )
        ],
    },
]


def write(folder: pathlib.Path) -> pathlib.Path:
    """Writes all of it below `folder` -> `folder`."""
    for task, rows in SUPER_GLUE.items():
        splits = {"train": rows, "val": rows, "test": _without_answers(rows)}
        for split, kept in splits.items():
            _write(folder / task / f"{split}.jsonl", _jsonl(kept))
    for task, rows in DIAGNOSTICS.items():
        _write(folder / task / f"{task}.jsonl", _jsonl(rows))
    for name, content in GLUE.items():
        _write(folder / name, content)
    _write(folder / "squad/train-v1.1.json", json.dumps({"version": "1.1", "data": SQUAD}))
    _write(folder / "squad/dev-v1.1.json", json.dumps({"version": "1.1", "data": SQUAD[:1]}))
    _write(folder / "xquad_en/xquad.en.json", json.dumps({"data": SQUAD[1:]}))
    for name in ("train/NewsQA", "dev/NewsQA", "dev/DROP"):
        _write(folder / f"mrqa/{name}.jsonl.gz", gzip.compress(_jsonl(MRQA).encode()))
    return folder


def _jsonl(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _write(path: pathlib.Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
