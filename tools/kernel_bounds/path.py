"""The shortest way of a warp through a kernel's machine code that does what a unit of work needs."""

import sys
from collections import deque
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / ".ci"))
from disassembly import in_loops, next_of, parse  # noqa: E402

Needs = dict[str, int]  # instructions by the beginning of their opcode, and how often the way executes them, or 0


class Flow:
    """Instructions of a kernel, and which may follow which."""

    def __init__(self, lines: list[str]):
        code, labels = parse(lines)
        self.opcodes = [opcode for opcode, _, _ in code]
        self.loops = in_loops(code, labels)
        self.steps, self.leads = [], []
        for at, (opcode, maybe, ways) in enumerate(code):
            steps = next_of(code, labels, at)
            self.leads.append(set(steps))
            # A far branch; without a label of its own it is the slow way of a division or a root.
            far = opcode.startswith("CALL") and not maybe
            self.steps.append([labels[label] for label in ways] if far else steps)
        self.came_from = [set() for _ in code]
        for at, steps in enumerate(self.steps):
            for step in steps:
                self.came_from[step].add(at)

    def reaching(self, end: int) -> set[int]:
        """What leads to an instruction."""
        found, queue = {end}, deque([end])
        while queue:
            for before in self.came_from[queue.popleft()] - found:
                found.add(before)
                queue.append(before)
        return found

    def way(self, start: int, end: int | None, needs: Needs) -> list[str] | None:
        """From `start` to what leads to `end`, or to an exit."""
        full = tuple(needs.values())
        adds = [tuple(int(opcode.startswith(word)) for word in needs) for opcode in self.opcodes]
        # Round a loop only what can come back.
        back = self.reaching(end) if end is not None else set(range(len(self.opcodes)))
        first = (start, adds[start])
        came, queue = {first: None}, deque([first])
        while queue:
            state = queue.popleft()
            at, counts = state
            done = self.opcodes[at] == "EXIT" if end is None else end in self.leads[at]
            if done and counts == full:
                path = []
                while state:
                    path.append(self.opcodes[state[0]])
                    state = came[state]
                return path[::-1]
            for step in self.steps[at]:
                # A way round passes its start once.
                if step in back and (end is None or step != start):
                    more = adds[step]
                    after = (step, counts if not any(more) else tuple(map(int.__add__, counts, more)))
                    if after not in came and all(map(int.__le__, after[1], full)):
                        came[after] = state
                        queue.append(after)
        return None

    def shortest(self, needs: Needs, looped: bool) -> list[str] | None:
        """Round a loop, begun at any instruction of the kind that `needs` names first; or through the kernel."""
        if not looped:
            return self.way(0, None, needs)
        word = next(iter(needs))
        starts = [at for at, opcode in enumerate(self.opcodes) if self.loops[at] and opcode.startswith(word)]
        ways = [path for start in starts if (path := self.way(start, start, needs))]
        return min(ways, key=len, default=None)
