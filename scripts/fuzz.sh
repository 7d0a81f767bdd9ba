#!/usr/bin/env bash
# Runs every fuzz target of the module for the time given (default 30s), one after the other.
set -euo pipefail
cd "$(dirname "$0")/.."

fuzztime=${1:-30s}
found=0
for package in $(go list ./...); do
	targets=$(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true)
	for target in $targets; do
		found=$((found + 1))
		echo "$package $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$fuzztime" "$package"
	done
done
echo "$found fuzz targets ran for $fuzztime each"
