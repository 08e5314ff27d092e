package catalog

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxPrintable is how much of a registered text is shown to people, in bytes.
const maxPrintable = 100

// Printable returns a text that anyone can have registered, such as an ID, for a
// line of a log or a terminal: as it is where it can stand there, else quoted
// and cut. No registration begins a line or moves a cursor.
func Printable(text string) string {
	if len(text) > maxPrintable {
		return strconv.Quote(text[:maxPrintable]) + "…"
	}
	if !utf8.ValidString(text) {
		return strconv.Quote(text)
	}
	for _, r := range text {
		if !strconv.IsPrint(r) {
			return strconv.Quote(text)
		}
	}
	return text
}

// Excerpt returns the beginning of a text that anyone can have written, such as the output
// of a check, as one line of at most the given number of bytes: white space becomes a space,
// and what cannot be printed "\uFFFD". One that is cut ends with "…".
func Excerpt(text string, most int) string {
	isCut := len(text) > 4*most // of which the white space may be the most
	if isCut {
		text = text[:4*most]
	}
	line := strings.Join(strings.Fields(text), " ")
	line = strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, line)
	const end = "…"
	if len(line) <= most && !isCut {
		return line
	}
	line = line[:min(len(line), most-len(end))]
	for line != "" {
		if r, size := utf8.DecodeLastRuneInString(line); r != utf8.RuneError || size > 1 {
			break
		}
		line = line[:len(line)-1] // a part of one
	}
	return strings.TrimSuffix(line, " ") + end
}
