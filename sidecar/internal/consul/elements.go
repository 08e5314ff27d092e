package consul

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// decodeList reads a whole answer of at most the given number of bytes. One that ends early,
// goes on after its end, or is anything but a list is an error: null is not an
// empty list.
func decodeList[T any](r io.Reader, most int64) (list []T, err error) {
	err = eachElement(r, most, func(s *scanner) error {
		raw, err := s.element()
		if err != nil {
			return err
		}
		one, err := decodeOne[T](raw)
		list = append(list, one)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func decodeOne[T any](raw []byte) (one T, err error) {
	err = json.Unmarshal(raw, &one)
	return one, err
}

// eachElement goes through the elements of a JSON list one after another, while it
// is read. take takes one off the scanner.
func eachElement(r io.Reader, most int64, take func(*scanner) error) error {
	return eachOf(r, most, jsonList, take)
}

// eachMember is eachElement for the members of a JSON object.
func eachMember(r io.Reader, most int64, take func(*scanner) error) error {
	return eachOf(r, most, jsonObject, take)
}

// collection is a JSON list or object.
type collection struct {
	name, element string
	open, end     byte
}

var (
	jsonList   = collection{"list", "element", '[', ']'}
	jsonObject = collection{"object", "member", '{', '}'}
)

func eachOf(r io.Reader, most int64, of collection, take func(*scanner) error) error {
	limited := &io.LimitedReader{R: r, N: most}
	buf := scanBuffers.Get().(*[scanBuffer]byte)
	defer scanBuffers.Put(buf)
	s := &scanner{r: limited, buf: buf[:0]}
	switch open, err := s.skipSpace(); {
	case err != nil:
		return fmt.Errorf("invalid JSON: %w", err)
	case open == '<', open != of.open && bytes.IndexByte([]byte(`[{"ntf-0123456789`), open) < 0:
		return fmt.Errorf("invalid JSON: starts with %q", open)
	case open != of.open:
		return fmt.Errorf("not a JSON %s: starts with %q", of.name, open)
	}
	s.at++
	for n := 0; ; n++ {
		next, err := s.skipSpace()
		if err == nil && next == of.end && n == 0 {
			s.at++
			return s.ends(of.name)
		}
		if err == nil && n > 0 {
			s.at++
			if next == of.end {
				return s.ends(of.name)
			}
			if next != ',' {
				return fmt.Errorf("the answer's %s: %q after %s %d", of.name, next, of.element, n-1)
			}
			_, err = s.skipSpace()
		}
		if err != nil {
			return tooLong(limited, most, fmt.Errorf("the answer's %s does not end: %w", of.name, err))
		}
		if err := take(s); err != nil {
			return tooLong(limited, most, fmt.Errorf("the answer's %s %d: %w", of.element, n, err))
		}
	}
}

// scanBuffers are what answers are read into. One with a longer element than that
// grows a buffer of its own, which is not kept.
var scanBuffers = sync.Pool{New: func() any { return new([scanBuffer]byte) }}

const scanBuffer = 64 << 10 // bytes

// scanner finds where the elements of a JSON list, or the members of an object, begin and
// end. Whether they are valid is for who decodes them.
type scanner struct {
	r   io.Reader
	buf []byte
	at  int   // what comes next
	err error // of the last read: there is no more
}

// skipSpace returns the next byte that is no white space, and leaves it there.
func (s *scanner) skipSpace() (byte, error) {
	for {
		for ; s.at < len(s.buf); s.at++ {
			if c := s.buf[s.at]; c != ' ' && c != '\n' && c != '\r' && c != '\t' {
				return c, nil
			}
		}
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
}

// peek returns the next bytes, as many, and leaves them there; nil if there are less.
func (s *scanner) peek(n int) []byte {
	for len(s.buf)-s.at < n {
		if s.fill() != nil {
			return nil
		}
	}
	return s.buf[s.at : s.at+n]
}

// element takes the element that begins here. Its bytes are good until anything
// else is taken.
func (s *scanner) element() ([]byte, error) {
	size, err := s.sizeOf(0)
	if err != nil {
		return nil, err
	}
	return s.take(size), nil
}

// member takes the member of an object that begins here, of which the name has the given
// size. Its bytes are good until anything else is taken.
func (s *scanner) member() (raw []byte, name int, err error) {
	if name, err = s.sizeOf(0); err != nil {
		return nil, 0, err
	}
	value := name
	for colon := false; ; value++ {
		c, err := s.byteAt(value)
		switch {
		case err != nil:
			return nil, 0, err
		case c == ' ' || c == '\n' || c == '\r' || c == '\t':
		case c == ':' && !colon:
			colon = true
		case !colon:
			return nil, 0, fmt.Errorf("%q after its name", c)
		default:
			size, err := s.sizeOf(value)
			if err != nil {
				return nil, 0, err
			}
			return s.take(value + size), name, nil
		}
	}
}

// byteAt returns the byte that many after the next one.
func (s *scanner) byteAt(n int) (byte, error) {
	for len(s.buf)-s.at <= n {
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	return s.buf[s.at+n], nil
}

// sizeOf returns how many bytes the element has that begins that many after the next one.
func (s *scanner) sizeOf(from int) (int, error) {
	depth, inString := 0, false
	for i := s.at + from; ; {
		for ; i < len(s.buf); i++ {
			if inString {
				quote := bytes.IndexByte(s.buf[i:], '"')
				if quote < 0 {
					i = len(s.buf)
					break
				}
				i += quote
				inString = isEscaped(s.buf[s.at+from : i])
				if !inString && depth == 0 {
					return i + 1 - s.at - from, nil
				}
				continue
			}
			switch s.buf[i] {
			case '"':
				inString = true
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth < 0 { // of the list: a number or a word ends here
					return i - s.at - from, nil
				}
				if depth == 0 {
					return i + 1 - s.at - from, nil
				}
			case ',', ' ', '\n', '\r', '\t':
				if depth == 0 {
					return i - s.at - from, nil
				}
			}
		}
		done := i - s.at
		if err := s.fill(); err != nil {
			return 0, err
		}
		i = s.at + done
	}
}

// isEscaped reports whether what follows an odd number of backslashes does.
func isEscaped(before []byte) bool {
	n := 0
	for n < len(before) && before[len(before)-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

func (s *scanner) take(size int) []byte {
	raw := s.buf[s.at : s.at+size]
	s.at += size
	return raw
}

// fill reads more. What comes next moves to the front of the buffer, which grows
// to the longest element.
func (s *scanner) fill() error {
	if s.err != nil {
		return s.err
	}
	rest := copy(s.buf[:cap(s.buf)], s.buf[s.at:])
	s.buf, s.at = s.buf[:rest], 0
	if rest == cap(s.buf) {
		s.buf = append(s.buf, 0)[:rest]
	}
	n, err := s.r.Read(s.buf[rest:cap(s.buf)])
	s.buf = s.buf[:rest+n]
	switch {
	case n > 0:
		return nil
	case err == nil:
		s.err = io.ErrNoProgress
	case errors.Is(err, io.EOF):
		s.err = io.ErrUnexpectedEOF
	default:
		s.err = err
	}
	return s.err
}

// ends checks that nothing follows the list or object.
func (s *scanner) ends(what string) error {
	switch _, err := s.skipSpace(); {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("the answer goes on after its %s", what)
}

func tooLong(r *io.LimitedReader, most int64, err error) error {
	if r.N > 0 {
		return err
	}
	return fmt.Errorf("answer larger than %d bytes", most)
}
