"""A small Llama on padded documents: accumulation, warm-up, clipping, labels of -100 where a document was padded."""

from __future__ import annotations

import tempfile

import settings
import torch
from text import PaddedDocuments, documents, make_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments, set_seed


def main() -> None:
    parser = settings.parser(__doc__, batch_size=8, epochs=2)
    parser.set_defaults(accumulation=4, warmup_steps=4, schedule="cosine")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations in the backward pass")
    parser.add_argument("--tied", action="store_true", help="one matrix for input and output embeddings")
    args = parser.parse_args()
    set_seed(args.seed)
    torch.set_num_threads(1)
    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None, tie_word_embeddings=args.tied,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as output:
        trainer = Trainer(
            model=LlamaForCausalLM(config),
            args=TrainingArguments(
                **settings.common(args, output),
                gradient_checkpointing=args.checkpointing,
                eval_strategy="steps",
                eval_steps=7,
                save_strategy="steps",
                save_steps=7,
                save_total_limit=1,
            ),
            train_dataset=documents(tokenizer, 420, args.seed),
            eval_dataset=documents(tokenizer, 40, args.seed + 1),
            data_collator=PaddedDocuments(tokenizer),
        )
        trainer.train()
        print(f"loss on held-out documents {trainer.evaluate()['eval_loss']:.3f}")


if __name__ == "__main__":
    main()
