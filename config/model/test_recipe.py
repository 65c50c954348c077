"""Tests of the recipe's own parts, against plain restatements of what they should say: `make test-recipe`."""

import pathlib
import random
import re
import tempfile
import unittest

import torch
from torch import nn

import asks
import convert
import draft
import lessons
import restore
import shape
import tokens
import train

HERE = pathlib.Path(__file__).parent


def thing(type_, place, colour="red", pose="standing", box=(0.4, 0.4, 0.5, 0.5)):
    return dict(type=type_, place=place, colour=colour, pose=pose, box=list(box))


def yard(*things):
    kinds = dict(people=("person",), vehicles=("car", "van"), animals=("dog", "bird"))
    worn, painted = ({t["colour"] for t in things if t["type"] in kinds[k]} for k in ("people", "vehicles"))
    return dict({k: sum(t["type"] in of for t in things) for k, of in kinds.items()}, things=list(things), light="day", weather="clear", gate="open", dock="closed", bays_free=2, hazard="none",
                not_worn=[c for c in asks.CLOTHES if c not in worn], not_painted=[c for c in asks.PAINTS if c not in painted])


FULL = yard(thing("person", "gate", "red", "walking"), thing("person", "dock", "vest"), thing("person", "yard", "blue", "lying"), thing("car", "bay", "white", "parked"),
            thing("van", "fire_lane", "green", "driving"), thing("dog", "yard", "brown"), thing("box", "yard", "brown"))
YARDS = [yard(), FULL, yard(thing("person", "door", "black")), yard(thing("car", "dock", "red", "parked"), thing("bag", "gate", "blue"))]

WHERE = {"by the gate": "gate", "at the gate": "gate", "at the emergency exit": "door", "in front of the emergency exit": "door", "on the dock": "dock", "at the dock": "dock",
         "at the loading dock": "dock", "in the fire lane": "fire_lane", "in a parking bay": "bay"}


def understood(ask, truth):
    """Whether what is asked is so, from the words alone: read from the end, place, colour or vest, noun, and whether it is turned round."""
    things = truth["things"]
    words = ask.rstrip("?")
    two = re.fullmatch(r"(?:Is there|Are there both|Do you see) an? (\w+) (and|or) an? (\w+)", words)
    of = {"person": ("person",), "vehicle": ("car", "van"), "animal": ("dog", "bird")}
    if two:
        a, b = (any(t["type"] in of.get(noun, (noun,)) for t in things) for noun in two.group(1, 3))
        return a and b if two.group(2) == "and" else a or b
    if any(re.search(rf"\b{noun}\b", words) for noun in asks.ABSENT + asks.HELD_BACK):
        return False
    is_no = bool(re.search(r"\bno\b(?! safety)|\bnobody\b", words))
    for place_words, place in WHERE.items():
        if words.endswith(place_words):
            things = [t for t in things if t["place"] == place]
    for pose in ("lying", "walking", "standing"):
        if re.search(rf"\b{pose}\b", words):
            things = [t for t in things if t["pose"] == pose]
    noun = next((n for n in ("car", "van", "vehicle") if re.search(rf"\b{n}\b", words)), "person")
    things = [t for t in things if t["type"] in of.get(noun, (noun,))]
    if re.search(r"without|wears no", words):
        things = [t for t in things if t["colour"] != "vest"]
    elif re.search(r"vest", words):
        things = [t for t in things if t["colour"] == "vest"]
    for colour in {*asks.CLOTHES, *asks.PAINTS}:
        if re.search(rf"\b{colour}\b", words):
            things = [t for t in things if t["colour"] == colour]
    return (not things) if is_no else bool(things)


class Asks(unittest.TestCase):
    def test_answers_are_what_the_words_say(self):
        rng = random.Random(7)
        n = dict(yes=0, no=0)
        for i in range(20_000):
            truth = YARDS[i % len(YARDS)]
            ask, answer = asks.draw(truth, rng, is_held_out=i % 2 == 1)
            self.assertEqual(answer, "yes" if understood(ask, truth) else "no", f"{ask} of {truth['things']}")
            n[answer] += 1
        self.assertGreater(min(n.values()), 4000, n)  # one who says the same to everything is wrong

    def test_held_back_words_are_never_learned(self):
        rng = random.Random(8)
        learned = " ".join(asks.draw(FULL, rng)[0] for _ in range(5000))
        for noun in asks.HELD_BACK:
            self.assertNotRegex(learned, rf"\b{noun}\b")


