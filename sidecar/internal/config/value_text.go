package config

// text is a setting of one string.
type text struct {
	p     *string
	what  string // for the reference
	check func(string) error
}

func (t text) set(s string) error {
	if err := t.check(s); err != nil {
		return err
	}
	*t.p = s
	return nil
}
func (t text) plain() any       { return *t.p }
func (t text) target() any      { return t.p }
func (t text) describe() string { return t.what }
