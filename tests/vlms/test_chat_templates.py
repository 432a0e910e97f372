# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Chat templates as they are published: they write the date, refuse or drop system prompts, take strings or lists."""

import datetime
import importlib.util
import re
from pathlib import Path

import pytest
import transformers.utils.chat_template_utils as transformers_templates
from vlms.made_examples import ANSWERS
from vlms.tiny_models import CHATML, byte_tokenizer, tiny_causal_lm, tiny_llava, tiny_text_model

from leverplus_trl.tasks import TaskArguments, make_task
from leverplus_trl.vlms import CausalLM, ChatFamily, Request, TransformersVLM, VLMArguments, prompt_hash
from leverplus_trl.vlms.chat_templates import make_chat_prompt


TURNS = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: Each writes the date as models' templates do, and what it is to write.
DATED = {
    "Llama 3.1": (
        '{%- if not date_string is defined %}\n    {%- set date_string = "26 Jul 2024" %}\n{%- endif %}\n'
        '{{- "Today Date: " + date_string + "\\n" }}' + TURNS,
        "Today Date: 05 Mar 2025",
    ),
    "Llama 3.2": (
        "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
        '{%- set date_string = strftime_now("%d %b %Y") %}{%- else %}{%- set date_string = "26 Jul 2024" %}'
        '{%- endif %}{%- endif %}{{- "Today Date: " + date_string + "\\n" }}' + TURNS,
        "Today Date: 05 Mar 2025",
    ),
    "Granite 3": (
        "Today's Date: {{ strftime_now('%B %d, %Y') }}.\n" + TURNS,
        "Today's Date: March 05, 2025.",
    ),
    "gpt-oss": (
        '{%- macro system() -%}{{- "Current date: " + strftime_now("%Y-%m-%d") + "\n" }}{%- endmacro -%}'
        "{{ system() }}" + TURNS,
        "Current date: 2025-03-05",
    ),
    "SmolLM3": (
        '{%- set today = strftime_now("%-d %B %Y") -%}{{ "Today: " ~ today ~ "\n" }}' + TURNS,
        "Today: 5 March 2025",
    ),
    "a set of letters": (
        "{% set form = '%A %H:%M' %}{{ strftime_now(format=form) }}, {{ strftime_now('%Y') | int + 1 }}\n" + TURNS,
        "Wednesday 00:00, 2026",
    ),
}
#: Templates of many families that come with TRL.
PUBLISHED = Path(importlib.util.find_spec("trl").origin).parent / "chat_templates"
SYSTEM = {"system_prompt": "Name the shape."}


@pytest.fixture
def another_day(monkeypatch):
    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.datetime(2031, 12, 24, 18, 30)

    def turn():
        monkeypatch.setattr(transformers_templates, "datetime", Later)

    return turn


def words_task(**arguments):
    return make_task(TaskArguments(task="text_classification", labels=ANSWERS, **arguments))


def prompt_of(template, task=None, **arguments):
    return make_chat_prompt(
        byte_tokenizer(template), task or words_task(), VLMArguments(vlm="x", **arguments), has_images=False
    )


def example(number=0):
    answer = ANSWERS[number % 3]
    question = f"what shape is it {number} ?"
    return {"id": f"e{number}", "image": None, "question": question, "answer": answer, "answers": [answer]}


@pytest.mark.parametrize("name", DATED)
def test_the_date_is_that_of_the_recipe(name, another_day):
    template, expected = DATED[name]
    prompt = prompt_of(template, prompt_date="2025-03-05")
    text = prompt.whole((example(1),), example(0)).text
    assert expected in text
    another_day()
    assert prompt_of(template, prompt_date="2025-03-05").whole((example(1),), example(0)).text == text
    assert prompt_of(template, prompt_date="2020-01-01").whole((example(1),), example(0)).text != text


