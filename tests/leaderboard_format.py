"""The official format of SuperGLUE's leaderboard files, written down a second time as a check.

From the FAQ (super.gluebenchmark.com/faq) and the sample submission that it links: JSON lines with
"idx" and "label"; MultiRC in the nesting of its data, a paragraph a line; ReCoRD a text.
"""

import json

LABELS = {
    "BoolQ.jsonl": {"true", "false"},
    "CB.jsonl": {"entailment", "contradiction", "neutral"},
    "COPA.jsonl": {0, 1},
    "RTE.jsonl": {"entailment", "not_entailment"},
    "WiC.jsonl": {"true", "false"},
    "WSC.jsonl": {"True", "False"},
    "AX-b.jsonl": {"entailment", "not_entailment"},
    "AX-g.jsonl": {"entailment", "not_entailment"},
}


def ids(name: str, text: str) -> list:
    """Checks each line of the file `name` -> what it identifies, in order.

    Numbers, or (paragraph, question, answer) in MultiRC.
    """
    assert text.endswith("\n") and "\n\n" not in text
    found: list = []
    for line in text.splitlines():
        entry = json.loads(line)
        if name == "MultiRC.jsonl":
            found += _answers(entry)
            continue
        assert set(entry) == {"idx", "label"} and type(entry["idx"]) is int
        if name == "ReCoRD.jsonl":
            assert type(entry["label"]) is str
        else:
            assert (type(entry["label"]), entry["label"]) in {(type(v), v) for v in LABELS[name]}
        found.append(entry["idx"])
    assert len(set(found)) == len(found)
    return found


def _answers(paragraph: dict) -> list[tuple[int, int, int]]:
    assert set(paragraph) == {"idx", "passage"} and set(paragraph["passage"]) == {"questions"}
    found = []
    for question in paragraph["passage"]["questions"]:
        assert set(question) == {"idx", "answers"}
        for answer in question["answers"]:
            assert set(answer) == {"idx", "label"}
            assert type(answer["label"]) is int and answer["label"] in (0, 1)
            idx = (paragraph["idx"], question["idx"], answer["idx"])
            assert all(type(number) is int for number in idx)
            found.append(idx)
    return found
