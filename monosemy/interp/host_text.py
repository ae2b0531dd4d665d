"""How probable the host model finds a text after a prompt.  Needs torch.

Every text is read by a whole forward of its own row, padded on the right, where no real token sees
the padding: no cache of keys and values is kept, so none can carry one text into the next.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from monosemy.data.characters import encodable
from monosemy.data.templates import RENDERER, Refused
from monosemy.errors import DataError
from monosemy.interp.prompts.loader import Prompt
from monosemy.models.host import HostModel
from monosemy.models.rows import LOGITS_AT_ONCE, Ids, batches, padded


class HostText:
    """Prompts and texts as the host model's tokens, and the probability of one after the other."""

    def __init__(self, host: HostModel, logits_at_once: int = LOGITS_AT_ONCE) -> None:
        self.host = host
        self.logits_at_once = logits_at_once
        self._longest = host.abilities.positions

    def tokens(self, text: str) -> Ids:
        """Ids of ``text`` alone; a control token written out in it is read as mere characters."""
        text, _ = encodable(text)
        encoded = self.host.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        return tuple(int(number) for number in encoded["input_ids"])

    def with_bos(self, ids: Ids) -> Ids:
        """``ids`` as the start of a row."""
        return ids if self.host.bos_id is None else (self.host.bos_id, *ids)

    def decoded(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens left out."""
        text: str = self.host.tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def prefix(self, prompt: Prompt, **values: str) -> Ids:
        """The ids before an answer to ``prompt``; values from outside must come quoted.

        Rendered with the model's chat template, or as paragraphs of plain text where it has none.
        A last section ``assistant`` is how the answer begins.  ``DataError`` where the template
        refuses a lone user message.
        """
        messages = prompt.render(**values)
        begun = messages.pop()["content"] if messages[-1]["role"] == "assistant" else ""
        tokenizer = self.host.tokenizer
        if not getattr(tokenizer, "chat_template", None):
            paragraphs = [message["content"] for message in messages]
            return self.with_bos(self.tokens("\n\n".join([*paragraphs, begun])))
        (rendered,) = RENDERER.render(tokenizer, [messages], generation_prompt=True)
        if isinstance(rendered, Refused):
            raise DataError(f"The chat template of {self.host.name} fails: {rendered.reason}")
        # The template writes its own BOS, if it wants one.
        encoded = tokenizer(encodable(rendered + begun)[0], add_special_tokens=False)
        return tuple(int(number) for number in encoded["input_ids"])

    def log_probabilities(self, pairs: Sequence[tuple[Ids, Ids]]) -> list[float]:
        """log p(text | prefix) of each (prefix, text), in nats, summed over the text's tokens.

        Equal pairs are read once, so they get equal bits.  ``DataError`` for an empty prefix or
        for a row longer than the model's context.
        """
        for prefix, text in pairs:
            self._check(prefix, text)
        wanted = sorted(dict.fromkeys(pairs), key=lambda pair: len(pair[0]) + len(pair[1]))
        by_pair: dict[tuple[Ids, Ids], float] = {}
        rows = [prefix + text for prefix, text in wanted]
        for chosen in batches(rows, self.host.d_vocab, self.logits_at_once):
            batch = wanted[chosen]
            by_pair.update(zip(batch, self._read(batch), strict=True))
        return [by_pair[pair] for pair in pairs]

    def _check(self, prefix: Ids, text: Ids) -> None:
        if not prefix:
            raise DataError("The first token of a text has no probability without a prompt.")
        length = len(prefix) + len(text)
        if self._longest is not None and length > self._longest:
            raise DataError(
                f"Prompt and text have {length} tokens; {self.host.name} reads {self._longest}.",
                "Shorten the explanation, or take a host model with a longer context.",
            )

    @torch.no_grad()
    def _read(self, batch: Sequence[tuple[Ids, Ids]]) -> list[float]:
        ids_BS, mask_BS = padded([prefix + text for prefix, text in batch], self.host.pad_id)
        logits_BSV = self.host.logits(ids_BS, mask_BS)
        sums = []
        for logits_SV, (prefix, text) in zip(logits_BSV, batch, strict=True):
            predicted_TV = logits_SV[len(prefix) - 1 : len(prefix) + len(text) - 1].float()
            target_T = torch.tensor(text, dtype=torch.long, device=predicted_TV.device)
            log_p_T = predicted_TV.log_softmax(-1).gather(1, target_T[:, None])[:, 0]
            sums.append(float(log_p_T.double().sum()))
        return sums
