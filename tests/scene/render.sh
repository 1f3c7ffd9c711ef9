#!/bin/sh
# Runs the given command in the scene's folder, for example: ./render.sh render scene.json out
set -eu
cd "$(dirname "$0")"
exec "$@"
