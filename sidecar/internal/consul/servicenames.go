package consul

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"slices"
	"time"
)

// FollowNames asks which services there are, again and again until ctx ends, and gives
// the names of those that keep wants, sorted, when they change. keep gets each name with
// the tags that instances of the service have, as registered. A query that fails changes
// nothing.
func (s *Source) FollowNames(ctx context.Context, keep func(name string, tags []string) bool, found func(names []string)) {
	var known []string
	decoder := newNameDecoder(keep)
	isKnown, isFailing := false, false
	follow(ctx, func(from cursor) (cursor, float64, error) {
		next, names, usable, err := s.namesOnce(ctx, from, decoder)
		if err != nil || ctx.Err() != nil {
			return next, 0, err
		}
		if isFailing {
			s.log.Info("Consul query for services succeeded again")
		}
		isFailing = false
		if !usable || isKnown && slices.Equal(names, known) {
			return next, costNothing, nil
		}
		isKnown, known = true, names
		found(names)
		return next, costNews, nil
	}, func(err error) {
		if !isFailing {
			s.log.Warn("Consul query for services failed, keeping last known services", "error", err)
		}
		isFailing = true
	})
}

// NamesOnce asks which services there are, one time, as FollowNames does.
func (s *Source) NamesOnce(ctx context.Context, keep func(name string, tags []string) bool) ([]string, error) {
	_, names, usable, err := s.namesOnce(ctx, cursor{consistent: true}, newNameDecoder(keep))
	if err == nil && !usable {
		err = errNoLeader
	}
	return names, err
}

func (s *Source) namesOnce(ctx context.Context, from cursor, d *nameDecoder) (next cursor, names []string, usable bool, err error) {
	const path = "/v1/catalog/services"
	m, err := s.client.get(ctx, &query{path: path, escaped: path}, from, func(body io.Reader) (err error) {
		names, err = d.decode(body, maxBody)
		return err
	})
	switch {
	case errors.Is(err, errYounger):
		return cursor{}, nil, false, nil
	case err != nil:
		return cursor{}, nil, false, fmt.Errorf("consul: services: %w", err)
	}
	m.filtered = false // a token may read some services only
	if next, usable, err = from.next(m, s.options.MaxStale); err != nil {
		return cursor{}, nil, false, fmt.Errorf("consul: services: ask %s: %w", s.client.endpoint, err)
	}
	next.asOf = time.Now()
	return next, names, usable, nil
}

// nameDecoder reads the answers about which services there are, one after another. An
// answer has all services for a change of one, sorted by name, with the tags of each in any
// order: what is as in the last answer is not decoded again.
type nameDecoder struct {
	keep  func(name string, tags []string) bool
	seeds [2]maphash.Seed // random, so that a collision cannot be registered
	last  []knownName     // the last answer, in its order
}

// knownName is a service in an answer that was read.
type knownName struct {
	quoted string // the name, as in the answer
	name   string
	tags   [2]uint64 // the sum of their digests
	isKept bool
}

func newNameDecoder(keep func(string, []string) bool) *nameDecoder {
	return &nameDecoder{keep: keep, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
}

// decode reads an answer of at most the given number of bytes: an object with the tags of
// each service. It gives the names that are kept, sorted.
func (d *nameDecoder) decode(r io.Reader, most int64) (names []string, err error) {
	now, due := make([]knownName, 0, len(d.last)+1), d.last
	err = eachMember(r, most, func(s *scanner) error {
		raw, size, err := s.member()
		if err != nil {
			return err
		}
		is := knownName{}
		if len(due) > 0 && due[0].quoted == string(raw[:size]) {
			is.quoted, is.name = due[0].quoted, due[0].name
		} else if is.name, err = decodeOne[string](raw[:size]); err != nil {
			return err
		} else {
			is.quoted = string(raw[:size])
		}
		for len(due) > 0 && due[0].name < is.name {
			due = due[1:] // it is not there any more
		}
		_, value, _ := bytes.Cut(raw[size:], []byte{':'})
		sum, isPlain := sumOf(d.seeds, value)
		isDue := len(due) > 0 && due[0].name == is.name
		if is.tags = sum; isDue && isPlain && due[0].tags == sum {
			is.isKept = due[0].isKept
		} else {
			tags, err := decodeOne[[]string](value)
			if err != nil {
				return fmt.Errorf("its tags: %w", err)
			}
			is.isKept = d.keep(is.name, tags)
		}
		if isDue {
			due = due[1:]
		}
		now = append(now, is)
		return nil
	})
	if err != nil {
		return nil, err
	}
	d.last = now
	for i := range now {
		if now[i].isKept {
			names = append(names, now[i].name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// sumOf returns the sum of the digests of the strings in a JSON list, whatever their order.
// isPlain is false for a list with anything besides: its sum says nothing.
func sumOf(seeds [2]maphash.Seed, list []byte) (sum [2]uint64, isPlain bool) {
	for next := byte('['); ; next = ',' {
		if list = trimSpace(list); len(list) == 0 || list[0] != next {
			return sum, next == ',' && string(list) == "]"
		}
		list = trimSpace(list[1:])
		if len(list) == 0 || list[0] != '"' {
			return sum, next == '[' && string(list) == "]"
		}
		end := 1
		for {
			quote := bytes.IndexByte(list[end:], '"')
			if quote < 0 {
				return sum, false
			}
			end += quote + 1
			if !isEscaped(list[1 : end-1]) {
				break
			}
		}
		one := digest(seeds, list[:end])
		sum[0], sum[1], list = sum[0]+one[0], sum[1]+one[1], list[end:]
	}
}

func trimSpace(json []byte) []byte {
	for len(json) > 0 && (json[0] == ' ' || json[0] == '\n' || json[0] == '\r' || json[0] == '\t') {
		json = json[1:]
	}
	return json
}
