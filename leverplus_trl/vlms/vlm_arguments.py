# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys that name a VLM, and say how it runs and how its answers are decoded."""

from dataclasses import dataclass
from datetime import date, datetime

from ..fields import check_fields, documented, option


DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


@documented
@dataclass(kw_only=True)
class GenerationArguments:
    """Decoding: answers are greedy and without penalties unless the recipe says otherwise."""

    num_beams: int = option("Beams of a beam search; 1 for none.", 1, min=1)
    length_penalty: float = option(
        "Power of an answer's length that ranks beams (num_beams > 1). The log-probability is divided by it.", 1.0
    )
    repetition_penalty: float = option(
        "Divides logits of tokens that are there already. Negative logits are multiplied; tokens of the prompt count.",
        1.0,
        above=0.0,
    )
    do_sample: bool = option(
        "Draw each token instead of taking the best. An answer depends on its prompt and generation_seed alone.", False
    )
    temperature: float = option("What logits are divided by before a draw (do_sample).", 1.0, above=0.0)
    top_p: float = option("Probability that is kept for a draw (do_sample).", 1.0, above=0.0, max=1.0)
    generation_seed: int = option("Seed of the draws (do_sample).", 0, min=0)
    generation_config: str = option(
        "recipe | model: what decides how answers are decoded. model: its `generation_config.json`, and these keys "
        "are left out; `max_new_tokens` is the recipe's in any case.",
        "recipe",
        choices=("recipe", "model"),
    )

    def __post_init__(self):
        for name in ("length_penalty", "repetition_penalty", "temperature", "top_p"):
            setattr(self, name, float(getattr(self, name)))
        if self.generation_config == "model":
            self._refuse_changed("generation_config is 'model', whose file says how answers are decoded")
        if self.do_sample and self.num_beams > 1:
            raise ValueError(
                f"do_sample is true and num_beams is {self.num_beams}; expected one of both. Leave num_beams out to "
                "draw answers, or do_sample to search for them."
            )
        if self.num_beams == 1:
            self._refuse_changed("num_beams is 1, and only beams are ranked by length", "length_penalty")
        if not self.do_sample:
            self._refuse_changed("do_sample is false, so nothing is drawn", "temperature", "top_p", "generation_seed")

    def _refuse_changed(self, reason: str, *names: str) -> None:
        """Raises `ValueError` for a field that has no meaning here: one of `names`, or of all others."""
        for name, own in GenerationArguments.__dataclass_fields__.items():
            value = getattr(self, name)
            if (name in names if names else name != "generation_config") and value != own.default:
                raise ValueError(f"{name} is {value}, but {reason}. Leave {name} out.")


@documented
@dataclass
class VLMArguments(GenerationArguments):
    """VLM: the frozen model that scores and answers."""

    vlm: str = option("Hub id or folder of the VLM (or of a causal LM, for tasks without images).")
    vlm_revision: str | None = option("Hub revision of the VLM.", None)
    gguf_file: str | None = option("gguf file in that folder, if it is stored so.", None)
    dtype: str = option(
        "Type the weights are loaded as.", "float32", choices=("float32", "bfloat16", "float16", "float64")
    )
    attn_implementation: str = option("Attention implementation of transformers.", "sdpa")
    quantization: str | None = option(
        "4bit | 8bit, by bitsandbytes. Weights of linear layers are quantised when they are read (NF4 or "
        "LLM.int8); all others have type `dtype`, in which 4-bit layers compute.",
        None,
        choices=("4bit", "8bit"),
    )
    device_map: str | None = option(
        f"{' | '.join(DEVICE_MAPS)}: one model over all devices.", None, choices=DEVICE_MAPS
    )
    prompt_format: str = option(
        "auto | chat | plain. chat is the model's chat template, plain lines of text, and auto chat if there "
        "is a template.",
        "auto",
        choices=("auto", "chat", "plain"),
    )
    system_prompt: str | None = option("Text at the start of every prompt.", None)
    prompt_date: str = option(
        "Date, as YYYY-MM-DD, for chat templates that write today's. A fixed date keeps scores the same on "
        "every day; the default is that of Llama 3.1's template.",
        "2024-07-26",
    )
    score_end_token: bool = option(
        "Score the token that ends the answer, too. The reference implementation of Lever-LM does.", False
    )
    max_batch_tokens: int = option(
        "Tokens in one batch, padding included. Another value changes the last bits of the output.", 8192, min=1
    )
    memory_mb: int | None = option(
        "MB beside the model for image features, keys, values and activations. Another value changes the last"
        " bits of the output.",
        None,
        min=1,
    )
    trust_remote_code: bool = option("Whether code that comes with the model may run.", False)

    def __post_init__(self):
        if isinstance(self.prompt_date, date):
            self.prompt_date = self.prompt_date.isoformat()
        check_fields(self)
        super().__post_init__()
        try:
            self.prompt_date = datetime.strptime(self.prompt_date, "%Y-%m-%d").date().isoformat()
        except ValueError as error:
            raise ValueError(
                f"prompt_date is {self.prompt_date!r}; expected a date as YYYY-MM-DD, e.g. 2024-07-26."
            ) from error
        if self.quantization is not None and self.gguf_file is not None:
            raise ValueError(
                f"quantization is {self.quantization!r} and gguf_file is {self.gguf_file!r}, whose weights are "
                "quantised as they are stored. Leave quantization out."
            )
