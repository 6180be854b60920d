#!/usr/bin/env bash
# Requests that schemathesis generates from the server's own description: none may end in a status of 500 or more, or in one
# that is not described. A short run of the same is among the server's tests; this one takes as long as it is told.
#
#   orion serve &                                        # on loopback, over a data folder that may be thrown away
#   tests/peers/generated_requests.sh 9200 50            # port, examples an operation
set -euo pipefail
port="${1:?expected the port of a server on 127.0.0.1}"
examples="${2:-50}"
folder="${CARGO_TARGET_DIR:-$(dirname "$0")/../../target}/tmp/client-schemathesis--4.32.5"
if [ ! -e "$folder/complete" ]; then
  python3 -m pip install --quiet --disable-pip-version-check --target "$folder" schemathesis==4.32.5
  touch "$folder/complete"
fi
export SCHEMATHESIS_HOOKS="$(dirname "$0")/../../host/server/tests/serve/generated.py"
PYTHONPATH="$folder" exec python3 -m schemathesis.cli run "http://127.0.0.1:$port/_openapi.json" \
  --checks not_a_server_error,status_code_conformance,content_type_conformance \
  --phases examples,coverage,fuzzing --max-examples "$examples" --suppress-health-check all --request-timeout 120
