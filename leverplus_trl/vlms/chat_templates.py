# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Chat templates: rendered the same on every day, and refused by name where they can't show a conversation."""

from collections.abc import Callable
from datetime import date

from jinja2 import TemplateError

from ..tasks import BaseTask
from .prompts import ChatPrompt, Processor, message
from .vlm_arguments import VLMArguments


#: Directives of `strftime` that templates may pass to `strftime_now`.
DIRECTIVES = "aAbBdejmuwyYDFHIMSpTZ"
#: A `strftime_now` before the template, in place of that of transformers, which reads the clock and which no variable
#: replaces: variables are plain data. The line break at its end is not rendered.
PINNED_CLOCK = (
    "{%- macro strftime_now(format) -%}{%- set pinned = namespace(text=format) -%}"
    "{%- for directive, value in pinned_date.items() -%}"
    "{%- set pinned.text = pinned.text.replace(directive, value) -%}{%- endfor -%}"
    "{{ pinned.text }}{%- endmacro %}\n"
)
#: A word that no template writes by itself, in the three turns of a conversation that templates are tried on.
PROBE = "leverplus"
TURNS = [message(role, PROBE) for role in ("user", "assistant", "user")]

Render = Callable[[list[dict], bool], str]


def make_chat_prompt(renderer: Processor, task: BaseTask, args: VLMArguments, has_images: bool) -> ChatPrompt:
    """
    A prompt in the chat template of a processor or tokenizer, which is tried on a conversation: raises `ValueError` if
    the template refuses or hides turns or the system prompt.

    Messages are lists of parts if they may hold images (`has_images`), else parts or text, as the template expects.
    """
    # Most templates of language models take strings.
    ways = [_renderer(renderer, args, has_images, as_string) for as_string in (not has_images, False)]
    render = next(filter(_shows_turns, ways), ways[0])
    text = render(TURNS, True)  # raises the template's own error
    if not _shows_turns(render):
        raise ValueError(
            f"The chat template of {args.vlm!r} does not show what three messages say, {PROBE!r} each: it writes "
            f"{text!r}. Use the template that belongs to the model's processor"
            + ("." if has_images else ", or `prompt_format: plain`.")
        )
    system = [message("system", args.system_prompt)] if args.system_prompt else []
    if system and args.system_prompt.strip() not in render([*system, *TURNS], True):
        raise ValueError(
            f"The chat template of {args.vlm!r} leaves out the system prompt {args.system_prompt!r}. Leave "
            "`system_prompt` out, or put it into `question_template`."
        )
    if has_images:
        _check_images(renderer, render, task, args)
    return ChatPrompt(render, task, args.system_prompt)


def _check_images(processor: Processor, render: Render, task: BaseTask, args: VLMArguments) -> None:
    """Raises `ValueError` if a template leaves out images, or a text of the recipe holds their placeholder."""
    turn = TURNS[0]
    if render([turn | {"content": [{"type": "image"}, *turn["content"]]}], True) == render([turn], True):
        raise ValueError(
            f"The chat template of {args.vlm!r} leaves out images. Use the template that belongs to the model's "
            "processor."
        )
    placeholder = getattr(processor, "image_token", None)
    texts = {"question_template": task.template, "answer_template": task.answer_template}
    for name, text in (texts | {"system_prompt": args.system_prompt or ""}).items():
        if placeholder is not None and placeholder in text:
            raise ValueError(
                f"{name} is {text!r}, with {placeholder!r}, the placeholder of an image in the prompts of "
                f"{args.vlm!r}. Take it out: images are put before the question without it."
            )


def _renderer(renderer: Processor, args: VLMArguments, has_images: bool, as_string: bool) -> Render:
    template, today, variables = renderer.chat_template, date.fromisoformat(args.prompt_date), {}
    if isinstance(template, dict):  # several by name
        if "default" not in template:
            raise ValueError(
                f"{args.vlm!r} has the chat templates {sorted(template)}; expected one named 'default'. Rename one."
            )
        template = template["default"]

    if "strftime_now" in template:
        written = {f"%{letter}": today.strftime(f"%{letter}") for letter in DIRECTIVES}
        unpadded = {f"%-{name[1]}": text.lstrip("0") or "0" for name, text in written.items()}
        variables = {"chat_template": PINNED_CLOCK + template, "pinned_date": written | unpadded}
    if "date_string" in template:  # Llama's
        variables["date_string"] = today.strftime("%d %b %Y")

    def render(messages: list[dict], add_generation_prompt: bool) -> str:
        if not has_images and any(part["type"] != "text" for turn in messages for part in turn["content"]):
            raise ValueError(f"{args.vlm!r} is a language model and the task shows it an image. Name another VLM.")
        if as_string:
            messages = [{**turn, "content": "".join(part["text"] for part in turn["content"])} for turn in messages]
        try:
            return renderer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=add_generation_prompt, **variables
            )
        except (TemplateError, TypeError) as error:  # TypeError: a list where the template expects a string
            remedy = "Use another chat template, or `prompt_format: plain`."
            if messages[0]["role"] == "system":
                remedy = "If it takes no system prompt, leave `system_prompt` out or put it into `question_template`."
            raise ValueError(
                f"The chat template of {args.vlm!r} refuses the conversation: {str(error).rstrip('.')}. {remedy}"
            ) from error

    return render


def _shows_turns(render: Render) -> bool:
    """Whether a conversation's three turns are shown, and not in quotes, as Python shows lists."""
    try:
        text = render(TURNS, True)
    except ValueError:
        return False
    return text.count(PROBE) == 3 and repr(PROBE) not in text
