package consul

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// FollowNames asks which services there are, again and again until ctx ends, and gives
// the names of those that keep wants, sorted, when they change. keep gets each name with
// the tags that instances of the service have, as registered. A query that fails changes
// nothing.
func (s *Source) FollowNames(ctx context.Context, keep func(name string, tags []string) bool, found func(names []string)) {
	var from cursor
	var paced pace
	var known []string
	isKnown := false
	for failures := 0; sleep(ctx, paced.delay(time.Now())); {
		next, names, usable, err := s.namesOnce(ctx, from, keep)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			if failures == 0 {
				s.log.Warn("Consul query for services failed, keeping last known services", "error", err)
			}
			failures++
			if !sleep(ctx, backoff(failures)) {
				return
			}
			from = cursor{}
			continue
		}
		if failures > 0 {
			s.log.Info("Consul query for services succeeded again")
		}
		from, failures = next, 0
		cost := float64(costNothing)
		if usable && (!isKnown || !slices.Equal(names, known)) {
			isKnown, known, cost = true, names, costNews
			found(names)
		}
		paced.spend(time.Now(), cost)
	}
}

// NamesOnce asks which services there are, one time, as FollowNames does.
func (s *Source) NamesOnce(ctx context.Context, keep func(name string, tags []string) bool) ([]string, error) {
	_, names, usable, err := s.namesOnce(ctx, cursor{consistent: true}, keep)
	if err == nil && !usable {
		err = errNoLeader
	}
	return names, err
}

func (s *Source) namesOnce(ctx context.Context, from cursor, keep func(string, []string) bool) (next cursor, names []string, usable bool, err error) {
	const path = "/v1/catalog/services"
	m, err := s.client.get(ctx, &query{path: path, escaped: path}, from, func(body io.Reader) (err error) {
		names, err = decodeNames(body, maxBody, keep)
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

// decodeNames reads an answer of at most the given number of bytes: an object with the
// tags of each service.
func decodeNames(r io.Reader, most int64, keep func(string, []string) bool) (names []string, err error) {
	limited := &io.LimitedReader{R: r, N: most}
	d := json.NewDecoder(limited)
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, tooLong(limited, most, errors.Join(errors.New("the answer is no JSON object"), err))
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, tooLong(limited, most, fmt.Errorf("the answer's object: %w", err))
		}
		var tags []string
		if err := d.Decode(&tags); err != nil {
			return nil, tooLong(limited, most, fmt.Errorf("the answer's tags: %w", err))
		}
		if name, is := key.(string); is && keep(name, tags) {
			names = append(names, name)
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, tooLong(limited, most, fmt.Errorf("the answer's object does not end: %w", err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the answer goes on after its object")
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
