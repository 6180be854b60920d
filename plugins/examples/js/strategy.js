// Searches, reads the titles of the first documents, and searches again with the words that most of them share.

import * as retrieval from 'orion:search/retrieval@0.1.0';
import { emit } from 'orion:search/trace@0.1.0';

// Words that say nothing of a subject.
const SHORT_WORDS =
  'a an and are as at by do does for from how in is it of on or that the to was what when who why with'.split(' ');

export function describe() {
  return {
    name: 'second-look',
    help: 'search, read the titles, search again with their words',
    parameters: [
      { name: 'read', kind: 'integer', default: '5', help: 'titles that are read' },
      { name: 'words', kind: 'integer', default: '3', help: 'words that are added' },
    ],
    options: [],
  };
}

export function search(request) {
  const given = Object.fromEntries(request.options.map(({ name, value }) => [name, value]));
  const read = Number(given.read ?? '5');
  const added = Number(given.words ?? '3');

  const first = look(0, request.query, request.k);
  const documents = retrieval.documents(first.slice(0, read).map((hit) => hit.id), 0);
  const titles = documents.filter((document) => document !== undefined).map((document) => document.title);
  const newWords = sharedWords(request.query, titles, added);
  if (newWords.length === 0) {
    emit([{ tag: 'chosen', val: 0 }]);
    return { ranking: first, confidence: NaN, options: [] };
  }

  const second = look(1, [request.query, ...newWords].join(' '), request.k);
  emit([{ tag: 'chosen', val: 0 }, { tag: 'chosen', val: 1 }]);
  return { ranking: fused([first, second]).slice(0, request.k), confidence: NaN, options: [] };
}

/** One search, and its place in the tree that `--trace` shows. */
function look(branch, text, k) {
  const retriever = 'hybrid';
  const [hits] = retrieval.search([{ text, retriever, denseWeight: 0.5, k, filter: undefined, options: [] }]);
  const parent = branch === 0 ? undefined : branch - 1;
  emit([
    { tag: 'expanded', val: { branch, parent, turn: branch + 1, think: '', query: text, retriever } },
    { tag: 'retrieved', val: { branch, hits } },
  ]);
  return hits;
}

/** Split at white space and ASCII punctuation: this engine's regular expressions know no Unicode classes. */
function words(text) {
  return text.toLowerCase().split(/[\s!-/:-@[-`{-~]+/).filter((word) => word !== '');
}

/** Words of the titles that the query does not have: those of most titles first, then alphabetically. */
function sharedWords(query, titles, most) {
  const known = new Set([...words(query), ...SHORT_WORDS]);
  const counts = new Map();
  for (const word of titles.flatMap(words)) {
    if (!known.has(word)) counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  const found = [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
  return found.slice(0, most).map(([word]) => word);
}

/** Reciprocal rank fusion. */
function fused(rankings) {
  const scores = new Map();
  for (const ranking of rankings) {
    ranking.forEach((hit, index) => scores.set(hit.id, (scores.get(hit.id) ?? 0) + 1 / (61 + index)));
  }
  const ordered = [...scores].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
  return ordered.map(([id, score]) => ({ id, score }));
}
