#!/usr/bin/env bash
# Installs what the tests need beside Go, where it is missing: one line "COMMAND PACKAGE…" each; the packages are
# installed with apt-get when the command is not found. Does nothing when all is there.
set -euo pipefail

needed=(
	'gcc gcc libc6-dev' # the race detector links with the C compiler
)

missing=()
for entry in "${needed[@]}"; do
	read -r command packages <<<"$entry"
	if ! command -v "$command" >/dev/null; then
		read -ra names <<<"$packages"
		missing+=("${names[@]}")
	fi
done
if [ ${#missing[@]} -eq 0 ]; then
	exit 0
fi

echo "testdeps: installing ${missing[*]}"
if ! command -v apt-get >/dev/null; then
	echo "testdeps: there is no apt-get here: install ${missing[*]} with the package manager of this system" >&2
	exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
	as_root=(sudo)
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
