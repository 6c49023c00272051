"""The demo's small grammar: dependency trees with heads left and right (see make_demo_data.py)."""

import random


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


def noun_phrase(
    rng: random.Random, relation: str, governor: Word | None, depth: int, *before: tuple[str, str, str]
) -> list[Word]:
    """A noun with determiner and adjectives; sometimes a phrase, a relative clause or a second noun follows.

    ``before`` are (form, upos, relation) of words that come first, as a preposition does: in Universal
    Dependencies they hang on the noun.
    """
    noun = Word(rng.choice(NOUNS), "NOUN", relation, governor)
    words = [Word(*word, noun) for word in before]
    words.append(Word(rng.choice(DETERMINERS), "DET", "det", noun))
    words += [Word(form, "ADJ", "amod", noun) for form in rng.sample(ADJECTIVES, rng.choice((0, 0, 1, 1, 2)))]
    words.append(noun)
    chance = rng.random() if depth else 1.0
    if chance < 0.25:
        words += noun_phrase(rng, "nmod", noun, depth - 1, (rng.choice(PREPOSITIONS), "ADP", "case"))
    elif chance < 0.45:
        words += clause(rng, "acl:relcl", noun, depth - 1)
    elif chance < 0.55:
        words += noun_phrase(rng, "conj", noun, 0, ("and", "CCONJ", "cc"))
    return words


def clause(rng: random.Random, relation: str, governor: Word | None, depth: int) -> list[Word]:
    """A verb with its subject, an object or prepositional phrase behind it, and sometimes an adverb."""
    transitive = rng.random() < 0.6
    verb = Word(rng.choice(VERBS if transitive else MOTION_VERBS), "VERB", relation, governor)
    adverb = [Word(rng.choice(ADVERBS), "ADV", "advmod", verb)] if rng.random() < 0.5 else []
    early = rng.random() < 0.5
    relative = relation == "acl:relcl"
    words = [Word("that", "PRON", "nsubj", verb)] if relative else noun_phrase(rng, "nsubj", verb, depth)
    words += (adverb if early else []) + [verb]
    if transitive:
        words += noun_phrase(rng, "obj", verb, depth)
    elif rng.random() < 0.6:
        words += noun_phrase(rng, "obl", verb, depth, (rng.choice(PREPOSITIONS), "ADP", "case"))
    return words + ([] if early else adverb)


def draw_tree(rng: random.Random) -> list[Word]:
    """A sentence of the small grammar; its heads lie left and right, some of them far away."""
    words = clause(rng, "root", None, 2)
    root = next(word for word in words if word.governor is None)
    if rng.random() < 0.25:
        opening = noun_phrase(rng, "obl", root, 0, (rng.choice(PREPOSITIONS), "ADP", "case"))
        words = [*opening, Word(",", "PUNCT", "punct", root), *words]
    if rng.random() < 0.25:
        other = clause(rng, "conj", root, 0)
        verb = next(word for word in other if word.governor is root)
        words += [Word(rng.choice(("and", "but", "or")), "CCONJ", "cc", verb), *other]
    words[0].form = words[0].form.capitalize()
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
