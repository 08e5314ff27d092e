#!/usr/bin/env bash
#
# usage: tools/recording.sh [FILE]
#
# Makes the moving picture of a deployment, of the page and of the terminal, that the
# README shows: docs/pictures/deployment.webp, or FILE. A test of the page keeps the
# pictures, and img2webp puts them together. A picture is shown for as long as it was
# seen, but at most for 1 s.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."
out=$(realpath -m "${1:-docs/pictures/deployment.webp}")
"$here/system.sh" img2webp
frames=$(mktemp -d)
trap 'rm -rf "$frames"' EXIT
PAGE_FILM=$frames go test -count=1 -run TestPage_DeployInATerminal ./test/e2e/page

args=() last=''
# show FILE MILLISECONDS adds a picture.
show() { args+=(-d "$(($2 < 30 ? 30 : $2 > 1000 ? 1000 : $2))" "$1"); }
for frame in "$frames"/*.png; do
	at=$((10#$(basename "$frame" .png)))
	[[ -z $last ]] || show "$last" $((at - last_at))
	last=$frame last_at=$at
done
[[ -n $last ]] || { echo "recording: the test has left no picture" >&2; exit 1; }
# The result stays for a while.
args+=(-d 4000 "$last")
img2webp -loop 0 -min_size -lossy -q 70 -m 6 "${args[@]}" -o "$out" >/dev/null
printf '%s: %d pictures, %d KB\n' "$out" $((${#args[@]} / 3)) $(($(stat -c %s "$out") / 1000))
