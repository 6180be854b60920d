"""Searches, reads the titles of the first documents, and searches again with the words that most of them share."""

import math
import re
from collections import Counter

from wit_world import Outcome
from wit_world.imports import retrieval, trace
from wit_world.imports.about import Description, Kind, Parameter
from wit_world.imports.retrieval import Query
from wit_world.imports.trace import Event_Chosen, Event_Expanded, Event_Retrieved, Expanded, Retrieved
from wit_world.imports.types import Hit, Retriever

# Words that say nothing of a subject.
SHORT_WORDS = set(
    "a an and are as at by do does for from how in is it of on or that the to was what when who why with".split()
)


def describe():
    return Description(
        name="second-look",
        help="search, read the titles, search again with their words",
        parameters=[
            Parameter("read", Kind.INTEGER, "5", "titles that are read"),
            Parameter("words", Kind.INTEGER, "3", "words that are added"),
        ],
        options=[],
    )


def search(request):
    given = {option.name: option.value for option in request.options}
    read, added = int(given.get("read", "5")), int(given.get("words", "3"))

    first = look(0, request.query, request.k)
    documents = retrieval.documents([hit.id for hit in first[:read]], 0)
    new_words = shared_words(request.query, [document.title for document in documents if document], added)
    if not new_words:
        trace.emit([Event_Chosen(0)])
        return Outcome(first, math.nan, [])

    second = look(1, " ".join([request.query, *new_words]), request.k)
    trace.emit([Event_Chosen(0), Event_Chosen(1)])
    return Outcome(fused([first, second])[: request.k], math.nan, [])


def look(branch, text, k):
    """One search, and its place in the tree that `--trace` shows."""
    query = Query(text, Retriever.HYBRID, dense_weight=0.5, k=k, filter=None, options=[])
    [hits] = retrieval.search([query])
    parent = branch - 1 if branch else None
    expanded = Expanded(branch, parent, branch + 1, think="", query=text, retriever=Retriever.HYBRID)
    trace.emit([Event_Expanded(expanded), Event_Retrieved(Retrieved(branch, hits))])
    return hits


def words(text):
    return re.findall(r"\w+", text.lower())


def shared_words(query, titles, most):
    """Words of the titles that the query does not have: those of most titles first, then alphabetically."""
    known = set(words(query)) | SHORT_WORDS
    counts = Counter(word for title in titles for word in words(title) if word not in known)
    return sorted(counts, key=lambda word: (-counts[word], word))[:most]


def fused(rankings):
    """Reciprocal rank fusion."""
    scores = Counter()
    for ranking in rankings:
        for rank, hit in enumerate(ranking, start=1):
            scores[hit.id] += 1 / (60 + rank)
    return [Hit(id, score) for id, score in sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))]
