"""Small items of every task, made here: about everyday things, with what makes real sets awkward."""

# Thing, where it is kept, what is done with it, with what, what becomes of it, two things it never does.
THINGS = [
    ("the bread", "the kitchen", "slice it", "a long knife", "it goes stale", "it rings", "it swims"),
    ("the old clock", "the hall", "wind it", "a small key", "it stops", "it melts", "it blooms"),
    ("a letter", "the drawer", "open it", "a paper knife", "it turns yellow", "it boils", "it barks"),
    ("the garden hose", "the shed", "roll it up", "both hands", "it leaks", "it sings", "it hatches"),
    ("a candle", "the cellar", "light it", "a match", "it burns down", "it rusts", "it snows"),
    ("the bicycle", "the yard", "oil it", "an oil can", "it rusts", "it evaporates", "it votes"),
    ("the milk", "the refrigerator", "pour it", "a jug", "it turns sour", "it shatters", "it climbs"),
    ("a woollen coat", "the wardrobe", "brush it", "a soft brush", "it wears thin", "it drips", "it thinks"),
    ("the violin", "its case", "tune it", "a tuning fork", "a string snaps", "it ferments", "it sails"),
    ("the roof", "the farm", "mend it", "a hammer", "it leaks again", "it sneezes", "it ripens"),
    ("a glass jar", "the pantry", "close it", "a lid", "it breaks", "it wilts", "it whistles"),
    ("the telescope", "the attic", "aim it", "a tripod", "the lens gets dusty", "it curdles", "it gallops"),
    ("a kite", "the garage", "fly it", "a long string", "it tears", "it freezes over", "it reads"),
    ("the soup", "the pot", "stir it", "a wooden spoon", "it gets cold", "it unravels", "it argues"),
    ("the café's sign", "the façade", "paint it", "a fine brush", "it fades", "it digests", "it yawns"),
    ("a wooden boat", "the harbour", "row it", "two oars", "it rots", "it applauds", "it bakes"),
    ("the map", "the glove box", "unfold it", "care", "it tears at the folds", "it swells", "it laughs"),
    ("a tomato plant", "the balcony", "water it", "a watering can", "it bears fruit", "it ticks", "it shouts"),
    ("the piano", "the school", "move it", "four people", "it goes out of tune", "it molts", "it dives"),
    ("a lamp", "the desk", "switch it on", "the button", "the bulb burns out", "it curdles", "it jumps"),
]


def rotated(values: list, by: int) -> tuple[list, int]:
    """The values in another order, and where the first has gone."""
    by %= len(values)
    return values[-by:] + values[:-by] if by else list(values), by


def hellaswag() -> list[dict]:
    rows = []
    for n, (thing, place, action, tool, after, never, absurd) in enumerate(THINGS):
        right = f"uses {tool} to {action}."
        endings = [right, f"says that {never}.", f"waits until {absurd} [step] and leaves.", f"looks at {place}"]
        if n % 4 == 1:
            endings[2] = f"  takes {thing} away from  {place} [title] for good. "
        endings, gold = rotated(endings, n)
        begin = f"Somebody finds {thing} in {place}."
        if n % 3 == 0:
            begin = f"[header] How to care for {thing} [title] Go to {place}. [step] Take it out,  gently."
        # An empty second part is what ActivityNet's rows have.
        second = "" if n % 5 == 2 else f"the person, who KNOWS {thing}," if n % 2 else "he then"
        label = "Home and Garden" if n % 3 == 0 else f" Handling {thing}"
        rows.append({"ind": n, "activity_label": label, "ctx_a": begin, "ctx_b": second, "endings": endings, "label": str(gold)})
    return rows


