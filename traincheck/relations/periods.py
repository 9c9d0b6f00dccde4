"""An annealing of the learning rate takes longer than one pass over the data, if it is advanced with each batch."""

from __future__ import annotations

from collections.abc import Iterator

from traincheck.relations.contract import Example
from traincheck.vocabulary import DATA_NEXT, LR_STEP
from traincheck.window import Window


def examples(window: Window) -> Iterator[Example]:
    """In the first pass over the data: one for each step of a schedule that has counted the batches so far.

    It fails where the schedule has come to its end and turns back. Later passes tell nothing: there a schedule may have
    been meant for epochs, or for cycles.
    """
    fetches = [
        call for call in window.named(DATA_NEXT) if call.context.stage == "train" and call.args.get("epoch") == 0
    ]
    for call in window.named(LR_STEP):
        fetched = max((fetch for fetch in fetches if fetch.seq < call.seq), key=lambda fetch: fetch.seq, default=None)
        period, count = call.args.get("period"), call.out.get("last_epoch")
        if fetched is None or not isinstance(period, int) or not isinstance(count, int) or call.args.get("in_init"):
            continue
        batches, so_far = fetched.args.get("batches"), fetched.args.get("index")
        if not isinstance(batches, int) or not isinstance(so_far, int) or not 1 <= count <= so_far + 1:
            continue
        if count <= period:
            yield Example(True, ())
        elif period < batches:
            seen = (
                f"step {count} of {call.subject}: the rate rises again after {period}, and a pass has {batches} batches"
            )
            expected = "a schedule that lasts for all steps, or one that is advanced once for each epoch"
            yield Example(False, (), (call.subject,), expected, seen, call.api)
