package certificate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Runtime sends a command to the running HAProxy, and gives its answer.
type Runtime func(ctx context.Context, command string) (string, error)

// ErrNotRunning is a Runtime's error where no HAProxy answers.
var ErrNotRunning = errors.New("HAProxy does not run")

// listed is the certificates that the running HAProxy has. loaded is false where it does
// not have the list: it will, once it has been started or reloaded.
func (s Store) listed(ctx context.Context, ask Runtime) (has []string, loaded bool, err error) {
	answer, err := ask(ctx, "show ssl crt-list "+s.list)
	if errors.Is(err, ErrNotRunning) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	has, loaded = s.entries(answer)
	return has, loaded, nil
}

// renewal is what has become of the certificates that are wanted.
type renewal struct {
	kept    []Certificate // those that HAProxy has, or the saved ones in their place
	changed []string
	refused []Problem // by HAProxy
}

// maxPayload is the size up to which HAProxy takes a certificate at runtime, with a
// buffer of the usual size. A larger one is loaded by the next reload.
const maxPayload = 15 << 10

// renew makes the running HAProxy have the certificates that are wanted. One that is as it
// was saved gets no command but a question, unless it is new to HAProxy: of the chain,
// HAProxy's answer tells too little. One that fails keeps none of the others from it,
// unless no HAProxy answers: then the error is that alone.
func (s Store) renew(ctx context.Context, ask Runtime, has []string, saved, want []Certificate, isNew func(Certificate) bool) (r renewal, err error) {
	var errs []error
	for _, c := range want {
		isSaved := slices.ContainsFunc(saved, c.Equal) && !isNew(c)
		changed, err := s.renewOne(ctx, ask, c, slices.Contains(has, s.path(c.Name)), isSaved)
		if isOver(ctx, err) {
			return renewal{kept: saved, changed: r.changed}, err
		}
		if changed {
			r.changed = append(r.changed, c.Name)
		}
		refused, isRefused := errors.AsType[*refusalError](err)
		switch {
		case err == nil:
		case len(c.pem) > maxPayload:
			errs = append(errs, err)
		default:
			if isRefused {
				r.refused = append(r.refused, Problem{Source: c.Source, Err: refused})
			} else {
				errs = append(errs, err)
			}
			i := slices.IndexFunc(saved, func(o Certificate) bool { return o.Name == c.Name })
			if i < 0 {
				continue
			}
			c = saved[i]
		}
		r.kept = append(r.kept, c)
	}
	return r, errors.Join(errs...)
}

// isOver reports whether the other certificates need not be tried.
func isOver(ctx context.Context, err error) bool {
	return err != nil && (ctx.Err() != nil || errors.Is(err, ErrNotRunning))
}

func (s Store) renewOne(ctx context.Context, ask Runtime, c Certificate, isListed, isSaved bool) (changed bool, err error) {
	if isListed && isSaved {
		shown, err := ask(ctx, "show ssl cert "+s.path(c.Name))
		if err != nil || strings.Contains(shown, c.fingerprint) {
			return false, err
		}
	}
	err = s.put(ctx, ask, c, isListed)
	return err == nil, err
}

// remove takes from the running HAProxy what is not wanted. needsReload is set where the
// default certificate is to go, which HAProxy cannot remove.
func (s Store) remove(ctx context.Context, ask Runtime, has []string, want []Certificate) (removed []string, needsReload bool, err error) {
	var errs []error
	for _, path := range has {
		if slices.ContainsFunc(want, func(c Certificate) bool { return s.path(c.Name) == path }) {
			continue
		}
		answer, err := ask(ctx, "del ssl crt-list "+s.list+" "+path)
		switch {
		case err == nil && strings.Contains(answer, "default certificate"):
			needsReload = true
			continue
		case err == nil && !strings.Contains(answer, "deleted in crtlist"):
			err = refusal("del ssl crt-list", path, answer)
		case err == nil:
			removed = append(removed, strings.TrimSuffix(strings.TrimPrefix(path, s.dir+"/"), ".pem"))
			if answer, err = ask(ctx, "del ssl cert "+path); err == nil && !strings.Contains(answer, "deleted") {
				err = refusal("del ssl cert", path, answer)
			}
		}
		if isOver(ctx, err) {
			return removed, needsReload, err
		}
		errs = append(errs, err)
	}
	return removed, needsReload, errors.Join(errs...)
}

// entries is the certificates of the list as HAProxy has them.
func (s Store) entries(answer string) (has []string, loaded bool) {
	for line := range strings.Lines(answer) {
		line = strings.TrimSpace(line)
		switch {
		case line == "# "+s.list:
			loaded = true
		case strings.HasPrefix(line, s.dir+"/"):
			path, _, _ := strings.Cut(line, " ")
			path, _, _ = strings.Cut(path, ":")
			has = append(has, path)
		}
	}
	return has, loaded
}

// put renews a certificate, or adds it to the list.
func (s Store) put(ctx context.Context, ask Runtime, c Certificate, isListed bool) error {
	path := s.path(c.Name)
	step := func(command string, wants ...string) error {
		answer, err := ask(ctx, command)
		if err == nil && !slices.ContainsFunc(wants, func(w string) bool { return strings.Contains(answer, w) }) {
			command, _, _ = strings.Cut(command, " <<")
			err = refusal(command, "", answer)
		}
		return err
	}
	if !isListed {
		// It is there where an earlier try got so far: then it is set as it is.
		if answer, err := ask(ctx, "new ssl cert "+path); err != nil {
			return err
		} else if !strings.Contains(answer, "New empty certificate store") && !strings.Contains(answer, "already exists") {
			return refusal("new ssl cert", path, answer)
		}
	}
	set := "set ssl cert " + path + " <<\n" + string(c.pem)
	err := step(set, "Transaction created for", "Transaction updated for")
	if other := s.openTransaction(err); other != "" {
		s.abort(ctx, ask, other)
		err = step(set, "Transaction created for", "Transaction updated for")
	}
	if err == nil {
		err = step("commit ssl cert "+path, "Success!")
	}
	if err != nil {
		s.abort(ctx, ask, path) // or the next try finds a transaction under way
		return err
	}
	if isListed {
		return nil
	}
	return step("add ssl crt-list "+s.list+" "+path, "Success!")
}

// abortWait bounds how long HAProxy is waited for when the sidecar is about to stop.
const abortWait = 2 * time.Second

// abort ends a transaction, also where ctx has ended: HAProxy keeps it open, and takes no
// other.
func (s Store) abort(ctx context.Context, ask Runtime, path string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortWait)
	defer cancel()
	_, _ = ask(ctx, "abort ssl cert "+path) // most often there is none
}

// openTransaction is the path of one of ours that HAProxy still has under way, by its
// refusal of another.
func (s Store) openTransaction(err error) string {
	refused, is := errors.AsType[*refusalError](err)
	if !is {
		return ""
	}
	_, rest, found := strings.Cut(refused.text, "ongoing transaction is about '")
	path, _, _ := strings.Cut(rest, "'")
	name, isOurs := strings.CutSuffix(strings.TrimPrefix(path, s.dir+"/"), ".pem")
	if !found || !isOurs || !isName(name) || path != s.path(name) {
		return ""
	}
	return path
}

// refusalError is what HAProxy does not do.
type refusalError struct{ text string }

func (e *refusalError) Error() string { return e.text }

func refusal(command, path, answer string) error {
	return &refusalError{fmt.Sprintf("certificates: %s: HAProxy refuses: %s", strings.TrimSpace(command+" "+path), strings.Join(strings.Fields(answer), " "))}
}
