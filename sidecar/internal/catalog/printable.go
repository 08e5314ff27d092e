package catalog

import (
	"strconv"
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
