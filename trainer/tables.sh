#!/usr/bin/env bash
# Every policy of TABLES.md, and every search behind its tables, as many at a time as there are cores. What is finished is
# kept: a second call goes on where a first was stopped.
#
#   trainer/tables.sh train FOLDER                 pool, trajectories, variants, specialists, soups, GRPO: FOLDER/policies
#   trainer/tables.sh search FOLDER SET …          Tables A and B over these sets' test splits: FOLDER/runs
#   trainer/tables.sh tune FOLDER NAME ARGUMENT …  one policy of `train`: what `orion-train sft` is to do otherwise
#   trainer/tables.sh table FOLDER SET TABLE       one table of `search`, or `archetypes`, or `specialists`
#
# Built before: cargo build --release -p orion-server -p orion-trainer. DATA says where the sets are, SEEDS which seeds and
# LIMIT how many queries a table has.
set -euo pipefail
what="${1:?train, search, tune or table}"
mkdir -p "${2:?a folder}/policies"
folder="$(cd "$2" && pwd)"
shift 2
cd "$(dirname "$0")/.."
root="$PWD"
script="$root/trainer/tables.sh"
data="$(cd "${DATA:-../shared/data}" && pwd)"
archetypes() { grep -o '"archetype":"[^"]*"' "$folder/all.jsonl" | cut -d '"' -f 4 | sort -u; }
train() { "$root/target/release/orion-train" "$@"; }

# One line of arguments for the script itself is one job. A thread each is quickest: no operation waits for another's.
in_parallel() { CANDLE_NUM_THREADS=1 RAYON_NUM_THREADS=1 xargs -P "$(nproc)" -L 1 "$script"; }

case "$what" in
  train)
    if [ ! -f "$folder/all.jsonl" ]; then
      pool=(pool make "$folder/pool.jsonl" --data "$data" --train-queries 90 --held-out-queries 15)
      train "${pool[@]}" --source rules --draws 2
      train "${pool[@]}" --source policy
      train synth "$folder/pool.jsonl" --data "$data" --out "$folder/all.part" --walks 1 --most-walks 3
      mv "$folder/all.part" "$folder/all.jsonl"
    fi
    {
      echo tune "$folder" sft
      echo tune "$folder" curriculum --order curriculum
      echo tune "$folder" no-think --format no-think
      echo tune "$folder" no-marker --format no-marker
      for archetype in $(archetypes); do
        echo tune "$folder" "$archetype" --archetype "$archetype" --steps 20
      done
    } | in_parallel
    specialists=()
    for archetype in $(archetypes); do specialists+=(--model "$folder/policies/$archetype"); done
    for method in linear exponential; do
      [ -d "$folder/policies/soup-$method" ] ||
        train soup --method "$method" "${specialists[@]}" --by-archetype --out "$folder/policies/soup-$method"
    done
    if [ ! -d "$folder/policies/grpo" ]; then
      train grpo --model "$folder/policies/soup-linear" --sets scifact --documents 1500 --train-queries 300 \
        --data "$data" --look-up chosen --rate 1e-4 --queries 2 --steps 120 --out "$folder/tuned/grpo" --resume
      cp -r "$folder/tuned/grpo/final" "$folder/policies/grpo"
    fi
    ;;
  tune)
    name="${1:?a name}"
    shift
    [ -d "$folder/policies/$name" ] && exit
    train sft --model host/policy/nano --data "$folder/all.jsonl" --config trainer/tables.toml \
      --out "$folder/tuned/$name" --resume "$@"
    cp -r "$folder/tuned/$name/final" "$folder/policies/$name"
    ;;
  search)
    for set in "$@"; do
      for table in beam line oracle; do echo table "$folder" "$set" "$table"; done
    done | in_parallel
    ;;
  table)
    set="${1:?a set}" table="${2:?a table}"
    line=(--turns 4 --beam 1 --width 1)
    stages="beam@untrained,beam,beam@sft,beam@curriculum,beam@no-think,beam@no-marker,beam@soup-linear,beam@grpo"
    case "$table" in
      beam) how=(--control hybrid --strategy lexical,dense,hybrid,rm3,router,blind,beam,beam@grpo) ;;
      line) how=(--control hybrid "${line[@]}" --strategy "hybrid,blind,$stages") ;;
      oracle) how=(--control dense "${line[@]}" --strategy "dense,blind,$stages" --paper-protocol) ;;
      archetypes) how=(--control hybrid --turns 5 --strategy "hybrid,$(archetypes | paste -sd ,)") ;;
      specialists) how=(--control hybrid "${line[@]}" --strategy "hybrid,beam,$(archetypes | sed 's/^/beam@/' | paste -sd ,)") ;;
      *) echo "$0: expected beam, line, oracle, archetypes or specialists, got $table" >&2 && exit 2 ;;
    esac
    # Policies are named by where they are.
    cd "$folder/policies"
    "$root/target/release/orion" --quiet --threads 1 --data-dir "$root/.orion" --models-dir "$root/models" eval \
      --data "$data/$set" --seeds "${SEEDS:-1,2,3}" --limit-queries "${LIMIT:-100}" "${how[@]}" \
      --out "$folder/runs/$table-$set"
    ;;
esac