class Labels(unittest.TestCase):
    SIZE = (128, 64)  # 4 x 2 tokens

    def test_a_thing_is_learned_where_its_middle_is(self):
        truth = yard(thing("person", "gate", box=(0.5, 0.5, 0.75, 1.0)))  # fills the token of row 1, column 2
        labels = lessons.Labels([truth], self.SIZE)
        (picture, kind, group, attributes, tokens), = labels.things
        self.assertEqual((picture, lessons.TYPES[kind], group), (0, "person", 0))
        self.assertEqual([lessons.COLOURS[attributes[0]], lessons.POSES[attributes[1]], lessons.PLACES[attributes[2]]], ["red", "standing", "gate"])
        self.assertEqual([t for t, _ in tokens], [1 * 4 + 2])
        count, learned = labels.assign(torch.zeros(1, 8, len(lessons.TYPES), 2))
        self.assertEqual(count.sum().item(), 1)
        self.assertEqual(count[0, 6, 0].item(), 1)
        self.assertEqual(learned[0, 6, 0].tolist(), attributes)
        # its four patches follow one another in the tower's order; the last of them holds the middle
        touched = labels.patch[0].view(8, 4, 2, len(lessons.TYPES))[:, :, 0, 0]
        self.assertEqual(touched.nonzero().tolist(), [[6, i] for i in range(4)])
        self.assertEqual(labels.patch[0].view(8, 4, 2, len(lessons.TYPES))[:, :, 1, 0].nonzero().tolist(), [[6, 3]])
        self.assertEqual(labels.told[0].tolist(), [1, 0, 0, 0])
        right = lessons.Labels([yard(thing("person", "gate", box=(0.625, 0.5, 0.75, 1.0)))], self.SIZE)  # its right half only: row by row, the second and the fourth
        self.assertEqual(right.patch[0].view(8, 4, 2, len(lessons.TYPES))[6, :, 0, 0].tolist(), [0, 1, 0, 1])

    def test_the_tower_chooses_between_neighbours_and_nothing_is_counted_twice(self):
        truth = yard(thing("dog", "yard", "brown", box=(0.4, 0.0, 0.6, 0.5)), thing("dog", "yard", "white", box=(0.1, 0.0, 0.15, 0.5)))  # the first on the edge of columns 1 and 2
        labels = lessons.Labels([truth], self.SIZE)
        dog = lessons.TYPES.index("dog")
        for chosen in (1, 2):
            logits = torch.zeros(1, 8, len(lessons.TYPES), 2)
            logits[0, chosen, dog] = 5
            count, attributes = labels.assign(logits)
            self.assertEqual(count[0, :, dog].nonzero().flatten().tolist(), [0, chosen])
            self.assertEqual(lessons.COLOURS[attributes[0, chosen, 2, 0]], "brown")
        nearer = lessons.Labels([yard(thing("dog", "yard", "brown", box=(0.4, 0.0, 0.56, 0.5)))], self.SIZE)  # nearer to column 1: by 0.16 of a token's side
        for lead, best in ((0.0, 1), (0.2, 1), (0.5, 2)):  # of column 2, in logits
            logits = torch.zeros(1, 8, len(lessons.TYPES), 2)
            logits[0, 2, dog] = lead
            self.assertEqual(nearer.assign(logits)[0][0, :, dog].nonzero().flatten().tolist(), [best])
        two = lessons.Labels([yard(*[thing("bird", "yard", box=(0.05, 0.1, 0.2, 0.4))] * 2)], self.SIZE)
        count, attributes = two.assign(torch.zeros(1, 8, len(lessons.TYPES), 2))
        self.assertEqual(count[0, 0, lessons.TYPES.index("bird")].item(), 2)
        self.assertEqual(attributes[0, 0, 2].tolist(), [-1, -1, -1])  # of two of them nobody asks the colour


