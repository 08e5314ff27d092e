package config

import (
	"regexp"
	"strings"
)

// didYouMean returns a hint at the candidate nearest to what was written, or ""
// if none is near.
func didYouMean(written string, candidates []string) string {
	best, nearest := max(2, len(written)/4)+1, ""
	for _, c := range candidates {
		if d := distance(written, c); d < best {
			best, nearest = d, c
		}
	}
	if nearest == "" {
		return ""
	}
	return "; did you mean " + nearest + "?"
}

// distance is Levenshtein's: how many bytes must be put in, taken out or
// replaced to turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// renamed are sections and settings of the file that had another name, with
// what takes their place.
var renamed = map[string]string{
	"status":                    "api",
	"balancer":                  "registration",
	"settle":                    "reload.debounce and reload.max_delay",
	"settle.min":                "reload.debounce",
	"settle.max":                "reload.max_delay",
	"services[].max_removal":    "guard.max_loss_ratio",
	"services[].shutdown_after": "session_kill_after",
	"services[].warning":        "warning_takes_traffic: true or false",
}

var inBrackets = regexp.MustCompile(`\[[^\]]*\]`)

// renamedTo returns a hint at what a key of the file is called now, or "".
func renamedTo(key string) string {
	if now := renamed[inBrackets.ReplaceAllString(key, "[]")]; now != "" {
		return "; it was renamed: " + now
	}
	return ""
}

// renamedAlike does it for a variable or a flag, whose name is made of a key's. A
// section's begins the names of its settings.
func renamedAlike(written string, nameOf func(key string) string) string {
	for _, key := range []string{"settle.min", "settle.max", "status", "balancer"} {
		was, now := nameOf(key), nameOf(renamed[key])
		if rest, is := strings.CutPrefix(written, was); is && strings.Contains(key, ".") == (rest == "") {
			return "; it was renamed: " + now + rest
		}
	}
	return ""
}

// FlagHint says where a setting without a flag is set, what an unknown flag is called
// now, or which of the known ones was probably meant; else it is "".
func FlagHint(written string, known []string) string {
	for _, s := range settings() {
		if flagName(s.key) == written {
			return "; set " + s.key + " in the settings file, or " + s.env()
		}
	}
	if hint := renamedAlike("--"+written, func(key string) string { return "--" + flagName(key) }); hint != "" {
		return hint
	}
	for i, k := range known {
		known[i] = "--" + k
	}
	return didYouMean("--"+written, known)
}
