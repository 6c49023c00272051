"""The demo's small grammar: dependency trees with heads left and right (see make_demo_data.py)."""

import random
from collections.abc import Sequence
from dataclasses import dataclass


def lexicon(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


# Words of the dependency trees.
DETERMINERS = lexicon("the a this that every some one another")
ADJECTIVES = lexicon("""old young small large green quiet heavy clever tired bright wooden narrow happy gentle
broken distant strange warm empty famous""")
NOUNS = lexicon("""teacher dog farmer river garden window letter child doctor bridge painter horse market
kitchen road tree sailor village lamp basket neighbour forest king table boat bird tower friend baker clock
shepherd hill mirror student cat singer driver house field stone""")
VERBS = lexicon("""saw followed found carried helped watched painted called remembered pushed admired visited
cleaned heard liked chased moved described touched ignored""")
MOTION_VERBS = lexicon("walked slept waited laughed worked rested sang arrived sat vanished stood smiled")
ADVERBS = lexicon("slowly often quietly again gladly carefully rarely suddenly always loudly")
PREPOSITIONS = lexicon("near behind under with without beside after before above from")


class Word:
    """A word of a dependency tree; ``governor`` is None at the root."""

    def __init__(self, form: str, upos: str, relation: str, governor: "Word | None") -> None:
        self.form, self.upos, self.relation, self.governor = form, upos, relation, governor


Case = tuple[str, str, str]  # form, upos and relation of a word before a noun


@dataclass(frozen=True)
class Grammar:
    """Draws sentences as dependency trees; with names, each of one word, every fifth noun is one of them."""

    rng: random.Random
    names: Sequence[str] = ()

    def sentence(self) -> list[Word]:
        """A sentence whose heads lie left and right, some of them far away."""
        words = self.clause("root", None, 2)
        root = next(word for word in words if word.governor is None)
        if self.rng.random() < 0.25:
            words = [*self.phrase("obl", root, 0), Word(",", "PUNCT", "punct", root), *words]
        if self.rng.random() < 0.25:
            other = self.clause("conj", root, 0)
            verb = next(word for word in other if word.governor is root)
            words += [Word(self.rng.choice(("and", "but", "or")), "CCONJ", "cc", verb), *other]
        return closed(words, root)

    def actors(self, names: Sequence[str], nested: bool) -> list[Word]:
        """A sentence that ends in "and", the second of two names, and a verb, whose subject is one of the names.

        Nested: "Norisa that saw a dog and Kitabe slept ." tells that Norisa slept; without "that" it is Kitabe. Phrases
        and further relative clauses stand in between, in both kinds alike.
        """
        first, second = (Word(name, "PROPN", "nsubj", None) for name in names)
        subject = [first, *(self.phrase("nmod", first, 0) if self.rng.random() < 0.5 else [])]
        if nested:
            words = self.clause("acl:relcl", subject[-1], 0, transitive=True)
        else:
            words = self.clause("root", None, 0, subject, transitive=True)
        root = next((word for word in words if word.governor is None), None)  # nested: the last verb
        for _ in range(self.rng.choice((0, 1, 2))):
            words += self.clause("acl:relcl", words[-1], 0, transitive=True)
        last = Word(self.rng.choice(MOTION_VERBS), "VERB", "conj" if root else "root", root)
        conjunction = Word("and", "CCONJ", "cc", last)
        second.governor = last
        if nested:
            first.governor, conjunction.governor = last, second
            second.relation, second.governor = "conj", words[-1]
            words = [*subject, *words]
        return closed([*words, conjunction, second, last], root or last)

    def phrase(self, relation: str, governor: Word | None, depth: int) -> list[Word]:
        """A preposition and a noun phrase."""
        return self.noun_phrase(relation, governor, depth, (self.rng.choice(PREPOSITIONS), "ADP", "case"))

    def noun_phrase(self, relation: str, governor: Word | None, depth: int, *before: Case) -> list[Word]:
        """A noun with determiner and adjectives; sometimes a phrase, a relative clause or a second noun follows.

        ``before`` are words that come first, as a preposition does: in Universal Dependencies they hang on the noun.
        """
        rng = self.rng
        if self.names and rng.random() < 0.2:
            noun = Word(rng.choice(self.names), "PROPN", relation, governor)
            words = [Word(*word, noun) for word in before]
        else:
            noun = Word(rng.choice(NOUNS), "NOUN", relation, governor)
            words = [Word(*word, noun) for word in before]
            words.append(Word(rng.choice(DETERMINERS), "DET", "det", noun))
            words += [Word(form, "ADJ", "amod", noun) for form in rng.sample(ADJECTIVES, rng.choice((0, 0, 1, 1, 2)))]
        words.append(noun)
        chance = rng.random() if depth else 1.0
        if chance < 0.25:
            words += self.phrase("nmod", noun, depth - 1)
        elif chance < 0.45:
            words += self.clause("acl:relcl", noun, depth - 1)
        elif chance < 0.55:
            words += self.noun_phrase("conj", noun, 0, ("and", "CCONJ", "cc"))
        return words

    def clause(
        self,
        relation: str,
        governor: Word | None,
        depth: int,
        subject: Sequence[Word] = (),
        transitive: bool = False,
    ) -> list[Word]:
        """A verb with its subject, an object or prepositional phrase behind it, and sometimes an adverb.

        Args:
            subject: its words, the head first; by default drawn, and "that" in a relative clause.
            transitive: with an object, which is then the last word; by default a matter of chance.
        """
        rng = self.rng
        with_object = transitive or rng.random() < 0.6
        verb = Word(rng.choice(VERBS if with_object else MOTION_VERBS), "VERB", relation, governor)
        adverb = [Word(rng.choice(ADVERBS), "ADV", "advmod", verb)] if rng.random() < 0.5 else []
        early = transitive or rng.random() < 0.5
        if subject:
            subject[0].governor = verb
        elif relation == "acl:relcl":
            subject = [Word("that", "PRON", "nsubj", verb)]
        else:
            subject = self.noun_phrase("nsubj", verb, depth)
        words = [*subject, *(adverb if early else []), verb]
        if with_object:
            words += self.noun_phrase("obj", verb, depth)
        elif rng.random() < 0.6:
            words += self.phrase("obl", verb, depth)
        return words + ([] if early else adverb)


def closed(words: Sequence[Word], root: Word) -> list[Word]:
    """The words with a capital first and a full stop behind them."""
    words[0].form = words[0].form[0].upper() + words[0].form[1:]
    return [*words, Word(".", "PUNCT", "punct", root)]


def conllu_block(words: list[Word], sentence_id: str) -> tuple[str, dict]:
    """A tree as CoNLL-U (what the grammar does not know left as ``_``) and as a find_head record."""
    numbers = {word: i for i, word in enumerate(words, start=1)}
    lines, tokens, pairs, text = [], [], [], ""
    for word, i in numbers.items():
        text += (" " if i > 1 and word.upos != "PUNCT" else "") + word.form
        head = numbers[word.governor] if word.governor else 0
        misc = "SpaceAfter=No" if i < len(words) and words[i].upos == "PUNCT" else "_"
        lemma, relation = word.form.lower(), word.relation
        lines.append(f"{i}\t{word.form}\t{lemma}\t{word.upos}\t_\t_\t{head}\t{relation}\t_\t{misc}")
        tokens.append({str(i): {"start": len(text) - len(word.form), "end": len(text)}})
        pairs.append({"dependent_index": i, "governor_index": head})
    block = "\n".join([f"# sent_id = {sentence_id}", f"# text = {text}", *lines, "", ""])
    return block, {"sent": text, "tokens": tokens, "pairs": pairs}
