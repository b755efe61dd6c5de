"""How long each part may take.

A part has to end when it and all before it have used up their seconds: what the earlier ones left, a
later one may use, and all together never take longer than planned.
"""

# Seconds, in the order of running: what tells most comes first. Together less than seven minutes, so
# that ten minutes with a card leave room for the way there.
BUDGETS = {
    "devices": 15,
    "selftest": 40,
    "attention": 40,
    "ceilings": 15,
    "pytorch": 60,
    "walk": 45,
    "whole": 32,
    "reference": 50,
    "operations": 30,
    "other_types": 35,
    "parity": 28,
    "sanitizer": 20,
}
# What says whether the rest is worth its time.
FIRST_STAGE = ("devices", "selftest")


class Plan:
    """The parts that are wanted, and when each has to end."""

    def __init__(self, wanted: list[str], seconds: float):
        scale = seconds / sum(BUDGETS.values())
        self.budgets = {name: budget * scale for name, budget in BUDGETS.items() if name in wanted}

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {budget:.0f}" for name, budget in self.budgets.items())
        return f"plan, in seconds: {parts}; in all {sum(self.budgets.values()):.0f}"

    def allowed(self, name: str, spent: float) -> float:
        """Seconds for a part that begins when so many are spent."""
        names = list(self.budgets)
        until = sum(self.budgets[earlier] for earlier in names[: names.index(name) + 1])
        return max(until - spent, 0.0)
