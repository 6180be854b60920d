//! Drafts of folders with several modules: each language's modules in a shell do what they do in a build.
//!
//! The shells are those of the examples, which `first_minutes` makes too and which stay in the target folder.

use std::fs;

use expect_test::{Expect, expect};

use crate::{
    common::Sandbox,
    first_minutes::{has, ran},
};

/// A new plugin with these files over its own; what its draft says of a search, which has to fail with all that is to be
/// looked at.
fn said_by(language: &str, files: &[(&str, &str)], expected: &Expect) -> Sandbox {
    let sandbox = Sandbox::new();
    ran(&sandbox, "", &["plugin", "new", "modules", "--lang", language], 0);
    for (path, text) in files {
        let path = sandbox.path().join("modules").join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a source");
    }
    let run = ["plugin", "run", ".", "--query", "lens", "--policy", "none", "--json"];
    let (printed, said) = ran(&sandbox, "modules", &run, 0);
    let printed: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    expected.assert_eq(printed["degraded"]["reason"].as_str().unwrap_or(&said));
    sandbox
}

#[test]
fn modules_in_javascript_see_each_other_as_modules_do() {
    if !has("node") {
        return;
    }
    let files = [
        (
            "strategy.js",
            "import { add, count, words, shout, Named } from './lib/counter.js';
import fallback, { shown } from './lib/words.js';
export * from './lib/words.js';

const before = count;
add();
const doubled = add();

export function describe() {
  return { name: 'modules', help: 'several modules', parameters: [], options: [] };
}

export function search(request) {
  throw new Error(JSON.stringify({
    before, count, doubled, first: words.first, rest: words.rest, shout: shout('x'), same: fallback === shout,
    named: Named.called, shown, keys: Object.keys(words), receiver: (function () { return String(this); })(),
  }));
}
",
        ),
        (
            "lib/counter.js",
            "import { twice as again, default as shout } from './words.js';
export let count = 0;
export function add() { count += 1; return again(count); }
export * as words from './words.js';
export { shout };
export class Named { static called = 'named'; }
",
        ),
        (
            "lib/words.js",
            "import * as counter from './counter.js';
export const twice = (number) => number * 2;
export const [first, { second, ...rest }] = ['a', { second: 'b', third: 'c' }];
export default (text) => `${text}! ${typeof counter.add}`;
const hidden = 1;
export { hidden as shown, hidden };
",
        ),
    ];
    said_by(
        "js",
        &files,
        &expect![[
            r#"exception: Error: {"before":0,"count":2,"doubled":4,"first":"a","rest":{"third":"c"},"shout":"x! function","same":true,"named":"named","shown":1,"keys":["twice","first","second","rest","default","shown","hidden"],"receiver":"undefined"} (search@strategy.js:14:9)"#
        ]],
    );
}

#[test]
fn modules_in_python_see_each_other_as_modules_do() {
    if !has("python3") {
        return;
    }
    let strategy = r#"
"""Several modules."""
import math
import re
from collections import Counter

import parts
import parts.deep
from parts.deep import TOTAL
from wit_world.imports.about import Description


def describe():
    return Description("modules", "several modules", [], [])


def search(request):
    found = [parts.twice(4), TOTAL, parts.the_words.__file__, parts.deep.__name__]
    try:
        import json
    except ImportError as error:
        found.append(str(error))
    raise ValueError(found)
"#;
    let files = [
        ("strategy.py", strategy),
        ("parts/__init__.py", "from .words import twice\nfrom . import words as the_words\n"),
        (
            "parts/words.py",
            "from collections import Counter\n\n\ndef twice(number):\n    return 2 * number\n\n\nTOTAL = Counter(\"aab\")[\"a\"]\n",
        ),
        ("parts/deep/__init__.py", "from ..words import TOTAL\n"),
    ];
    let sandbox = said_by(
        "python",
        &files,
        &expect![[
            r#"exception: ValueError: [8, 2, '/0/parts/words.py', 'parts.deep', "No module named 'json'"] (strategy.py:23)"#
        ]],
    );
    // What fails while modules run is said with its place, at once.
    let broken = strategy.replace("def describe", "NOTHING = {}[\"frost\"]\n\n\ndef describe");
    fs::write(sandbox.path().join("modules/strategy.py"), broken).expect("a source");
    let (_, said) = ran(&sandbox, "modules", &["plugin", "run", ".", "--query", "x"], 2);
    assert!(said.contains("it last logged: KeyError: 'frost' (strategy.py:13)"), "{said}");
}