@pytest.mark.parametrize("name", DATED)
def test_on_its_date_a_template_is_rendered_as_transformers_does(name, monkeypatch):
    """To the last space."""

    class Then(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.datetime(2025, 3, 5)

    monkeypatch.setattr(transformers_templates, "datetime", Then)
    first, query, template = example(1), example(0), "  \n" + DATED[name][0]
    turns = [("user", first["question"]), ("assistant", first["answer"]), ("user", query["question"])]
    expected = byte_tokenizer(template).apply_chat_template(
        [{"role": role, "content": text} for role, text in turns],
        tokenize=False,
        add_generation_prompt=True,
        date_string="05 Mar 2025",
    )
    assert prompt_of(template, prompt_date="2025-03-05").whole((first,), query).text == expected


@pytest.mark.parametrize("prompt_date", ["yesterday", "26 Jul 2024", "2024-13-01", "", None, 20240726.0])
def test_a_date_that_is_none_is_refused(prompt_date):
    with pytest.raises(ValueError, match=r"prompt_date is .*; expected (a date as YYYY-MM-DD|text)"):
        VLMArguments(vlm="x", prompt_date=prompt_date)


def test_a_date_as_yaml_reads_it_is_one():
    assert VLMArguments(vlm="x", prompt_date=datetime.date(2025, 3, 5)).prompt_date == "2025-03-05"


@pytest.mark.parametrize("file", sorted(PUBLISHED.glob("*.jinja")), ids=lambda file: file.stem)
@pytest.mark.parametrize("system_prompt", [None, "Name the shape."])
def test_published_templates_are_the_same_on_every_day_or_refused_by_name(file, system_prompt, another_day):
    def write():
        try:
            prompt = prompt_of(file.read_text(), system_prompt=system_prompt)
            answer, _ = prompt.answer(example(0))
            return prompt.whole((example(1),), example(0)).text + answer
        except ValueError as error:
            return error

    text = write()
    another_day()
    again = write()
    assert again == text if isinstance(text, str) else re.search("chat template .*[Uu]se", str(again))
    if isinstance(text, str):
        assert "2031" not in text and (system_prompt or "shape") in text
        assert text.count(example(0)["answer"]) == text.count(example(0)["question"]) == 1


def test_scores_do_not_depend_on_the_day(another_day):
    def score():
        tokenizer = byte_tokenizer(DATED["Llama 3.2"][0])
        vlm = CausalLM(tiny_text_model("llama", tokenizer), tokenizer, words_task(), VLMArguments(vlm="x"))
        return vlm.answer_logprobs([Request((example(1),), example(0))])[0].logprob

    before = score()
    another_day()
    assert score() == before


@pytest.mark.parametrize(
    "template, message",
    [
        # Gemma's
        (
            "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
            + TURNS,
            "refuses the conversation: System role not supported. If it takes no system prompt, leave `system_prompt`",
        ),
        # Mistral's first
        (
            "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
            "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
            "{{ message.content }}{% endfor %}",
            r"Conversation roles must alternate user/assistant/user/assistant/\. If it takes no system prompt",
        ),
        (
            "{% for message in messages if message.role != 'system' %}{{ message.content }}</s>{% endfor %}",
            "leaves out the system prompt 'Name the shape.'. Leave `system_prompt` out",
        ),
    ],
)
def test_a_template_without_a_system_prompt_is_named(template, message):
    with pytest.raises(ValueError, match=message):
        prompt_of(template, **SYSTEM)
    assert "circle" in prompt_of(template).whole((example(0),), example(1)).text


@pytest.mark.parametrize(
    "template, message",
    [
        (
            "{{ raise_exception('No tools, no talk') }}",
            "refuses the conversation: No tools, no talk. Use another chat",
        ),
        ("{{ messages[0]['content']['text'] }}", "refuses the conversation|does not show what three messages say"),
        ("{{ 'a' + 1 }}", "refuses the conversation: can only concatenate str"),
        (
            "{{ messages[-1].content }}",
            "does not show what three messages say, 'leverplus' each: it writes 'leverplus'",
        ),
        ("{{ messages }}", "does not show what three messages say"),
        ({"tool_use": TURNS}, r"has the chat templates \['tool_use'\]; expected one named 'default'"),
    ],
)
def test_a_template_that_can_show_no_conversation_is_named(template, message):
    with pytest.raises(ValueError, match=message):
        prompt_of(template)


def test_a_template_that_iterates_over_parts_is_given_parts():
    """Gemma 3's and SmolVLM's; they would write nothing of a string, without an error."""
    parts = TURNS.replace("{{ message.content }}", "{% for part in message.content %}{{ part.text }}{% endfor %}")
    expected = prompt_of(TURNS, **SYSTEM).whole((example(0),), example(1)).text
    assert prompt_of(parts, **SYSTEM).whole((example(0),), example(1)).text == expected
    assert "what shape is it 0 ?" in expected


def test_a_template_for_text_alone_is_refused_for_images():
    """It would show Python's way of writing a list."""
    model, processor = tiny_llava()
    processor.chat_template = TURNS
    with pytest.raises(
        ValueError, match=r"does not show what three messages say.*that belongs to the model's processor"
    ):
        TransformersVLM(ChatFamily(model, processor, make_task(TaskArguments()), VLMArguments(vlm="x")))


def test_the_default_of_several_templates_is_taken():
    named = {"default": DATED["Llama 3.2"][0], "rag": "{{ raise_exception('no') }}"}
    assert "26 Jul 2024" in prompt_of(named).whole((), example(0)).text


# ---------------------------------------------------------------------- the hash of prompts
@pytest.fixture
def folder(tmp_path):
    tokenizer = byte_tokenizer(DATED["Llama 3.2"][0])
    tokenizer.save_pretrained(tmp_path / "model")
    tiny_causal_lm(tokenizer).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_the_hash_changes_with_whatever_changes_prompts(folder, another_day, tmp_path):
    def found(task=None, **arguments):
        return prompt_hash(VLMArguments(**{"vlm": str(folder), **arguments}), task or words_task())

    one = found()
    another_day()
    assert found() == one
    (tmp_path / "elsewhere").symlink_to(folder)
    assert found(vlm=str(tmp_path / "elsewhere")) == one
    other = [
        found(prompt_date="2025-03-05"),
        found(system_prompt="Look."),
        found(prompt_format="plain"),
        found(score_end_token=True),
        found(words_task(question_template="Q: {question} {context}")),
        found(words_task(answer_template="It is {answer}.")),
    ]
    byte_tokenizer(CHATML).save_pretrained(folder)
    other.append(found())
    assert len({one, *other}) == 1 + len(other)


def test_a_model_without_eyes_is_refused_for_pictures_before_weights_are_read(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"is a language model and the task shows it an image\. Name another VLM"):
        prompt_hash(VLMArguments(vlm=str(folder)), make_task(TaskArguments()))
