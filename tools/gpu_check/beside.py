"""Operations of massact and their twins in PyTorch, each at the same sizes.

PyTorch's come first: what hangs in massact then leaves what it would be held against.
"""

from dataclasses import dataclass

from job import Job
from records import Records, first_line
from sizes import Micro, micro


@dataclass(frozen=True)
class Operation:
    """One process of `massact bench`: after a failure on the card nothing else runs in it."""

    # Of the option --parts, and further options.
    arguments: tuple[str, ...]
    # Of the twin, and its sizes; none where PyTorch has no such thing.
    twin: str = ""
    sizes: tuple[dict, ...] = ()


def measure(job: Job, records: Records, operations: list[Operation]) -> None:
    if twins := imported(records):
        for operation in operations:
            for sizes in operation.sizes:
                time_twin(job, records, twins, operation.twin, sizes)
    for done, operation in enumerate(operations):
        label = "massact " + " ".join(operation.arguments)
        # One that hangs leaves time for those after it.
        seconds = 2 * job.left() / (len(operations) - done + 1)
        if seconds < 1:
            records.not_run(label, "no time was left")
            continue
        arguments = ["bench", "--parts", *operation.arguments, *micro(job).arguments, *job.where]
        document = records.attempt(label, lambda: job.json(*arguments, seconds=seconds))
        for ours in document["measurements"] if document else ():
            note(records, ours, operation)


def imported(records: Records):
    try:
        import twins
    except (ImportError, AttributeError) as error:
        # An old PyTorch lacks names.
        records.not_run("operations of PyTorch", str(error))
        return None
    return twins


def time_twin(job: Job, records: Records, twins, name: str, sizes: dict) -> None:
    from clock import seconds

    title = f"torch {titled(name, sizes)}"
    try:
        for variant, call in twins.TWINS[name](job, sizes):
            label = f"{title} {variant}".rstrip()
            try:
                best, median = seconds(call, job.device)
            except RuntimeError as error:
                records.not_run(label, first_line(str(error)))
                continue
            records.measured(label, best, median=median, sizes=sizes)
    except RuntimeError as error:
        # No room for its operands, say.
        records.not_run(title, first_line(str(error)))


def note(records: Records, ours: dict, operation: Operation) -> None:
    best, median, sizes = ours["best_seconds"], ours["median_seconds"], ours["shape"]
    title = titled(ours["name"], sizes)
    records.measured(f"massact {title}", best, ours["rate"] * best, ours["unit"], median=median, sizes=sizes)
    if ours["name"] == operation.twin and sizes not in operation.sizes:
        records.check(f"{title} at the sizes of PyTorch's", False, f"{sizes}, not in {operation.sizes}")


def titled(name: str, sizes: dict) -> str:
    """Its name, with the size that sets it apart from others of this name."""
    if "head_dim" in sizes:
        return f"{name} {sizes['head_dim']}"
    if "out" in sizes:
        return f"product {sizes['in']}x{sizes['out']}"
    return name


# --- the operations ---------------------------------------------------------------------


def rowwise(part: str, size: Micro, columns: int) -> Operation:
    sizes = {"sequences": size.sequences, "tokens": size.tokens, "columns": columns}
    return Operation((part,), part.replace("-", "_"), (sizes,))


def products(size: Micro, on_card: bool) -> Operation:
    """With the fastest of cuBLASLt's algorithms, as the walk has them."""
    rows = size.sequences * size.tokens
    widths = ((size.hidden, size.hidden), (size.hidden, size.inner), (size.inner, size.hidden))
    sizes = tuple({"rows": rows, "in": columns, "out": out} for columns, out in widths)
    return Operation(("product", *(("--tune",) if on_card else ())), "product", sizes)


def joined(on_card: bool) -> Operation:
    """Passes over memory that massact makes in one, each beside those that it stands for."""
    return Operation(("joined", *(("--tune",) if on_card else ())))


def attention(size: Micro, head_dim: int) -> Operation:
    sizes = {
        "sequences": size.sequences,
        "tokens": size.tokens,
        "heads": max(1, size.hidden // head_dim),
        "head_dim": head_dim,
    }
    return Operation(("attention", "--head-dims", str(head_dim)), "attention", (sizes,))