class Draft(unittest.TestCase):
    IMAGE = 9

    def guessing(self, of):
        """A block that guesses for slot p what `of` says, as sure as can be."""
        class Guess(nn.Module):
            def forward(self, embeddings, hidden, cos_sin, mask):
                return torch.stack([of(p) for p in range(embeddings.shape[1])])[None] * 100

        return Guess()

    def setUp(self):
        torch.manual_seed(1)
        self.text = nn.Module()
        self.text.embed_tokens = nn.Embedding(10, 10)
        self.text.embed_tokens.weight.data = torch.eye(10)  # a row is the head's own word
        self.text.rotary_emb = lambda x, positions: None
        self.ids = torch.tensor([[1, 9, 9, 2, 3, 4, 5, 6]])
        self.labels = torch.tensor([[-1, -1, -1, -1, 4, 5, 6, 7]])  # the answer's tokens are 4, 5, 6, 7: after 3
        choice = [0, 0, 0, 0, 4, 5, 8, 7]  # what the trunk says after each token: not always what the lesson says
        self.hidden = torch.eye(10)[choice][None]
        self.positions = torch.arange(8).expand(3, 1, 8)

    def loss(self, of):
        return draft.loss(self.guessing(of), self.text, self.ids, self.labels, self.hidden, self.positions, self.IMAGE)

    def test_slots_guess_what_the_trunk_says_one_token_later(self):
        loss, accepted = self.loss(lambda p: self.hidden[0, p + 1])
        self.assertEqual(accepted.tolist(), [True] * 3)  # 5, 8, 7: the answer's first token has the trunk itself
        self.assertLess(loss.item(), 1e-3)
        _, shifted = self.loss(lambda p: self.hidden[0, p])
        self.assertEqual(shifted.tolist(), [False] * 3)
        _, told = self.loss(lambda p: torch.eye(10)[max(self.labels[0, p + 1], 0)])  # the lesson's word where the trunk would say another
        self.assertEqual(told.tolist(), [True, False, True])

    def test_no_slot_sees_a_picture_or_what_comes_later(self):
        *_, mask = draft.inputs(self.text, self.ids, self.hidden, self.positions, self.IMAGE)
        for p in range(7):
            seen = [q for q in range(7) if mask[0, 0, p, q]]
            self.assertEqual(seen, [q for q in range(p + 1) if q == p or self.ids[0, q + 1] != self.IMAGE])


class Restore(unittest.TestCase):
    def test_what_was_converted_comes_back(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            tokens.restore(HERE / "heron.gguf", folder / "tokenizer.json")
            made = tokens.Tokens(folder / "tokenizer.json")
            model, again = shape.build(made, 3), shape.build(made, 4)
            block, drafted = (draft.Draft(model.config.text_config) for _ in range(2))
            for p in [*model.parameters(), *block.parameters()]:
                p.data += 0.02 * torch.randn_like(p)  # norms and biases are not what they begin with
            train.write_checkpoint(folder / "checkpoint", model, block.state_dict(), folder / "tokenizer.json")
            files = [folder / "heron.gguf", folder / "mmproj-heron.gguf"]
            convert.convert(folder / "checkpoint", *files, "f32", "f32")
            restore.restore(again, drafted, *files)
            for one, other in ((model, again), (block, drafted)):
                was = one.state_dict()
                for name, value in other.state_dict().items():
                    torch.testing.assert_close(value, was[name], rtol=1e-6, atol=1e-6, msg=lambda m: f"{name}: {m}")


class Muon(unittest.TestCase):
    def test_in_float32_it_makes_what_it_makes_in_bfloat16(self):
        from torch.optim import _muon

        torch.manual_seed(0)
        for of in ((24, 64), (64, 24), (24, 24)):
            gradient = torch.randn(of)
            given = (gradient, (3.4445, -4.775, 2.0315), 5, 1e-7)
            theirs, ours = _muon._zeropower_via_newtonschulz(*given).float(), train.orthogonal_f32(*given)
            self.assertEqual(theirs.shape, ours.shape)
            self.assertLess(((theirs - ours).norm() / ours.norm()).item(), 0.03)  # bfloat16 has 8 bits, and there are five steps


class Mean(unittest.TestCase):
    def test_what_is_put_is_the_mean_of_what_was_added(self):
        layer = nn.Linear(3, 2)
        kept, seen = train.Mean(layer, every=2), []
        for step in range(1, 8):
            with torch.no_grad():
                layer.weight += torch.randn_like(layer.weight)
            kept.add()
            if step % 2 == 0:
                seen.append(layer.weight.detach().clone())
            if step == 5:  # saved, and gone on with
                state, kept = kept.state_dict(), train.Mean(layer, every=2)
                kept.load_state_dict(state)
        kept.put()
        torch.testing.assert_close(layer.weight.detach(), torch.stack(seen).mean(0))

    def test_of_nothing_it_leaves_the_weights(self):
        layer = nn.Linear(3, 2)
        was = layer.weight.detach().clone()
        train.Mean(layer).put()
        torch.testing.assert_close(layer.weight.detach(), was)


if __name__ == "__main__":
    unittest.main()
