package certificate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Trial asks HAProxy whether it can start with the certificates of a crt-list, or, if
// that is "", without any. It may write in dir. words are those in which it refuses; "" if
// it does not. The error is that it cannot be asked.
type Trial func(ctx context.Context, dir, list string) (words string, err error)

// refused is a certificate that HAProxy could not start with.
type refused struct {
	Certificate
	words string
	at    time.Time
}

// untriable is why nothing can be tried.
type untriable struct {
	err error
	at  time.Time
}

// save makes the copies that HAProxy will load when it starts or reloads. One that it
// refuses would keep it from that: so each that is new is tried before. Of one that is
// refused, the copy that is there is kept.
func (k *Keeper) save(ctx context.Context, saved, want []Certificate) (kept []Certificate, problems []Problem, err error) {
	if k.o.Trial == nil {
		return want, nil, k.store.Save(want)
	}
	now := k.o.Now()
	k.refused = slices.DeleteFunc(k.refused, func(r refused) bool { return now.Sub(r.at) >= askAgain })
	var untried []Certificate
	for _, c := range want {
		if !slices.ContainsFunc(saved, c.Equal) && !slices.ContainsFunc(k.refused, func(r refused) bool { return r.Equal(c) }) {
			untried = append(untried, c)
		}
	}
	err = k.untriable.err
	if err == nil || now.Sub(k.untriable.at) >= askAgain {
		k.untriable = untriable{}
		err = k.try(ctx, untried)
	}
	if err != nil {
		return saved, nil, fmt.Errorf("certificates: %w", err)
	}
	for _, c := range want {
		i := slices.IndexFunc(k.refused, func(r refused) bool { return r.Equal(c) })
		if i < 0 {
			kept = append(kept, c)
			continue
		}
		problems = append(problems, Problem{Source: c.Source, Err: errors.New("HAProxy refuses it: " + k.refused[i].words)})
		if i := slices.IndexFunc(saved, func(s Certificate) bool { return s.Name == c.Name }); i >= 0 {
			kept = append(kept, saved[i])
		}
	}
	if len(kept) == 0 {
		err = errors.New("certificates: HAProxy takes none")
		for _, p := range problems {
			err = errors.Join(err, p)
		}
		return saved, problems, err
	}
	return kept, problems, k.store.Save(kept)
}

// try tries certificates together, and notes those that are refused. The error is that
// HAProxy cannot be asked, or refuses also what has no certificate.
func (k *Keeper) try(ctx context.Context, all []Certificate) error {
	if len(all) == 0 {
		return nil
	}
	words, err := k.store.try(ctx, k.o.Trial, all)
	if err != nil || words == "" {
		return err
	}
	without, err := k.store.try(ctx, k.o.Trial, nil)
	switch {
	case err != nil:
		return err
	case without != "":
		k.untriable = untriable{errors.New("HAProxy refuses a file without certificates, too: " + without), k.o.Now()}
		return k.untriable.err
	}
	return k.find(ctx, all, words)
}

// find notes those that are refused of some that are refused together. It tries halves, so
// that one of thousands is found by some runs of HAProxy.
func (k *Keeper) find(ctx context.Context, all []Certificate, words string) error {
	if len(all) == 1 {
		k.refused = append(k.refused, refused{all[0], words, k.o.Now()})
		return nil
	}
	for _, half := range [][]Certificate{all[:len(all)/2], all[len(all)/2:]} {
		words, err := k.store.try(ctx, k.o.Trial, half)
		if err == nil && words != "" {
			err = k.find(ctx, half, words)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// trialName is the directory of copies that are tried, beside those that HAProxy loads.
const trialName = "trial"

// try tries copies that are in no list of HAProxy's, or none, and removes them.
func (s Store) try(ctx context.Context, ask Trial, all []Certificate) (words string, err error) {
	t := NewStore(filepath.Join(s.dir, trialName))
	if err := os.RemoveAll(t.dir); err != nil { // of a trial that was killed
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(t.dir)) }()
	if err := t.Save(all); err != nil {
		return "", err
	}
	list := t.list
	if len(all) == 0 {
		list = ""
	}
	words, err = ask(ctx, t.dir, list)
	return strings.ReplaceAll(words, t.dir+"/", ""), err
}
