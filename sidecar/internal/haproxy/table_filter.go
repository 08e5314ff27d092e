package haproxy

import (
	"bytes"
	"slices"
	"strings"
)

// tableFilter takes a reply as it arrives and keeps, of the tables in it, the columns
// that are used: an eighth of `show stat`. All else stays as it is.
type tableFilter struct {
	out  strings.Builder
	line []byte // begun, and not ended yet

	separator byte   // of the table; 0: outside of one
	kept      []bool // by column
	isQuoted  bool   // the line before has not ended a quoted field
	column    int    // of the row that is taken
	hasField  bool   // of it, one was kept
}

// filtered is what each table begins with, what separates its columns, and which are kept.
var filtered = []struct {
	begin     string
	separator byte
	columns   []string
}{
	{"# pxname,", ',', serverColumns},
	{"# be_id ", ' ', stateColumns},
}

// take takes the next piece.
func (f *tableFilter) take(piece []byte) {
	for rest := piece; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			f.line = append(f.line, rest...)
			break
		}
		line := rest[:end+1]
		if rest = rest[end+1:]; len(f.line) > 0 {
			f.line = append(f.line, line...)
			line = f.line
		}
		f.takeLine(line)
		f.line = f.line[:0]
	}
}

// end returns what is kept, with a line that was cut off as it is.
func (f *tableFilter) end() string {
	f.out.Write(f.line)
	f.line = nil
	return f.out.String()
}

// takeLine takes one line, with its end.
func (f *tableFilter) takeLine(line []byte) {
	switch {
	case f.separator == 0:
		f.begin(line)
	case len(line) == 1 && !f.isQuoted:
		f.separator = 0
	}
	if f.separator == 0 {
		f.out.Write(line)
		return
	}
	if bytes.HasPrefix(line, []byte("# ")) && !f.isQuoted {
		f.out.WriteString("# ")
		line = line[2:]
	}
	f.row(line)
}

// begin notes which columns are kept, if a table begins.
func (f *tableFilter) begin(header []byte) {
	for _, t := range filtered {
		if !bytes.HasPrefix(header, []byte(t.begin)) {
			continue
		}
		f.separator, f.kept = t.separator, f.kept[:0]
		for name := range bytes.SplitSeq(bytes.TrimSpace(header[2:]), []byte{t.separator}) {
			f.kept = append(f.kept, slices.Contains(t.columns, string(name)))
		}
	}
}

// row writes the columns that are kept. A quoted field may have separators in it, and ends
// of lines.
func (f *tableFilter) row(line []byte) {
	isContinued, hasQuotes := f.isQuoted, f.isQuoted || bytes.IndexByte(line, '"') >= 0
	if !isContinued {
		f.column, f.hasField = 0, false
	}
	start, last := 0, len(line)-1
	field := func(end int) {
		if f.column < len(f.kept) && f.kept[f.column] {
			if f.hasField && !isContinued {
				f.out.WriteByte(f.separator)
			}
			f.out.Write(line[start:end])
			f.hasField = true
		}
		isContinued = false
	}
	for at := 0; at < last; at++ {
		if !hasQuotes {
			next := bytes.IndexByte(line[at:last], f.separator)
			if next < 0 {
				break
			}
			at += next
		} else if line[at] == '"' {
			f.isQuoted = !f.isQuoted
		}
		if line[at] == f.separator && !f.isQuoted {
			field(at)
			start, f.column = at+1, f.column+1
		}
	}
	if f.isQuoted {
		field(len(line)) // its line ends in the field
		return
	}
	field(last)
	f.out.WriteByte('\n')
}