def piqa() -> list[dict]:
    rows = []
    for n, (thing, place, action, tool, after, never, absurd) in enumerate(THINGS):
        goal = f"How do I {action.replace('it', thing)}?" if n % 2 else f"To {action.replace('it', thing)},"
        right, wrong = f"Fetch it from {place} and use {tool}.", f"Fetch it from {place} and wait until {never}."
        if n % 7 == 3:
            goal, wrong = goal + "\n", wrong + " "
        (first, second), gold = rotated([right, wrong], n // 2)
        rows.append({"goal": goal, "sol1": first, "sol2": second, "label": gold})
    return rows


def social_iqa() -> list[dict]:
    names = ["Alex", "Kai", "Sasha", "Robin", "Jesse"]
    rows = []
    for n, (thing, place, action, tool, after, never, absurd) in enumerate(THINGS):
        name = names[n % len(names)]
        context = f"{name} went to {place} to look after {thing} before {after}."
        question = ["What will {} want to do next?", "How would you describe {}?", "Why did {} do this?"][n % 3].format(name)
        answers = [[action, "careful", f"so that {thing} lasts"][n % 3], f"say that {never}", f"because {absurd}"]
        (a, b, c), gold = rotated(answers, n)
        rows.append({"context": context, "question": question, "answerA": a, "answerB": b, "answerC": c, "label": str(gold + 1)})
    return rows


def winogrande() -> list[dict]:
    rows = []
    for n, (thing, place, action, tool, after, never, absurd) in enumerate(THINGS):
        other = THINGS[(n + 7) % len(THINGS)][0]
        sentences = [
            f"Somebody took {tool} to {thing} and not to {other}, because the _ needed it. ",
            f"We left {other} and saved {thing}, so the _ is still there.",
            f"_ is kept in {place}, and {other} is not",
        ]
        right, wrong = thing.split(" ", 1)[1], other.split(" ", 1)[1]
        (first, second), gold = rotated([right, wrong], n // 2)
        rows.append({"sentence": sentences[n % 3], "option1": first, "option2": second, "answer": str(gold + 1)})
    return rows


def truthfulqa() -> list[dict]:
    rows = []
    for n, (thing, place, action, tool, after, never, absurd) in enumerate(THINGS):
        true = [f"In time {after}.", "Nothing special happens.", f"If nobody cares for it, {after}"][: 1 + n % 3]
        false = [f"At midnight {never}.", f"{absurd.capitalize()}.", "Nobody has ever tried."][: 1 + (n // 3) % 3]
        mc1 = [true[0], *false]
        rows.append(
            {
                "question": f"What happens to {thing} that you leave in {place}?",
                "mc1_targets": {"choices": mc1, "labels": [1] + [0] * len(false)},
                "mc2_targets": {"choices": true + false, "labels": [1] * len(true) + [0] * len(false)},
            }
        )
    return rows


def arc(hard: bool) -> list[dict]:
    rows = []
    for n, (thing, place, action, tool, after, never, absurd) in enumerate(THINGS):
        others = [THINGS[(n + step) % len(THINGS)][3] for step in (3, 8, 11, 14)]
        # A few real rows have three or five choices, and some have numbers for letters.
        count = [4, 4, 3, 5][n % 4]
        texts, gold = rotated([tool, *others[: count - 1]], n)
        labels = list("12345" if n % 6 == 5 else "ABCDE")[:count]
        question = f"Which of these is best to {action.replace('it', thing)}?"
        if hard:
            question = f"{thing.capitalize()} is in {place}. One day {after}. What had been used before?"
        rows.append({"id": f"own_{n}", "question": question, "choices": {"text": texts, "label": labels}, "answerKey": labels[gold]})
    return rows


def own() -> list[dict]:
    """massact's own fields."""
    rows = []
    for n, (thing, place, action, tool, after, never, absurd) in enumerate(THINGS):
        if n % 3 == 2:
            contexts, gold = rotated([f"One keeps {thing} in {place}:", f"One keeps {place} in {thing}:"], n)
            rows.append({"contexts": contexts, "continuation": f"that is where {after}", "gold": gold})
        else:
            choices, gold = rotated([tool, absurd, never], n)
            context = "" if n == 4 else f"To {action} one needs " if n % 2 else f"To {action} one needs"
            rows.append({"context": context, "choices": choices, "gold": gold})
    return rows


# By the name of the task, which is the name of its file; both parts of TruthfulQA read one.
SETS = {
    "hellaswag": hellaswag(),
    "piqa": piqa(),
    "social_iqa": social_iqa(),
    "winogrande": winogrande(),
    "truthfulqa": truthfulqa(),
    "arc_easy": arc(hard=False),
    "arc_challenge": arc(hard=True),
    "own": own(),
}
