# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys that name a VLM and say how it is run."""

from dataclasses import dataclass
from datetime import date, datetime

from ..fields import check_fields, documented, option
from .generation_arguments import GenerationArguments


PROMPT_FORMATS = ("auto", "chat", "plain")
DTYPES = ("float32", "bfloat16", "float16", "float64")
QUANTIZATIONS = ("4bit", "8bit")
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


@documented
@dataclass
class VLMArguments(GenerationArguments):
    """VLM: the frozen model that scores and answers."""

    vlm: str = option("Hub id or folder of the VLM (or of a causal LM, for tasks without images).")
    vlm_revision: str | None = option("Hub revision of the VLM.", None)
    gguf_file: str | None = option("gguf file in that folder, if it is stored so.", None)
    dtype: str = option("Type the weights are loaded as.", "float32", choices=DTYPES)
    attn_implementation: str = option("Attention implementation of transformers.", "sdpa")
    quantization: str | None = option(
        "4bit | 8bit, by bitsandbytes. Weights of linear layers are quantised when they are read (NF4 or "
        "LLM.int8); all others have type `dtype`, in which 4-bit layers compute.",
        None,
        choices=QUANTIZATIONS,
    )
    device_map: str | None = option(
        f"{' | '.join(DEVICE_MAPS)}: one model over all devices.", None, choices=DEVICE_MAPS
    )
    prompt_format: str = option(
        "auto | chat | plain. chat is the model's chat template, plain lines of text, and auto chat if there "
        "is a template.",
        "auto",
        choices=PROMPT_FORMATS,
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
        "Tokens in one batch, padding included. Another value changes the last bits of the output.",
        8192,
        min=1,
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
