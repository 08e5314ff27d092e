package certificate

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Runtime sends a command to the running HAProxy, and gives its answer.
type Runtime func(ctx context.Context, command string) (string, error)

// Apply makes the running HAProxy have the certificates that are wanted, and reports
// what it has changed. What is there already gets no command but questions. loaded is
// false where HAProxy does not have the list: it will, once it has been reloaded.
// needsReload is set where the default certificate is to go, which HAProxy cannot
// remove.
func (s Store) Apply(ctx context.Context, ask Runtime, want []Certificate) (changed []string, loaded, needsReload bool, err error) {
	answer, err := ask(ctx, "show ssl crt-list "+s.list)
	if err != nil {
		return nil, false, false, err
	}
	has, loaded := s.entries(answer)
	if !loaded {
		return nil, false, false, nil
	}
	for _, c := range want {
		isListed := slices.Contains(has, s.path(c.Name))
		if isListed {
			shown, err := ask(ctx, "show ssl cert "+s.path(c.Name))
			if err != nil {
				return changed, true, false, err
			}
			if strings.Contains(shown, c.fingerprint) {
				continue
			}
		}
		if err := s.put(ctx, ask, c, isListed); err != nil {
			return changed, true, false, err
		}
		changed = append(changed, c.Name)
	}
	for _, path := range has {
		if slices.ContainsFunc(want, func(c Certificate) bool { return s.path(c.Name) == path }) {
			continue
		}
		answer, err := ask(ctx, "del ssl crt-list "+s.list+" "+path)
		switch {
		case err != nil:
			return changed, true, needsReload, err
		case strings.Contains(answer, "default certificate"):
			needsReload = true
			continue
		case !strings.Contains(answer, "deleted in crtlist"):
			return changed, true, needsReload, refusal("del ssl crt-list", path, answer)
		}
		changed = append(changed, strings.TrimSuffix(strings.TrimPrefix(path, s.dir+"/"), ".pem"))
		if answer, err = ask(ctx, "del ssl cert "+path); err == nil && !strings.Contains(answer, "deleted") {
			err = refusal("del ssl cert", path, answer)
		}
		if err != nil {
			return changed, true, needsReload, err
		}
	}
	return changed, true, needsReload, nil
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
	step := func(command, wants string) error {
		answer, err := ask(ctx, command)
		if err == nil && !strings.Contains(answer, wants) {
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
	if err := step("set ssl cert "+path+" <<\n"+string(c.pem), "Transaction"); err != nil {
		return err
	}
	if err := step("commit ssl cert "+path, "Success!"); err != nil {
		_, _ = ask(ctx, "abort ssl cert "+path) // or the next try finds a transaction under way
		return err
	}
	if isListed {
		return nil
	}
	return step("add ssl crt-list "+s.list+" "+path, "Success!")
}

func refusal(command, path, answer string) error {
	return fmt.Errorf("certificates: %s %s: HAProxy refuses: %s", command, path, strings.Join(strings.Fields(answer), " "))
}
