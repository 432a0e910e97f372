# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys that name a VLM and say how it is run."""

from dataclasses import dataclass, field
from datetime import date, datetime

from ..fields import check_fields
from .generation_arguments import GenerationArguments


PROMPT_FORMATS = ("auto", "chat", "plain")
DTYPES = ("float32", "bfloat16", "float16", "float64")
QUANTIZATIONS = ("4bit", "8bit")
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


@dataclass
class VLMArguments(GenerationArguments):
    """
    VLM: the frozen model that scores and answers.

    Args:
        vlm (`str`):
            Hub id or folder of a vision-language model, or of a causal language model for tasks without images.
        vlm_revision (`str`, *optional*):
            Hub revision.
        gguf_file (`str`, *optional*):
            Name of the gguf file in the folder, for language models stored so.
        dtype (`str`, *optional*, defaults to `"float32"`):
            Type the weights are loaded as.
        attn_implementation (`str`, *optional*, defaults to `"sdpa"`):
            Attention of transformers.
        quantization (`str`, *optional*):
            `"4bit"` (NF4) or `"8bit"` (LLM.int8): weights of linear layers are quantised by bitsandbytes when they are
            read. The output head and all other weights are of type `dtype`, which 4-bit layers also compute in; 8-bit
            layers compute in 8 bits.
        device_map (`str`, *optional*):
            `"auto"`, `"balanced"`, `"balanced_low_0"` or `"sequential"`: one model over all devices of the process, as
            accelerate places it. Without it the model stands on the process's own device.
        prompt_format (`str`, *optional*, defaults to `"auto"`):
            `"chat"`: the model's chat template; `"plain"`: lines of text; `"auto"`: chat if there is a template.
        system_prompt (`str`, *optional*):
            Text at the start of every prompt.
        prompt_date (`str`, *optional*, defaults to `"2024-07-26"`):
            The date, as YYYY-MM-DD, for chat templates that write today's; without it a prompt, and so every score,
            would depend on the day. The default is what Llama 3.1's template writes if it is told no date.
        score_end_token (`bool`, *optional*, defaults to `False`):
            Also score the token that ends the answer, as the reference implementation of Lever-LM does.
        max_batch_tokens (`int`, *optional*, defaults to 8192):
            Tokens in one batch, padding included. Part of what makes an output: another value changes the last bits.
        memory_mb (`int`, *optional*):
            Memory beside the model for image features, keys and values, and activations. Part of what makes an output,
            as `max_batch_tokens` is.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether code that comes with the model may run.
        kwargs:
            Those of [`GenerationArguments`], which say how answers are decoded.
    """

    vlm: str = field(metadata={"help": "Hub id or folder of the VLM (or of a causal LM, for tasks without images)."})
    vlm_revision: str | None = field(default=None, metadata={"help": "Hub revision of the VLM."})
    gguf_file: str | None = field(default=None, metadata={"help": "gguf file in that folder, if it is stored so."})
    dtype: str = field(default="float32", metadata={"help": "Type the weights are loaded as.", "choices": DTYPES})
    attn_implementation: str = field(default="sdpa", metadata={"help": "Attention implementation of transformers."})
    quantization: str | None = field(
        default=None, metadata={"help": "4bit | 8bit, by bitsandbytes.", "choices": QUANTIZATIONS}
    )
    device_map: str | None = field(
        default=None,
        metadata={
            "help": f"{' | '.join(DEVICE_MAPS)}: one model over all devices.",
            "choices": DEVICE_MAPS,
        },
    )
    prompt_format: str = field(default="auto", metadata={"help": "auto | chat | plain.", "choices": PROMPT_FORMATS})
    system_prompt: str | None = field(default=None, metadata={"help": "Text at the start of every prompt."})
    prompt_date: str = field(
        default="2024-07-26", metadata={"help": "Date, as YYYY-MM-DD, for chat templates that write today's."}
    )
    score_end_token: bool = field(default=False, metadata={"help": "Score the token that ends the answer, too."})
    max_batch_tokens: int = field(default=8192, metadata={"help": "Tokens in one batch, padding included.", "min": 1})
    memory_mb: int | None = field(
        default=None,
        metadata={"help": "MB beside the model for image features, keys, values and activations.", "min": 1},
    )
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Whether code that comes with the model may run."}
    )

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
