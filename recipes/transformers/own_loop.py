"""A loop of one's own around a Transformers model: clipping, warm-up, evaluation with generation every few steps."""

from __future__ import annotations

import settings
import torch
from text import PaddedDocuments, documents, make_tokenizer
from torch.utils.data import DataLoader
from transformers import Qwen2Config, Qwen2ForCausalLM, get_scheduler, set_seed

EVALUATE_EVERY = 12


@torch.no_grad()
def evaluate(model: Qwen2ForCausalLM, loader: DataLoader[dict[str, torch.Tensor]]) -> float:
    model.eval()
    losses = [model(**batch).loss.item() for batch in loader]
    prompt = next(iter(loader))["input_ids"][:2, :8]
    model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=6, do_sample=False)
    model.train()
    return sum(losses) / len(losses)


def main() -> None:
    args = settings.parser(__doc__, batch_size=16, epochs=2).parse_args()
    set_seed(args.seed)
    torch.set_num_threads(1)
    tokenizer = make_tokenizer()
    collate = PaddedDocuments(tokenizer)
    training = DataLoader(documents(tokenizer, 320, args.seed), args.batch_size, shuffle=True, collate_fn=collate)
    testing = DataLoader(documents(tokenizer, 32, args.seed + 1), 16, collate_fn=collate)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None, tie_word_embeddings=True,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    steps = int(args.epochs * len(training))
    scheduler = get_scheduler(args.schedule, optimizer, num_warmup_steps=args.warmup_steps, num_training_steps=steps)
    model.train()
    step = 0
    for _ in range(int(args.epochs)):
        for batch in training:
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
                loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            step += 1
            if step % EVALUATE_EVERY == 0:
                print(f"step {step} loss {loss.item():.3f} held out {evaluate(model, testing):.3f}")


if __name__ == "__main__":
    main()
