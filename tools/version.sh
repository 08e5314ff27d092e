# shellcheck shell=bash
#
# Compares versions. Sourced by the other scripts; does nothing by itself.

# at_least VERSION OLDEST is true if VERSION, as 2.6.12-1, is OLDEST, as 2.6,
# or newer. Only major and minor count.
at_least() {
	[[ $1 =~ ^([0-9]+)\.([0-9]+) ]] || return 1
	local major=${BASH_REMATCH[1]} minor=${BASH_REMATCH[2]}
	((major > ${2%%.*} || (major == ${2%%.*} && minor >= ${2#*.})))
}
