"""How probable a model finds texts, whatever found them."""

from collections.abc import Sequence
from typing import Any

import torch

from vietst.models.label_loss import MAX_CHUNK_LOGITS
from vietst.models.multitask import EncoderStates
from vietst.models.shared_states import SharedStatesCache, by_task, by_utterance


@torch.no_grad()
def log_probabilities(
    model: Any,
    cache: SharedStatesCache,
    prompts: Sequence[Sequence[int]],
    generated: torch.Tensor,
    lengths: torch.Tensor,
) -> torch.Tensor:
    """How probable a model finds what was generated: its own distribution, before any token was suppressed.

    One pass of the decoder, whatever search found the tokens, so that greedy and beam search can be compared.

    Args:
        model: of either architecture.
        cache: of the utterances; keys and values that generation has made there are not made again.
        prompts: ids of the decoder prompt of each task, equally long.
        generated: int64 [num_tasks × num_utterances, length], task by task, without the prompt.
        lengths: int64 [num_tasks × num_utterances], how many of the tokens count, end token included.

    Returns:
        float32 [num_tasks × num_utterances]: natural logarithms, summed over the tokens, task by task.
    """
    num_tasks, prompt_length = len(prompts), len(prompts[0])
    generated, lengths = by_utterance(generated, num_tasks), by_utterance(lengths, num_tasks)
    of_each = torch.tensor(prompts, device=generated.device).repeat(cache.num_utterances, 1)
    decoder_input_ids = torch.cat([of_each, generated[:, :-1]], dim=1)
    num_logits = decoder_input_ids.shape[1] * model.get_output_embeddings().weight.shape[0] * num_tasks
    num_at_once = max(1, MAX_CHUNK_LOGITS // num_logits)  # the logits of all of them would take gigabytes
    sums = []
    for start in range(0, cache.num_utterances, num_at_once):
        some = cache.of(slice(start, start + num_at_once))
        rows = slice(start * num_tasks, (start + num_at_once) * num_tasks)
        tokens = generated[rows]
        logits = model(
            encoder_outputs=EncoderStates(some.stand_in(len(tokens))),
            decoder_input_ids=decoder_input_ids[rows],
            past_key_values=some.for_decoder(),
            use_cache=True,  # whatever the model's files say of it: the states are in there
        ).logits[:, prompt_length - 1 :]
        of_tokens = logits.float().log_softmax(-1).gather(2, tokens[..., None])[..., 0]
        counts = torch.arange(tokens.shape[1], device=tokens.device) < lengths[rows, None]
        sums.append(torch.where(counts, of_tokens, 0.0).sum(dim=1))
    return by_task(torch.cat(sums), num_tasks)
