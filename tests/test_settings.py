"""Settings as JSON and back."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompt_tuning_jax import settings, t5
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.method import Chain
from prompt_tuning_jax.methods.full import Full
from prompt_tuning_jax.methods.lora import LoRA
from prompt_tuning_jax.methods.prompt import Prompt
from prompt_tuning_jax.optimizers import Adafactor, LearningRate
from prompt_tuning_jax.prompt_init import ClassLabels, SampledVocabulary


def through_json(value):
    return settings.decode(json.loads(json.dumps(settings.encode(value))))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=4)
        | inner.map(lambda value: ClassLabels(labels=None, fill=value))
        | inner.map(lambda value: Chain((Prompt(5, ClassLabels(fill=value)), LoRA())))
    ),
    max_leaves=10,
)


@given(VALUES)
def test_what_is_encoded_is_decoded(value):
    assert through_json(value) == value


@pytest.mark.parametrize(
    "value",
    [
        Chain((Prompt(5, ClassLabels(("a", "b"), SampledVocabulary(7))), LoRA(targets=("wo",)))),
        Full(("encoder/.*",)),
        Adafactor(LearningRate("constant * rsqrt_decay", 1e-3)),
        t5.T5Config(mlp_activations=("relu",)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_settings_of_ours(value):
    assert through_json(value) == value
    assert type(through_json(value)) is type(value)


def test_lists_come_back_as_tuples_and_an_identity_stands_for_its_owner():
    class Named:
        def identity(self):
            return {"name": "x", "parts": [1, 2]}

    assert settings.encode([Named()]) == [{"name": "x", "parts": [1, 2]}]
    assert through_json(Named()) == {"name": "x", "parts": (1, 2)}


@pytest.mark.parametrize(
    "value",
    [{1, 2}, object(), b"bytes", 1j, LoRA, print],
    ids=["set", "object", "bytes", "complex", "class", "function"],
)
def test_what_cannot_be_written_is_refused(value):
    with pytest.raises(UserError, match="cannot be written as JSON"):
        settings.encode({"a": [value]})


@dataclasses.dataclass(frozen=True)
class Own:
    size: int = 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("os.system", "no dataclass system"),
        ("builtins.eval", "no dataclass eval"),
        ("subprocess.Popen", "no dataclass Popen"),
        ("antigravity.fly", "import antigravity"),  # never imported on the way
        ("prompt_tuning_jax.settings.decode", "no dataclass decode"),
        ("prompt_tuning_jax.absent.Method", "this version has no"),
        ("prompt_tuning_jax.methods.lora.LoRa", "no dataclass LoRa"),
        ("prompt_tuning_jax_.methods.lora.LoRA", "import prompt_tuning_jax_.methods.lora"),
        ("LoRA", "is not ours"),
    ],
)
def test_foreign_classes_are_refused(name, said):
    with pytest.raises(UserError, match=said):
        settings.decode([{"class": name, "settings": {}}])


def test_a_class_of_a_module_that_is_imported_is_taken():
    assert through_json(Own(3)) == Own(3)


@pytest.mark.parametrize("fields", [{"rank_": 3}, {"rank": 0}, {"rank": "x"}, [3], None, "rank"])
def test_bad_fields_are_refused(fields):
    with pytest.raises(UserError):
        settings.decode({"class": "prompt_tuning_jax.methods.lora.LoRA", "settings": fields})


def test_differences_name_every_value_that_changed():
    old = settings.encode({"method": LoRA(rank=2), "steps": 10, "gone": [1]})
    new = settings.encode({"method": LoRA(rank=4), "steps": 10, "more": {"a": 1}})
    assert settings.differences(old, new) == [
        "method.settings.rank: 2 -> 4",
        "gone: [1] -> None",
        "more: None -> {'a': 1}",
    ]
    assert settings.differences(old, json.loads(json.dumps(old))) == []
