package consul

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
)

// decodeList reads a whole answer of at most the given number of bytes. One that ends early,
// goes on after its end, or is anything but a list is an error: null is not an
// empty list.
func decodeList[T any](r io.Reader, most int64) (list []T, err error) {
	err = eachElement(r, most, func(raw []byte) error {
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

// decoder reads the answers about one service, one after another. A blocking
// query gives the whole service for a change of one instance: what stands in the
// answer byte for byte as in the last one is not decoded again.
type decoder struct {
	seeds [2]maphash.Seed // random, so that a collision cannot be registered
	known map[[2]uint64]*entry
}

func newDecoder() *decoder {
	return &decoder{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
}

// decode gives the entries of an answer. Their maps and slices are shared with the
// answers before, and must not be changed.
func (d *decoder) decode(r io.Reader, most int64) ([]entry, error) {
	entries := make([]entry, 0, len(d.known))
	now := make(map[[2]uint64]*entry, len(d.known))
	err := eachElement(r, most, func(raw []byte) error {
		key := [2]uint64{maphash.Bytes(d.seeds[0], raw), maphash.Bytes(d.seeds[1], raw)}
		one, known := d.known[key]
		if !known {
			decoded, err := decodeOne[entry](raw)
			if err != nil {
				return err
			}
			one = &decoded
		}
		now[key] = one
		entries = append(entries, *one)
		return nil
	})
	if err != nil {
		return nil, err
	}
	d.known = now
	return entries, nil
}

// eachElement gives the elements of a JSON list one after another, while it is
// read. take may not keep what it is given.
func eachElement(r io.Reader, most int64, take func(raw []byte) error) error {
	limited := &io.LimitedReader{R: r, N: most}
	s := scanner{r: limited, buf: make([]byte, 0, 64<<10)}
	switch open, err := s.skipSpace(); {
	case err != nil:
		return fmt.Errorf("invalid JSON: %w", err)
	case open == '<', open != '[' && bytes.IndexByte([]byte(`{"ntf-0123456789`), open) < 0:
		return fmt.Errorf("invalid JSON: starts with %q", open)
	case open != '[':
		return fmt.Errorf("not a JSON list: starts with %q", open)
	}
	s.at++
	for n := 0; ; n++ {
		next, err := s.skipSpace()
		if err == nil && next == ']' && n == 0 {
			s.at++
			return s.ends()
		}
		if err == nil && n > 0 {
			s.at++
			if next == ']' {
				return s.ends()
			}
			if next != ',' {
				return fmt.Errorf("the answer's list: %q after element %d", next, n-1)
			}
			_, err = s.skipSpace()
		}
		if err != nil {
			return tooLong(limited, most, fmt.Errorf("the answer's list does not end: %w", err))
		}
		raw, err := s.element()
		if err == nil {
			err = take(raw)
		}
		if err != nil {
			return tooLong(limited, most, fmt.Errorf("the answer's element %d: %w", n, err))
		}
	}
}

// scanner finds where the elements of a JSON list begin and end. Whether they
// are valid is for who decodes them.
type scanner struct {
	r   io.Reader
	buf []byte
	at  int // what comes next
}

// skipSpace gives the next byte that is no white space, and leaves it there.
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

// element gives the bytes of the element that begins here.
func (s *scanner) element() ([]byte, error) {
	depth, inString := 0, false
	for i := s.at; ; {
		for ; i < len(s.buf); i++ {
			if inString {
				quote := bytes.IndexByte(s.buf[i:], '"')
				if quote < 0 {
					i = len(s.buf)
					break
				}
				i += quote
				inString = isEscaped(s.buf[s.at:i])
				if !inString && depth == 0 {
					return s.took(i + 1), nil
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
					return s.took(i), nil
				}
				if depth == 0 {
					return s.took(i + 1), nil
				}
			case ',', ' ', '\n', '\r', '\t':
				if depth == 0 {
					return s.took(i), nil
				}
			}
		}
		done := i - s.at
		if err := s.fill(); err != nil {
			return nil, err
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

func (s *scanner) took(end int) []byte {
	raw := s.buf[s.at:end]
	s.at = end
	return raw
}

// fill reads more. What comes next moves to the front of the buffer, which grows
// to the longest element.
func (s *scanner) fill() error {
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
		return io.ErrNoProgress
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

// ends checks that nothing follows the list.
func (s *scanner) ends() error {
	switch _, err := s.skipSpace(); {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil
	case err != nil:
		return err
	}
	return errors.New("the answer goes on after its list")
}

func tooLong(r *io.LimitedReader, most int64, err error) error {
	if r.N > 0 {
		return err
	}
	return fmt.Errorf("answer larger than %d bytes", most)
}
