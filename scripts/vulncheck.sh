#!/usr/bin/env bash
# Looks for known vulnerabilities in what the module uses. Fails on a finding; when the tool or its database
# can't be reached, within a minute each, says so and succeeds.
set -euo pipefail
cd "$(dirname "$0")/.."

tool=golang.org/x/vuln/cmd/govulncheck@v1.1.4
tools="$PWD/bin/tools/${tool##*@}"
output=$(mktemp)
trap 'rm -f "$output"' EXIT

skip() {
	echo "govulncheck: SKIPPED, $1:"
	tail -n 3 "$output" | sed 's/^/  /'
	exit 0
}

if [ ! -x "$tools/govulncheck" ]; then
	GOBIN="$tools" timeout 60 go install "$tool" >"$output" 2>&1 || skip 'the tool could not be installed'
fi

# Exit codes: 0 nothing found, 124 stopped by timeout, others a finding or an error.
code=0
timeout 60 "$tools/govulncheck" ./... >"$output" 2>&1 || code=$?
if [ "$code" -eq 0 ]; then
	echo 'govulncheck: nothing found'
elif [ "$code" -eq 124 ]; then
	skip 'it had no answer after 60 s'
elif grep -q 'fetching vulnerabilities' "$output"; then
	skip 'its database did not answer'
else
	cat "$output"
	exit 1
fi
