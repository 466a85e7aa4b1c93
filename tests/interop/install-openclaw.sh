#!/bin/sh
# Installs the real OpenClaw releases that the interop suite runs against, and the Node.js that runs
# them. What is already there is left alone; what was cut short is made again.
#
# Needs npm. The folder is OPENCLAW_LAB, or target/openclaw-lab of this project.
set -eu

node_version=26.10.0
openclaw_versions='2026.5.20 2026.9.6'

project=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
lab=${OPENCLAW_LAB:-$project/target/openclaw-lab}

# install FOLDER PACKAGE@VERSION [npm option…]
install() {
    folder=$1
    package=$2
    shift 2
    if [ -e "$lab/$folder" ]; then
        return
    fi
    echo "installing $package into $lab/$folder"
    rm -rf "$lab/$folder.unfinished"
    mkdir -p "$lab/$folder.unfinished"
    # A manifest of its own, or npm installs into the nearest project above.
    echo '{ "private": true }' >"$lab/$folder.unfinished/package.json"
    (cd "$lab/$folder.unfinished" && npm install --no-audit --no-fund --loglevel=error "$@" "$package")
    mv "$lab/$folder.unfinished" "$lab/$folder"
}

command -v npm >/dev/null || {
    echo "install-openclaw.sh: npm is missing; install the packages nodejs and npm" >&2
    exit 1
}

# The package's own script fetches the program for this machine.
install n26 "node@$node_version"
for version in $openclaw_versions; do
    install "v$version" "openclaw@$version" --ignore-scripts
done

"$lab/n26/node_modules/node/bin/node" --version
for version in $openclaw_versions; do
    test -f "$lab/v$version/node_modules/openclaw/openclaw.mjs"
    echo "openclaw $version: $lab/v$version"
done
