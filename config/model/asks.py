"""Questions that rules put together, made from a lesson's truth: two conditions at once, a negation, a thing that this world has not. pipeline/scene_questions.c asks about one condition at a time."""

# What pipeline/yard_*.c draws nowhere: no tree, barrel, fence, lamp, bin, wall, sky.
ABSENT = ["bicycle", "cyclist", "motorcycle", "truck", "lorry", "bus", "train", "tram", "forklift", "crane", "tractor", "trailer", "boat", "ship", "aeroplane", "helicopter", "drone", "scooter",
          "pram", "wheelchair", "ladder", "pallet", "chair", "table", "snowman", "horse", "cow", "cat", "sheep", "pig", "bear", "fox", "rat", "snake", "elephant", "weapon", "gun",
          "knife", "umbrella", "ball", "phone", "computer", "flag", "tent", "statue", "fountain", "monkey", "deer", "robot", "kite", "balloon", "piano", "sofa", "rabbit", "skateboard"]
HELD_BACK = ["goat", "camel", "digger", "submarine", "canoe", "rocket", "guitar", "fridge", "tiger", "mattress"]  # asked of held-out lessons only

AT = {"person": {"gate": ("at the gate", "by the gate"), "door": ("at the emergency exit", "in front of the emergency exit"), "dock": ("at the dock", "at the loading dock", "on the dock")},
      "vehicle": {"dock": ("at the dock", "at the loading dock"), "fire_lane": ("in the fire lane",), "bay": ("in a parking bay",)}}
CLOTHES = ("red", "blue", "green", "yellow", "white", "black")  # that are asked for
PAINTS = ("red", "blue", "green", "white", "black", "grey")
IN_COLOUR = ("person in %", "person dressed in %", "person in a % jacket")
VEST = ("person in a safety vest", "person wearing a safety vest", "person with a safety vest", "person in a high-visibility vest")
NO_VEST = ("person without a safety vest", "person without a vest", "person who wears no safety vest")


def some(things, kind):
    return [t for t in things if (t["type"] == "person") == (kind == "person") and t["type"] in ("person", "car", "van")]


def colour_of(things, colours, absent, rng):
    """Half of the time one that there is; otherwise one that nothing there could be taken for. None: there is none of either."""
    there = [t["colour"] for t in things if t["colour"] in colours]
    return rng.choice(there) if there and (rng.random() < 0.5 or not absent) else rng.choice(absent) if absent else None


def who(truth, rng):
    """A noun phrase, and the things of the picture that it fits."""
    things = truth["things"]
    if rng.random() < 0.6:
        people, is_vest = some(things, "person"), rng.choice((True, False, None, None, None))
        if is_vest is not None:
            return "person", rng.choice(VEST if is_vest else NO_VEST), [t for t in people if (t["colour"] == "vest") == is_vest]
        colour = colour_of(people, CLOTHES, truth["not_worn"], rng)
        if not colour:
            return "person", "person", people
        return "person", rng.choice(IN_COLOUR).replace("%", colour), [t for t in people if t["colour"] == colour]
    vehicles = some(things, "vehicle")
    noun = rng.choice(("car", "van", "vehicle"))
    of_noun = [t for t in vehicles if noun in ("vehicle", t["type"])]
    colour = colour_of(of_noun, PAINTS, truth["not_painted"], rng)
    if not colour or (rng.random() < 0.3 and noun != "vehicle"):
        return "vehicle", noun, of_noun
    return "vehicle", f"{colour} {noun}", [t for t in of_noun if t["colour"] == colour]


def asked(phrase, is_so, rng):
    """A question about whether there is such a thing, and its answer: plain, or turned round. phrase: with its place."""
    if rng.random() < 0.3:
        return rng.choice((f"Is there no {phrase}?", f"Is no {phrase}?")), not is_so
    return rng.choice((f"Is there a {phrase}?", f"Is a {phrase}?", f"Do you see a {phrase}?")), is_so


def at_place(truth, rng):
    """A kind, a colour or none, and a place. Asked where either answer is likely."""
    kind, phrase, fit = who(truth, rng)
    places = AT[kind]
    here = [t["place"] for t in fit if t["place"] in places]
    near = [t["place"] for t in some(truth["things"], kind) if t["place"] in places]
    draw = rng.random()
    place = rng.choice(here) if here and draw < 0.5 else rng.choice(near) if near and draw < 0.8 else rng.choice(list(places))
    return asked(f"{phrase} {rng.choice(places[place])}", place in here, rng)


def nobody(truth, rng):
    kind = rng.choice(("person", "person", "vehicle"))
    place = rng.choice(list(AT[kind]))
    words = rng.choice(AT[kind][place])
    is_so = any(t["place"] == place for t in some(truth["things"], kind))
    if kind == "vehicle":
        return rng.choice((f"Is no vehicle {words}?", f"Is there no vehicle {words}?")), not is_so
    return rng.choice((f"Is nobody {words}?", f"Is there nobody {words}?", f"Is there no person {words}?", f"Is no one {words}?")), not is_so


def posed(truth, rng):
    """What somebody of a colour does."""
    pose, words = rng.choice((("lying", "lying on the ground"), ("walking", "walking"), ("standing", "standing")))
    people = some(truth["things"], "person")
    colour = colour_of(people, CLOTHES, truth["not_worn"], rng)
    if not colour:
        return f"Is a person {words}?", any(t["pose"] == pose for t in people)
    return f"Is a person in {colour} {words}?", any(t["colour"] == colour and t["pose"] == pose for t in people)


def both(truth, rng):
    """Two things at once."""
    counts = {"a person": truth["people"], "a vehicle": truth["vehicles"], "an animal": truth["animals"]} | {
        f"a {x}": sum(t["type"] == x for t in truth["things"]) for x in ("car", "van", "dog", "bird", "box", "bag")}
    of_it = [x for x in counts if counts[x]]
    a, b = (rng.sample(of_it, 2) if len(of_it) > 1 and rng.random() < 0.5 else rng.sample(list(counts), 2))
    if rng.random() < 0.3:
        return rng.choice((f"Is there {a} or {b}?", f"Do you see {a} or {b}?")), bool(counts[a] or counts[b])
    return rng.choice((f"Is there {a} and {b}?", f"Are there both {a} and {b}?", f"Do you see {a} and {b}?")), bool(counts[a] and counts[b])


def absent(rng, nouns):
    noun = rng.choice(nouns)
    a = "an" if noun[0] in "aeiou" else "a"
    place = rng.choice(("", "", " in the yard", " at the gate", " in the picture"))
    return rng.choice((f"Is there {a} {noun}{place}?", f"Do you see {a} {noun}{place}?", f"Is {a} {noun}{place or ' there'}?", f"Is there any {noun}{place}?")), False


SHARES = {at_place: 0.4, nobody: 0.15, posed: 0.1, both: 0.15, absent: 0.2}


def draw(truth, rng, is_held_out=False):
    """A question, and its answer: "yes" or "no"."""
    kind = rng.choices(list(SHARES), list(SHARES.values()))[0]
    ask, is_so = absent(rng, HELD_BACK if is_held_out else ABSENT) if kind is absent else kind(truth, rng)
    return ask, "yes" if is_so else "no"
