#!/usr/bin/env bash
# One strategy in each guest language, as `orion plugin new` writes it, built and timed on its scripted world: what a
# language costs an author's users. The first run fetches the tool chains. Needs cargo, python3 with pip, node with npm.
set -euo pipefail
orion="$EXAMPLES/../orion"
for language in rust python js; do
  folder="$SCRATCH/bench-$language"
  if ! [ -f "$folder/bench-$language.wasm" ]; then
    rm -rf "$folder"
    (cd "$SCRATCH" && "$orion" plugin new "bench-$language" --lang "$language" && "$orion" plugin build "bench-$language") >&2
  fi
  cd "$folder"
  timings=$("$orion" plugin bench "bench-$language.wasm" --scenario tests/titles.toml --json)
  printf '{"name": "%s", "bytes": %s, "bench": %s}\n' "$language" "$(stat -c %s "bench-$language.wasm")" "$timings"
done
